"""A file of a finished or an unfinished run is damaged: mended, or refused by name, never other results."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from scripts.bench.fault_cases.jobs import Job, fresh
from scripts.bench.fault_cases.processes import CaseError, Process, call, digests

HOW = ("a flipped bit", "cut in half", "emptied", "removed", "zeros at the end")


def cases(
    work: Path, jobs: Mapping[str, Job], rng: random.Random
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Without end, the jobs in turn; half of the runs are cut short before."""
    number = 0
    while True:
        for job in jobs.values():
            number += 1
            how, whole, draw = rng.choice(HOW), rng.random() < 0.5, random.Random(rng.random())
            state = "finished" if whole else "cut short"
            yield f"{job.name}, {state}, {how}", _case(work, job, number, how, whole, draw)


def damage(path: Path, how: str, rng: random.Random) -> None:
    """One of the ways in which a file is damaged."""
    content = bytearray(path.read_bytes())
    if how == "removed":
        path.unlink()
        return
    if how == "a flipped bit" and content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif how == "cut in half":
        del content[len(content) // 2 :]
    elif how == "emptied":
        content.clear()
    elif how == "zeros at the end":
        end = min(4096, len(content))
        content[len(content) - end :] = bytes(end)
    path.write_bytes(content)


def _case(work: Path, job: Job, number: int, how: str, whole: bool, rng: random.Random) -> Callable[[], None]:
    def case() -> None:
        job.measure(work)
        out = fresh(work / "damaged" / f"{number}")
        arguments = [str(one) for one in job.argv(out)]
        if whole:
            call(*arguments, work=work).check(refused=False)
        share = 0.0 if whole else rng.uniform(0.4, 0.9)
        while not (files := _files(out)):  # killed before it wrote anything: nothing to damage
            process = Process(arguments, work=work)
            time.sleep(share * job.seconds)
            process.kill()
            share *= 1.3
        chosen = rng.choice(files)
        name = chosen.relative_to(out)
        damage(chosen, how, rng)
        done = call(*arguments, work=work)
        try:
            done.check()
        except CaseError as failed:
            raise CaseError(f"{name}: {failed}", done.command) from failed
        if done.code:  # refused; the message has to name the file or its folder
            if not any(part in done.said for part in _names(out, name)):
                raise CaseError(f"{name}: refused without its name: {done.said.strip()[-200:]}", done.command)
            return
        found = digests(out, job.results)
        differing = [one for one in job.expected if found.get(one) != job.expected[one]]
        if differing:
            silent = f"{name}: exit 0, and {len(differing)} results are wrong, such as {differing[0]}"
            raise CaseError(silent, done.command)
        shutil.rmtree(out)
        shutil.rmtree(out.with_name(f"{out.name}-store"), ignore_errors=True)

    return case


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock"))


def _names(out: Path, name: Path) -> list[str]:
    """What a refusal may call a file by: its own name, or a folder that it lies in."""
    folders = [out / parent for parent in name.parents]
    return [name.name, *("/".join(folder.parts[-2:]) for folder in folders)]
