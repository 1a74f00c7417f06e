"""Makers, nodes and drivers killed on a loopback cluster; then the same command again, to the same bytes."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.bench.fault_cases.jobs import CATEGORY, PROMPTS, fresh
from scripts.bench.fault_cases.processes import CaseError, Process, call, digests, rubbish
from scripts.bench.scale_cases.cluster import SWITCHES, Cluster

KILLED = ("actor", "node", "driver")


@dataclass
class Command:
    """A command that makes images into a folder.

    Attributes:
        arguments: given the folder, without --on.
        results: patterns of what has to be equal, below it.
        stored: patterns of what is written once for each image, and once only.
        coming: pattern of the images as they come to be.
        expected: digests of the results of a run in one process.
    """

    name: str
    arguments: Callable[[Path], list[object]]
    results: tuple[str, ...]
    stored: tuple[str, ...]
    coming: str
    expected: dict[str, str] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """That an undisturbed run ends with."""
        return sum(name.endswith(".png") for name in self.expected)


@dataclass
class Tally:
    """What became of the cases of one kind."""

    tried: int = 0
    equal: int = 0
    lost: int = 0
    repeated: int = 0
    failures: list[str] = field(default_factory=list)


def prepare(work: Path) -> list[Command]:
    """Data, a tiny network, and every command's undisturbed run, in one process each."""
    from tests.generators.micro import build_micro_pipeline

    build_micro_pipeline(work / "micro")
    made = call("data", "prepare", "phantom", "data", "--images", "240", "--size", "32", work=work)
    made.check(refused=False)
    (work / "study.yaml").write_text(json.dumps(_study(work)), encoding="utf-8")  # JSON is YAML
    (work / "prompts.txt").write_text(PROMPTS, encoding="utf-8")
    commands = _commands(work)
    for command in commands:
        out = fresh(work / "whole" / command.name)
        call(*command.arguments(out), work=work).check(refused=False)
        command.expected = digests(out, command.results)
        if not command.images:
            raise CaseError(f"{command.name} made no image that is compared")
    return commands


def run(
    work: Path, *, kills: int, seed: int, only: str = "", minutes: float = 1e6
) -> dict[tuple[str, str], Tally]:
    """The campaign: kind and command -> what became of so many kills each, or of those that time allows."""
    until = time.monotonic() + 60 * minutes
    chance = random.Random(seed)
    commands = prepare(work)
    tallies: dict[tuple[str, str], Tally] = {}
    with Cluster() as cluster:
        for number in range(kills):  # in turn, so that a campaign cut short has tried all of them
            for kind in KILLED:
                for command in commands:
                    if only not in f"{kind} {command.name}" or time.monotonic() > until:
                        continue
                    tally = tallies.setdefault((kind, command.name), Tally())
                    _case(cluster, kind, command, tally, chance, out=work / "killed" / str(number), work=work)
                    print(f"{kind} {command.name}: {tally}", file=sys.stderr, flush=True)
    return tallies


def table(tallies: Mapping[tuple[str, str], Tally]) -> str:
    """Markdown: a row for each kind and command."""
    lines = ["| killed | command | tried | equal to the byte | images lost | images made twice |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: |")
    for (kind, name), tally in tallies.items():
        numbers = f"{tally.tried} | {tally.equal} | {tally.lost} | {tally.repeated}"
        lines.append(f"| {kind} | {name} | {numbers} |")
    return "\n".join(lines)


def _case(
    cluster: Cluster,
    kind: str,
    command: Command,
    tally: Tally,
    chance: random.Random,
    *,
    out: Path,
    work: Path,
) -> None:
    arguments = [str(one) for one in [*command.arguments(out), "--on", cluster.place]]
    after = chance.randrange(command.images)
    tally.tried += 1
    try:
        while True:
            fresh(out)
            process = Process(arguments, work=work, env=SWITCHES)
            if _wait(process, cluster, command, out, after=after, driver=kind == "driver"):
                break
            process.wait().check(refused=False)
            after //= 2  # too late: it had ended
        if kind == "driver":
            process.kill()
            cluster.idle()
            before = _written(out, command.stored)
        else:
            before = _written(out, command.stored)
            if kind == "node":
                cluster.kill_node()
            else:
                chance.choice(cluster.actors()).kill()
            process.wait().check(refused=False)
        between = _written(out, command.stored)
        done = call(*arguments, work=work, env=SWITCHES).check(refused=False)
        after_all = _written(out, command.stored)
        found = digests(out, command.results)
        lost = [name for name, digest in command.expected.items() if found.get(name) != digest]
        tally.lost += len(lost)
        again = _changed(before, between) | _changed(between, after_all)
        more = sorted(again | (found.keys() - command.expected.keys()))
        tally.repeated += len(more)
        left = rubbish(out)
        for names, what in ((lost, "lost or others"), (more, "made twice"), (left, "left behind")):
            if names:
                raise CaseError(f"{len(names)} files are {what}, such as {names[0]}", done.command)
        tally.equal += 1
    except (CaseError, TimeoutError) as error:
        tally.failures.append(f"{kind} killed, {command.name}: {error}\n    {' '.join(arguments)}")
    finally:
        if kind == "node":
            cluster.add_node()
        cluster.idle()


def _wait(
    process: Process, cluster: Cluster, command: Command, out: Path, *, after: int, driver: bool
) -> bool:
    """Wait until so many images have been seen, and a maker runs; False where the command ends before."""
    seen: set[str] = set()
    while process.running():
        seen |= {path.name for path in _files(out, command.coming)}
        if len(seen) >= after and (driver or cluster.actors()):
            return True
        time.sleep(0.01)
    return False


def _files(out: Path, pattern: str) -> Iterator[Path]:
    try:
        yield from out.glob(pattern)
    except OSError:  # a folder that went while it was read
        return


def _written(out: Path, patterns: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """Which file it is, and when it was written: another one under the same name was written again."""
    found = {}
    for path in [path for pattern in patterns for path in _files(out, pattern)]:
        if path.name.startswith("."):  # being written
            continue
        state = path.stat()
        found[path.relative_to(out).as_posix()] = (state.st_ino, state.st_mtime_ns)
    return found


def _changed(before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]]) -> set[str]:
    return {name for name, state in before.items() if after.get(name) != state}


def _study(work: Path) -> dict[str, Any]:
    return {
        "name": "polyps",
        "aim": "single",
        "category": CATEGORY,
        "data": str(work / "data"),
        "generator": {"uri": str(work / "micro"), "steps": 2, "batch_size": 2},
        "search": {"trials": 4, "images": 4, "stop": None},
        "confirm": {"top": 2, "images": 8, "second_encoder": "thumbnail"},
    }


def _commands(work: Path) -> list[Command]:
    made = work / "whole" / "study" / "runs" / "polyps"
    synthesize = ["synthesize", "--prompts", "prompts.txt", "--generator", "micro", "--steps", "2"]
    augment = ["augment", made, "--per-class", "24", "--filters", "black"]
    return [
        Command(
            "study",
            lambda out: ["study", "run", "study.yaml", "--runs", out / "runs", "--store", out / "store"],
            ("runs/*/prompts.json", "runs/*/*.csv", "store/images/*/*.png"),
            ("store/images/*/*.json",),
            "store/images/*/*.png",
        ),
        Command(
            "synthesize",
            lambda out: [*synthesize, "--out", out, "--per-prompt", "8", "--batch-size", "2"],
            ("images/*", "manifest.csv"),
            (".store/*/*.json", "images/*"),
            ".store/*/*.png",
        ),
        Command(
            "augment",
            lambda out: [*augment, "--store", out / "store", "--out", out / "set"],
            ("set/**/*.png", "set/metadata.jsonl"),
            ("set/**/*.png",),
            "**/*.png",
        ),
    ]
