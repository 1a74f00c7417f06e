"""SIGKILL at a random moment, then the same command again: it ends with the files of a run left alone."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from scripts.bench.fault_cases.jobs import Job, fresh
from scripts.bench.fault_cases.processes import Process, call


def cases(
    work: Path, jobs: Mapping[str, Job], rng: random.Random
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Without end, the jobs in turn."""
    number = 0
    while True:
        for job in jobs.values():
            number += 1
            moment = rng.random()
            yield f"{job.name}, at {moment:.0%}", _case(work, job, number, moment)


def _case(work: Path, job: Job, number: int, moment: float) -> Callable[[], None]:
    def case() -> None:
        job.measure(work)
        out = fresh(work / "killed" / f"{number}")
        arguments = [str(one) for one in job.argv(out)]
        killed = False
        while not killed:
            process = Process(arguments, work=work)
            time.sleep(moment * job.seconds)
            killed = process.kill().code == -9
            if not killed:  # too late: the machine has become faster
                job.seconds *= 0.8
                shutil.rmtree(out, ignore_errors=True)
        done = call(*arguments, work=work).check(refused=False)
        job.compare(out, done.command)
        shutil.rmtree(out)
        shutil.rmtree(out.with_name(f"{out.name}-store"), ignore_errors=True)

    return case
