"""A team's database, open: Optuna's storage, made without a race, and a lock for each update."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Iterator
from typing import Any

import optuna
import sqlalchemy

from promptopt.base.files import writable_folder
from promptopt.base.locks import hold
from promptopt.publishing.target import PublishError, Target

_TABLES = "promptopt: tables"
NAMES = "promptopt: names of studies"
"""Key of the lock under which studies get their names."""

_TRIES = 5  # to make the tables: others, Optuna's dashboard among them, may be at it
_CONNECT = 10  # seconds
_TROUBLE = (
    sqlalchemy.exc.SQLAlchemyError,
    optuna.exceptions.OptunaError,
    RuntimeError,  # Optuna's, of tables of another version
    KeyError,  # Optuna's, of a study or trial that somebody deleted just now
    OSError,
)


class Database:
    """Optuna's storage in a team's database; connected when it is first needed.

    Args:
        target: where it is.
        wait: seconds to wait for another publisher's update.
    """

    def __init__(self, target: Target, *, wait: float = 120.0) -> None:
        self.target = target
        self._wait = wait
        self._storage: Any = None
        self._locks: Any = None
        self._held = False
        # which prints whole queries where a connection is lost; `updating` says that in a sentence
        logging.getLogger("optuna.storages._rdb.storage").setLevel(logging.ERROR)

    @contextlib.contextmanager
    def updating(self, key: str) -> Iterator[Any]:
        """The storage, while no other process updates what `key` names.

        Raises:
            PublishError: the database cannot be reached or used, or another process does not come to its end.
        """
        with self._explained():
            if self._storage is None:
                with self.locked(_TABLES):
                    self._storage = self._open()
            with self.locked(key):
                yield self._storage

    @contextlib.contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Keep other processes from what `key` names: an advisory lock of PostgreSQL.

        SQLite has one writer at a time whatever it writes, so all keys are one file beside it.
        """
        busy = PublishError(f"{self.target}: another process has been writing there for {self._wait:.0f} s")
        if (file := self.target.file) is not None:
            folder = writable_folder(file.absolute().parent, "the database", error=PublishError)
            if self._held:
                yield
                return
            with hold(folder / f".{file.name}.lock", busy, wait=self._wait):
                self._held = True
                try:
                    yield
                finally:
                    self._held = False
            return
        if self._locks is None:
            self._locks = sqlalchemy.create_engine(
                self.target.url,
                poolclass=sqlalchemy.pool.NullPool,
                pool_reset_on_return=None,
                isolation_level="AUTOCOMMIT",
                connect_args=self._connecting(),
            )
        number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], signed=True)
        ends = time.monotonic() + self._wait
        with self._locks.connect() as connection:  # the lock goes with the connection, however that ends
            attempt = sqlalchemy.text("SELECT pg_try_advisory_lock(:key)")
            while not connection.scalar(attempt, {"key": number}):
                if time.monotonic() > ends:
                    raise busy
                time.sleep(0.05)
            yield

    def close(self) -> None:
        """Let go of the connections; the next update opens others."""
        if self._storage is not None:
            self._storage.remove_session()
            self._storage.engine.dispose()
        if self._locks is not None:
            self._locks.dispose()
        self._storage = self._locks = None

    def _open(self) -> Any:
        options: dict[str, Any] = {"connect_args": {"timeout": 60}}
        if self.target.file is None:
            options = {"pool_pre_ping": True, "connect_args": self._connecting()}
        for left in reversed(range(_TRIES)):
            try:
                return optuna.storages.RDBStorage(self.target.address, engine_kwargs=options)
            except (
                sqlalchemy.exc.IntegrityError,
                sqlalchemy.exc.ProgrammingError,
                sqlalchemy.exc.OperationalError,  # SQLite's "table already exists"
                optuna.exceptions.StorageInternalError,
            ) as error:
                # PostgreSQL's of a connection that failed will not be better in a moment
                if not left or (self.target.file is None and _is_connecting(error)):
                    raise
                time.sleep(0.2)
        raise AssertionError

    def _connecting(self) -> dict[str, Any]:
        given = self.target.url.query
        own = {"connect_timeout": _CONNECT, "application_name": "promptopt"}
        return {key: value for key, value in own.items() if key not in given}

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except PublishError:
            self.close()
            raise
        except _TROUBLE as error:
            self.close()  # so that the next attempt starts from nothing
            raise PublishError(self.target.hide(f"{self.target}: {_said(error)}")) from error


def _is_connecting(error: BaseException) -> bool:
    return isinstance(error, sqlalchemy.exc.OperationalError) and error.statement is None


def _said(error: BaseException) -> str:
    """The first line of what the database's driver says."""
    inner: BaseException = error
    while not isinstance(inner, sqlalchemy.exc.DBAPIError) and inner.__cause__ is not None:
        inner = inner.__cause__
    said = str(getattr(inner, "orig", None) or error).strip().split("\n")[0]
    return f"{said or type(error).__name__} ({type(error).__name__})"
