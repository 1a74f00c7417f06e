"""A real PostgreSQL, started on the loopback interface as a user other than root, for a test or a bench."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

_DEBIAN = Path("/usr/lib/postgresql")  # whose programs are on no PATH
_PORTS = range(20_000, 32_000)  # no outgoing connection is given one of these, so a restart gets its own back
_TRIES = 5


def missing() -> str | None:
    """Why no server can be started here; None where one can."""
    if find_spec("psycopg") is None:
        return "psycopg is not installed: pip install 'promptopt[postgres]'"
    if _binaries() is None:
        return "PostgreSQL's server is not installed: apt-get install postgresql"
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        return "PostgreSQL refuses root, and there is no setpriv to become another user"
    return None


@contextmanager
def serving() -> Iterator[Server]:
    """A server while the block runs, in a folder of its own. RuntimeError where `missing` names a reason."""
    binaries = _binaries()
    if (why := missing()) is not None or binaries is None:
        raise RuntimeError(why)
    folder = Path(tempfile.mkdtemp(prefix="promptopt-postgres-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody")
        server = Server(binaries, folder)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Server:
    """PostgreSQL in a folder of its own; everybody on this machine may do everything."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries, self._data = binaries, folder / "data"
        self._as = ["setpriv", "--reuid=nobody", "--clear-groups"] if os.geteuid() == 0 else []
        self._run(
            "initdb", "-D", self._data, "-U", "team", "--auth=trust", "--no-sync", "-E", "UTF8", "--no-locale"
        )
        for left in reversed(range(_TRIES)):
            self.port = _free_port()
            try:
                self._start()
                break
            except subprocess.CalledProcessError:  # somebody else has the port by now
                if not left:
                    raise

    @property
    def environment(self) -> dict[str, str]:
        """With these variables of libpq, postgresql://ANY.HOST/NAME means this server."""
        return {"PGHOSTADDR": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": "team"}

    def start(self) -> None:
        """Start it again, on the port that it had, if it does not run."""
        ends = time.monotonic() + 60
        while self._run("pg_ctl", "-D", self._data, "status", check=False) != 0:
            try:
                self._start()
            except subprocess.CalledProcessError:
                if time.monotonic() > ends:
                    raise
                time.sleep(0.5)

    def stop(self) -> None:
        """End it as a crash does: nobody's work is waited for. Nothing happens where it does not run."""
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop", check=False)

    def database(self, name: str) -> str:
        """The address of an empty database of that name; one that was there is dropped, whoever uses it."""
        at = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "team"]
        self._run("dropdb", *at, "--if-exists", "--force", name)
        self._run("createdb", *at, name)
        return f"postgresql://team@127.0.0.1:{self.port}/{name}"

    def _start(self) -> None:
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -c unix_socket_directories='' -c fsync=off"
        log = self._data / "log"
        self._run("pg_ctl", "-D", self._data, "-w", "-t", "120", "-l", log, "-o", options, "start")

    def _run(self, name: str, *arguments: object, check: bool = True) -> int:
        command = [*self._as, str(self._binaries / name), *map(str, arguments)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.run(command, check=check, cwd="/", **quiet).returncode


def _binaries() -> Path | None:
    found = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    given = shutil.which("initdb")
    return None if given is None else Path(given).resolve().parent


def _free_port() -> int:
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
