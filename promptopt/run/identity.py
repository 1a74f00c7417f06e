"""Who a run is of: a uuid that no other run has, and a person's name, in `RUN/run.json`."""

from __future__ import annotations

import getpass
import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path

from promptopt.base.files import write_json
from promptopt.base.locks import hold
from promptopt.base.reading import json_object
from promptopt.config.study_file import StudyError

IDENTITY = "run.json"
USER = "PROMPTOPT_USER"
"""Environment variable with the person's name, where it is not the account's."""

_NAME = re.compile(r"[^/\x00-\x1f\x7f]{1,100}")


@dataclass(frozen=True)
class RunIdentity:
    """A run among those of others: the uuid tells it apart, the user is for people to read."""

    uuid: str
    user: str


def run_identity(folder: Path, *, user: str | None = None) -> RunIdentity:
    """What a run folder says of itself; written when it is asked for first.

    Args:
        user: the person's name, which takes the place of the one that stands there; default: that one, else
            PROMPTOPT_USER, else the account's.

    Raises:
        StudyError: the file is damaged or cannot be written, or the name is none.
    """
    path = folder / IDENTITY
    named = None if user is None else _checked(user)
    if path.exists() and (found := _read(path)).user == (named or found.user):
        return found
    try:
        with hold(folder / ".identity.lock", wait=10):
            before = _read(path) if path.exists() else None  # another process may have written it
            own = RunIdentity(
                uuid=str(uuid.uuid4()) if before is None else before.uuid,
                user=named or (default_user() if before is None else before.user),
            )
            write_json(path, {"uuid": own.uuid, "user": own.user}, ensure_ascii=False)
    except OSError as error:
        raise StudyError(
            f"cannot be written ({error.strerror or error})",
            file=path,
            remedy="The uuid that tells this run from others has to stand in it: give yourself permission.",
        ) from error
    return own


def default_user() -> str:
    """The person's name by PROMPTOPT_USER, or that of the account. Raises StudyError where there is none."""
    if given := os.environ.get(USER):
        return _checked(given)
    try:
        return _checked(getpass.getuser())
    except (KeyError, OSError, ImportError) as error:  # as Python's versions have it
        raise StudyError(f"this account has no name. Give yours: --user NAME, or set {USER}.") from error


def _checked(user: str) -> str:
    if not _NAME.fullmatch(user) or user != user.strip():
        raise StudyError(
            "is no name for a person: 1 to 100 characters, no slash among them", key="user", value=user
        )
    return user


def _read(path: Path) -> RunIdentity:
    remedy = "Restore it, or remove it: then this run counts as a new one."
    content = json_object(path, error=StudyError, remedy=remedy)
    try:
        return RunIdentity(uuid=str(uuid.UUID(content["uuid"])), user=_checked(content["user"]))
    except (KeyError, ValueError, AttributeError, TypeError) as error:
        raise StudyError("holds no uuid and user", file=path, remedy=remedy) from error
