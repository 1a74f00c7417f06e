"""Runs the commands of the documentation. `promptopt` runs in a fork of a process that has torch loaded."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests.docs.pages import REPOSITORY, Block

_PRELOADED = [
    *(
        "promptopt.cli.main",
        "promptopt.study.run",
        "promptopt.study.report.render",
        "promptopt.study.sets.run",
        "promptopt.study.report.sets",
        "promptopt.portfolio.compare",
    ),
    *(
        "generators.stable_diffusion.diffusion",
        "generators.training",
        "evaluation.encoders",
        "evaluation.classifier.judge",
    ),
    *(
        "diffusers",
        "open_clip",
        "optuna",
        "plotly.graph_objects",
        "sklearn.linear_model",
        "matplotlib.pyplot",
    ),
]
_SECONDS = 600  # a loaded machine is slow, not wrong
_SHELL = set("|&;<>`$(){}*?~!")

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_PRELOADED)


@dataclass(frozen=True)
class Ended:
    """What a command left."""

    code: int
    output: str


def run_block(block: Block, folder: Path, environment: Mapping[str, str] | None = None) -> None:
    """Run it in `folder`; AssertionError with the output when a command does not end as it should."""
    given = environment or {}
    commands = list(block.commands()) if block.language != "python" else [block.text]
    for number, command in enumerate(commands, start=1):
        if block.language == "python":
            done = _fork(["python", block.text], folder, given)
        else:
            done = run_command(command, block.options, folder, given)
        wanted = block.exit if number == len(commands) else 0
        assert done.code == wanted, f"{block.name}: {command}\nexit code {done.code}\n{done.output[-4000:]}"


def run_command(
    command: str,
    options: Mapping[str, Sequence[str]],
    folder: Path,
    given: Mapping[str, str] = MappingProxyType({}),
) -> Ended:
    """One line of shell; `promptopt` itself with the further options of its command."""
    words = shlex.split(command, comments=True)
    environment = dict(given)
    while words and "=" in words[0] and words[0].partition("=")[0].isidentifier():
        name, _, environment[name] = words.pop(0).partition("=")
    target = None
    if len(words) > 2 and words[-2] == ">":
        target, words = folder / words[-1], words[:-2]
    if words[0] == "promptopt" and not _SHELL & set("".join(words)) - set("*?"):
        further = [
            word
            for name in sorted(options, key=len)  # the more exactly named command has the last word
            if words[1:][: len(name.split())] == name.split()
            for word in options[name]
        ]
        done = _fork(["promptopt", *words[1:], *further], folder, environment)
    elif words[0] == "python" and len(words) > 1 and words[1].endswith(".py"):
        done = _fork(words, folder, environment)
    else:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        python = {"PATH": path, "PYTHONPATH": str(REPOSITORY), **environment}
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=folder, env=os.environ | python, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=_SECONDS, check=False,
        )  # fmt: skip
        return Ended(ended.returncode, ended.stdout + ended.stderr)
    if target is not None:
        target.write_text(done.output)
    return done


def _fork(words: list[str], folder: Path, environment: Mapping[str, str]) -> Ended:
    log = folder / ".output"
    process = _context.Process(target=_child, args=(words, str(folder), dict(environment), str(log)))
    process.start()
    process.join(_SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
        return Ended(124, f"still running after {_SECONDS} s\n" + log.read_text())
    output = log.read_text()
    log.unlink()
    return Ended(process.exitcode or 0, output)


def _child(words: list[str], folder: str, environment: Mapping[str, str], log: str) -> None:
    os.chdir(folder)
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **environment}
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.stdin = open(os.devnull)  # noqa: SIM115, PTH123
    sys.argv = words
    import torch

    torch.set_num_threads(1)
    sys.path[0:0] = [folder]
    if words[0] == "promptopt":
        from promptopt.cli.main import main

        main(words[1:])
    elif words[1].endswith(".py"):
        sys.argv = words[1:]
        runpy.run_path(words[1], run_name="__main__")
    else:
        exec(compile(words[1], "block", "exec"), {"__name__": "__main__"})
