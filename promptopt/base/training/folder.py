"""The folder of a training: one process holds it, it goes on with the same settings, its files are whole."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from promptopt.base.files import file_digest
from promptopt.base.training.errors import TrainingError

_P = ParamSpec("_P")
_T = TypeVar("_T")

logger = logging.getLogger(__name__)


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Make the folder and keep every other training out of it; the processes of one launch share it.

    Raises:
        TrainingError: another training writes there now.
    """
    from filelock import FileLock, Timeout

    out.mkdir(parents=True, exist_ok=True)
    if int(os.environ.get("RANK", "0")):  # torchrun, accelerate: the first process holds it for all
        yield
        return
    try:
        lock = FileLock(out / ".lock", timeout=0).acquire()
    except Timeout:
        raise TrainingError(
            "another training writes there", file=out, remedy="Wait for its end, or take another folder."
        ) from None
    with lock:
        try:
            yield
        finally:
            (out / ".lock").unlink(missing_ok=True)  # the folder may be published as it is


def alone(train: Callable[_P, _T]) -> Callable[_P, _T]:
    """A training function that runs under `held`; its argument ``out`` is given by name."""

    @wraps(train)
    def holding(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        with held(Path(str(kwargs["out"]))):
            return train(*args, **kwargs)

    return holding


def claim(stage: Path, identity: Mapping[str, Any]) -> None:
    """Note in ``stage/stage.json`` what a training follows from, or check that it goes on with the same.

    Raises:
        TrainingError: it was begun with something else; the message names the keys.
    """
    file = stage / "stage.json"
    if file.is_file():
        before = read_json(file)
        # only what was recorded: a later version may record more
        now = json.loads(json.dumps({key: identity.get(key) for key in before}))
        changed = sorted(_changes(before, now))
        if changed:
            raise TrainingError(
                f"{file}: begun with another recipe, data set or starting point ({', '.join(changed)}); "
                f"take another output folder, or remove {stage} to train anew"
            )
        return
    write_json(file, identity)


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write a file of the training whole or not at all; its folder is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}-{os.getpid()}")
    partial.write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")
    partial.replace(file)


def read_json(file: Path) -> dict[str, Any]:
    """What `write_json` wrote; TrainingError for what it did not."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TrainingError(f"is not JSON ({error})", file=file, remedy=f"Remove {file.parent}.") from error
    if not isinstance(content, dict):
        raise TrainingError("holds no mapping", file=file, remedy=f"Remove {file.parent}.")
    return content


def digests(folder: Path, pattern: str = "*") -> dict[str, str]:
    """Sha256 of the files in a folder that match a glob pattern, by their path in it; no hidden ones."""
    files = sorted(path for path in folder.glob(pattern) if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def damage(folder: Path, expected: Mapping[str, str]) -> str | None:
    """What is wrong with the first file that is not as its sha256 says; None if all are whole."""
    for name, digest in expected.items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if file_digest(file) != digest:
            return f"{name} has other content than was written"
    return None


def finished(report: Path, result: Path) -> bool:
    """Whether a training has left its report, and the ``files`` noted in it lie whole in ``result``.

    Damage is said in the log: the result is to be made again from the last checkpoint.
    """
    files = read_json(report).get("files") if report.is_file() else None
    if not files:
        return False
    fault = damage(result, files)
    if fault is not None:
        logger.warning("%s: damaged (%s); it is made again", result, fault)
    return fault is None


def _changes(before: Any, now: Any, name: str = "") -> set[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = before.keys() | now.keys()
        return {c for k in keys for c in _changes(before.get(k), now.get(k), f"{name}.{k}".lstrip("."))}
    return set() if before == now else {name}
