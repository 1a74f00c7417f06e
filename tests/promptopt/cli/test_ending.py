"""Ctrl-C, SIGTERM and a full disk: one sentence and an exit code, whenever they come."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SAID = {
    signal.SIGINT: "Interrupted. Finished work is kept; to go on, run again: promptopt template",
    signal.SIGTERM: "Stopped by SIGTERM. Finished work is kept; to go on, run again: promptopt template",
}


def heeding() -> None:
    """In a child: signals end it, also where the tests run in the background, which ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


# The command line as its script starts it, with something slow at one place of its life.
SCRIPT = """
import builtins, sys, time
real, when = builtins.__import__, {when!r}

def wait():
    print("ready", flush=True)
    for _ in range(600):
        time.sleep(0.05)

def slow(name, *arguments, **options):
    if name == when or (name == "promptopt.cli" and arguments[2] and when in arguments[2]):
        builtins.__import__ = real
        try:
            wait()
        except KeyboardInterrupt as error:
            if {wrapped}:
                raise ImportError("was torn out of its import") from error
            raise
    return real(name, *arguments, **options)

builtins.__import__ = slow
from promptopt.__main__ import run
run()
"""


@pytest.mark.parametrize("number", SAID)
@pytest.mark.parametrize(
    ("when", "wrapped"),
    [
        ("typer", False),  # the first import there is
        ("augment", False),  # commands
        ("promptopt.space", False),  # what one command imports
        ("promptopt.space", True),  # a library that turns the exception into its own
    ],
)
def test_a_signal_ends_in_one_sentence(number: int, when: str, wrapped: bool, tmp_path: Path) -> None:
    script = SCRIPT.format(when=when, wrapped=wrapped)
    child = subprocess.Popen(
        [sys.executable, "-c", script, "template", "check", "a {b|c}"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        preexec_fn=heeding,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n", child.communicate()[1]
    time.sleep(0.05)
    child.send_signal(number)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 128 + number
    assert said.startswith(SAID[number])  # type: ignore[index]
    assert said.count("\n") == 1


IN_A_FINALIZER = """
import time
from promptopt.base.interrupts import exit_code, raising

class Lost:
    def __del__(self):
        print("ready", flush=True)
        time.sleep(30)

with raising():
    try:
        Lost()
        time.sleep(30)
    except KeyboardInterrupt as error:
        print(exit_code(error))
"""


@pytest.mark.parametrize("number", SAID)
def test_a_signal_that_a_finalizer_swallows_is_raised_again(number: int) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", IN_A_FINALIZER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=heeding,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(number)
    assert child.communicate(timeout=20) == (f"{128 + number}\n", "")
