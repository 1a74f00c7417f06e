"""Commands in processes of their own, which are forked so that the libraries are imported once for all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LIMIT = 300.0
HEAVY = (
    "optuna",
    "sqlalchemy",
    "scipy.optimize",
    "sklearn.linear_model",
    "jinja2",
    "rich.progress",
    "torch",
    "open_clip",
    "transformers.models.clip.modeling_clip",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "promptopt.study.run",
    "promptopt.study.sets.run",
    "promptopt.study.report",
    "promptopt.augmentation.run",
    "promptopt.cli.main",
    "generators.training.finetune",
    "generators.stable_diffusion.diffusion",
    "evaluation.training.clip",
    "evaluation.encoders.open_clip_folder",
)
RUBBISH = (".partial", ".tmp", ".old", ".write-test-")
"""What only a killed process leaves behind: never after a run that ended well."""


class CaseError(Exception):
    """A case that did not hold; `command` is what shows it."""

    def __init__(self, problem: str, command: str = "") -> None:
        super().__init__(problem)
        self.command = command


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit status (negative: the signal), and what it printed."""

    command: str
    code: int
    said: str

    def check(self, *, refused: bool | None = None, naming: str = "") -> Done:
        """No traceback, no timeout, no other status than 0, 1, 2; `refused` also says whether it is 0.

        `naming` is what its message has to hold.

        Raises:
            CaseError: otherwise.
        """
        if "Traceback (most recent call last)" in self.said:
            named = re.findall(r"^[\w.]+(?:Error|Exception|Warning|Exit)\b.*", self.said, re.MULTILINE)
            raise CaseError(f"traceback: {(named or ['?'])[-1][:200]}", self.command)
        if self.code not in (0, 1, 2):
            raise CaseError(f"ended with status {self.code}: {self.said.strip()[-200:]}", self.command)
        if refused is True and self.code == 0:
            raise CaseError("was taken in silence", self.command)
        if refused is False and self.code != 0:
            raise CaseError(f"was refused: {self.said.strip()[-300:]}", self.command)
        if self.code != 0 and not self.said.strip():
            raise CaseError("ended without a word", self.command)
        if naming not in self.said:
            raise CaseError(f"does not name {naming}: {self.said.strip()[-200:]}", self.command)
        return self


class Process:
    """`promptopt ARGUMENTS` in a session of its own."""

    def __init__(self, arguments: Sequence[str], *, work: Path, env: Mapping[str, str] | None = None) -> None:
        self.command = shlex.join(["promptopt", *arguments])
        self._log = work / f".said-{os.getpid()}-{time.monotonic_ns()}"
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._be(list(arguments), work, dict(env or {}))

    def _be(self, arguments: list[str], work: Path, env: dict[str, str]) -> None:
        code = 1
        try:
            os.setsid()
            sink = os.open(self._log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            sys.stdin = Path(os.devnull).open()  # noqa: SIM115
            os.chdir(work)
            os.environ.update(env)
            sys.argv = ["promptopt", *arguments]
            from promptopt.cli.main import main as promptopt

            promptopt(arguments)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:  # noqa: BLE001  whatever it is, it must not go on as the parent
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def wait(self, limit: float = LIMIT) -> Done:
        """How it ends; after `limit` seconds it is killed."""
        until = time.monotonic() + limit
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > until:
                return self.kill()
            time.sleep(0.01)
        return self._done(status)

    def kill(self) -> Done:
        """SIGKILL to its session."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):  # it may not have its session yet
            os.kill(self.pid, signal.SIGKILL)
        return self._done(os.waitpid(self.pid, 0)[1])

    def running(self) -> bool:
        """Whether it has not ended; it stays to be waited for."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def _done(self, status: int) -> Done:
        said = self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""
        self._log.unlink(missing_ok=True)
        return Done(self.command, os.waitstatus_to_exitcode(status), said)


def call(*arguments: object, work: Path, env: Mapping[str, str] | None = None, limit: float = LIMIT) -> Done:
    """`promptopt ARGUMENTS` to its end."""
    return Process([str(one) for one in arguments], work=work, env=env).wait(limit)


def apart(job: Callable[[], None], *, limit: float = LIMIT) -> None:
    """Run a case in a child, for what would change this process: mounts, the environment.

    Raises:
        CaseError: as the job does, or whatever else it raises.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        text = ""
        try:
            job()
        except CaseError as failed:
            text = f"{failed}\0{failed.command}"
        except BaseException as error:  # noqa: BLE001
            text = f"the case itself: {type(error).__name__}: {error}\0"
        finally:
            os.write(writer, text.encode(errors="replace")[:60_000])
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        text = stream.read().decode()
    os.waitpid(pid, 0)
    if text:
        problem, _, command = text.partition("\0")
        raise CaseError(problem, command)


def digests(folder: Path, patterns: Sequence[str]) -> dict[str, str]:
    """Files by their path below the folder -> sha256."""
    found = {}
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}):
        found[path.relative_to(folder).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def rubbish(folder: Path) -> list[str]:
    """Files that a killed process left."""
    names = (path for path in folder.rglob("*") if path.name.startswith("."))
    return sorted(
        path.relative_to(folder).as_posix() for path in names if any(end in path.name for end in RUBBISH)
    )
