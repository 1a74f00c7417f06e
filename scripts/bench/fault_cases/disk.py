"""A disk that is full before the command ends: one sentence, and with more room the same command ends well.

The disk is a tmpfs of too few bytes in a mount namespace of the case's own, so this needs Linux and the right
to mount.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from scripts.bench.fault_cases.jobs import Job, fresh
from scripts.bench.fault_cases.processes import CaseError, apart, call

_NEW_NAMESPACE = 0x00020000
_PAGE = 4096
_ROOM = "size=512m"


def possible() -> bool:
    """Whether this process may mount."""
    try:
        apart(_private)
    except CaseError:
        return False
    return True


def cases(
    work: Path, jobs: Mapping[str, Job], rng: random.Random
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Without end, the jobs in turn."""
    number = 0
    while True:
        for job in jobs.values():
            number += 1
            share = rng.uniform(0.05, 0.95)
            yield f"{job.name}, room for {share:.0%}", _case(work, job, number, share)


def _case(work: Path, job: Job, number: int, share: float) -> Callable[[], None]:
    def case() -> None:
        job.measure(work)
        place = fresh(work / "full" / f"{number}")
        place.mkdir()
        apart(lambda: _filled(work, job, place, share))
        shutil.rmtree(place)

    return case


def _filled(work: Path, job: Job, place: Path, share: float) -> None:
    _private()
    size = max(8, int(share * _pages(work / "whole", job.name))) * _PAGE
    _mount("-t", "tmpfs", "-o", f"size={size}", "none", str(place))
    out = place / "out"
    arguments = [str(one) for one in job.argv(out)]
    done = call(*arguments, work=work).check()
    if done.code and not any(word in done.said.lower() for word in ("space", "full", "disk")):
        raise CaseError(f"does not say that the disk is full: {done.said.strip()[-200:]}", done.command)
    _mount("-o", f"remount,{_ROOM}", str(place))
    again = call(*arguments, work=work).check(refused=False)
    job.compare(out, again.command)


def _pages(folder: Path, name: str) -> int:
    """Pages that an undisturbed run of a job fills, its store among them."""
    places = [folder / name, folder / f"{name}-store"]
    files = [path for place in places if place.exists() for path in place.rglob("*")]
    return sum(1 + path.stat().st_size // _PAGE for path in files if path.exists())


def _private() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NAMESPACE):
        raise CaseError(f"no mount namespace of its own ({os.strerror(ctypes.get_errno())})")
    _mount("--make-rprivate", "/")


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CaseError(f"mount {' '.join(arguments)}: {done.stderr.strip()}")
