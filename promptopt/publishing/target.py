"""Where runs are published to: the address of a database, whose password nobody gets to see."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import sqlalchemy

from promptopt.base.errors import PromptoptError

INSTALL = "pip install 'promptopt[postgres]'"
_WRITE = "Write postgresql://HOST/DATABASE, or sqlite:///FILE."
_DRIVERS = {"postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg", "sqlite": "sqlite"}
_SECRETS = ("password", "sslpassword")  # of libpq, in the part behind the question mark


class PublishError(PromptoptError):
    """Runs cannot be published; the same call may succeed later."""


class TargetError(PublishError, ValueError):
    """An address that no attempt will make right."""


@dataclass(frozen=True, repr=False)
class Target:
    """A database of Optuna studies; as text, it is its address without the password.

    Example:
        >>> print(Target.parse("postgresql://anna:secret@db.example/team"))
        postgresql://anna:***@db.example/team
    """

    url: Any
    given: str

    @classmethod
    def parse(cls, text: str) -> Target:
        """The database of an address; `postgresql://` is psycopg 3, which has to be installed.

        Raises:
            TargetError: no address, another kind of database, or no driver for it.
        """
        try:
            url = sqlalchemy.engine.make_url(text)
        except (sqlalchemy.exc.ArgumentError, ValueError):
            # without the cause, which may say what was given, password and all
            raise TargetError(f"--to is no address of a database. {_WRITE}") from None
        given = url.drivername
        url = url.set(drivername=_DRIVERS.get(given, given))
        kind = url.get_backend_name()
        if kind not in ("postgresql", "sqlite"):
            raise TargetError(f"--to names a database of the kind {kind!r}. {_WRITE}")
        if kind == "sqlite" and url.database in (None, "", ":memory:"):
            raise TargetError(f"--to names no file, so nothing would last. {_WRITE}")
        driver = url.drivername.partition("+")[2]
        if driver and find_spec(driver) is None:
            raise TargetError(f"{driver} is not installed, which talks to PostgreSQL. Install it: {INSTALL}")
        return cls(url, given)

    @property
    def address(self) -> str:
        """The address for SQLAlchemy, password and all."""
        return str(self.url.render_as_string(hide_password=False))

    @cached_property
    def file(self) -> Path | None:
        """The file of an SQLite database."""
        return Path(self.url.database) if self.url.get_backend_name() == "sqlite" else None

    def __str__(self) -> str:
        hidden = {key: "***" for key in _SECRETS if key in self.url.query}
        url = self.url.set(drivername=self.given, query={**self.url.query, **hidden})
        return str(url.render_as_string(hide_password=True))

    @property
    def for_optuna(self) -> str:
        """The address with the driver's name, as Optuna and its dashboard need it, without the password."""
        return str(Target(self.url, self.url.drivername))

    def __repr__(self) -> str:
        return f"Target({str(self)!r})"

    def hide(self, text: str) -> str:
        """A text in which the password, if it stands there, is stars."""
        values = [self.url.password, *(self.url.query.get(key) for key in _SECRETS)]
        secrets = {str(value) for value in values if value}
        for secret in sorted(
            {form for one in secrets for form in (one, quote(one, safe=""), quote_plus(one))},
            key=len,
            reverse=True,
        ):
            text = text.replace(secret, "***")
        return text
