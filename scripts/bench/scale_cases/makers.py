"""What the driver spends when 32 simulated makers give it 320 images of 512x512 a second."""

from __future__ import annotations

import cProfile
import json
import pstats
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from scripts.bench.fault_cases.jobs import CATEGORY, PROMPTS, fresh
from scripts.bench.fault_cases.processes import CaseError, Process, call
from scripts.bench.scale_cases.farm import SIZE, FarmCrew, prepare_pictures

MAKERS, RATE, BATCH = 32, 10.0, 8
MILLION = 1_000_000
_REPOSITORY = Path(__file__).resolve().parents[3]
_PACKAGES = ("promptopt", "generators", "evaluation", "studies")
_DEPTH = 200  # calls between a library's function and promptopt's; recursion fades
_EVERY = 16  # images between two looks at clock and memory


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The driver after so many images: wall-clock and processor seconds, bytes of memory."""

    images: int
    wall: float
    cpu: float
    memory: int


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A command's driver, from the first image handed out to the command's end.

    Attributes:
        samples: as images arrived.
        end: of the command.
    """

    name: str
    samples: tuple[Sample, ...]
    end: Sample

    @property
    def images(self) -> int:
        """That arrived."""
        return self.end.images

    @property
    def rate(self) -> float:
        """Images a second of wall-clock time, from the first one to the last one."""
        first, last = self.samples[0], self.samples[-1]
        return (last.images - first.images) / (last.wall - first.wall)

    @property
    def milliseconds(self) -> tuple[float, float]:
        """Of processor time an image, in the first and in the second half."""
        half = self.samples[len(self.samples) // 2]
        pairs = ((self.samples[0], half), (half, self.samples[-1]))
        first, second = (1000 * (b.cpu - a.cpu) / (b.images - a.images) for a, b in pairs)
        return first, second

    @property
    def seconds(self) -> float:
        """Of processor time, from the first image to the command's end."""
        return self.end.cpu - self.samples[0].cpu

    @property
    def memory(self) -> float:
        """Bytes an image that stay, in the second half."""
        half, last = self.samples[len(self.samples) // 2], self.samples[-1]
        return max(0, last.memory - half.memory) / (last.images - half.images)


class _Driver(Process):
    """A command whose engine is the farm; it leaves its samples, and a profile if asked, in a folder."""

    def __init__(self, arguments: Sequence[str], *, work: Path, notes: Path, profile: bool) -> None:
        self._notes, self._profile = notes, profile
        super().__init__(arguments, work=work)

    def _be(self, arguments: list[str], work: Path, env: dict[str, str]) -> None:
        import promptopt.cli.main as command
        from generators.making.crew import CrewEngine
        from generators.making.makers import Makers
        from generators.store import ImageStore
        from promptopt.search.engine import Search

        own, arrived = psutil.Process(), 0
        samples: list[dict[str, Any]] = []
        searches: list[dict[str, Any]] = []
        profile = cProfile.Profile(time.thread_time)

        def sample() -> dict[str, Any]:
            memory = own.memory_info().rss
            return {
                "images": arrived, "wall": time.monotonic(), "cpu": time.process_time(), "memory": memory
            }  # fmt: skip

        def notice() -> None:
            nonlocal arrived
            if arrived % _EVERY == 0:
                samples.append(sample())
            arrived += 1

        def engine(makers: Makers, root: Path) -> CrewEngine:
            if self._profile:
                profile.enable()
            spec = makers.spec(root)
            crew = FarmCrew(work / "pictures", root, rate=RATE, encoders=spec.encoders, notice=notice)
            return CrewEngine(crew, spec, count=MAKERS, store=ImageStore(root))

        main, search = command.main, Search.run

        def searched(*given: Any, **named: Any) -> str:
            reason = search(*given, **named)
            searches.append(sample())
            return reason

        Search.run = searched  # type: ignore[method-assign]

        def measured(given: list[str]) -> None:
            try:
                main(given)
            finally:
                profile.disable()
                (self._notes / "samples.json").write_text(json.dumps([*samples, sample()]))
                (self._notes / "search.json").write_text(json.dumps(searches))
                if self._profile:
                    profile.dump_stats(self._notes / "profile")

        Makers._open = engine  # type: ignore[method-assign]
        command.main = measured  # type: ignore[assignment]
        super()._be(arguments, work, env)


def prepare(work: Path, *, pictures: int = 16) -> None:
    """A generator's card for images of 512x512, prompts, data, a study to augment from, prepared images."""
    from tests.generators.micro import build_micro_pipeline

    unet = build_micro_pipeline(work / "large") / "unet" / "config.json"
    unet.write_text(json.dumps(json.loads(unet.read_text()) | {"sample_size": SIZE // 2}))
    data = call("data", "prepare", "phantom", "data", "--images", "240", "--size", "32", work=work)
    data.check(refused=False)
    (work / "prompts.txt").write_text(PROMPTS, encoding="utf-8")
    prepare_pictures(work / "pictures", count=pictures)
    (work / "source.yaml").write_text(json.dumps(_study(work, name="source", images=64)), encoding="utf-8")
    _run(work, ["study", "run", "source.yaml", "--runs", "runs", "--store", "store"], name="source")


def _nearest(stats: pstats.Stats) -> Counter[str]:
    """Own time of functions, that of libraries handed on to their callers until it reaches promptopt's."""
    rows: dict[Any, Any] = stats.stats  # type: ignore[attr-defined]
    waiting: Counter[Any] = Counter({place: row[2] for place, row in rows.items()})
    found: Counter[str] = Counter()
    for _ in range(_DEPTH):
        handed_on: Counter[Any] = Counter()
        for place, seconds in waiting.items():
            if own := _own(place[0]):
                found[f"{own} {place[2]}"] += seconds
                continue
            callers = {one: row[3] for one, row in rows[place][4].items() if one in rows}
            whole = sum(callers.values())
            for one, part in callers.items():
                handed_on[one] += seconds * part / whole if whole else 0
        waiting = handed_on
    return found


def _own(file: str) -> str:
    """The path of a module of promptopt, from its package on; "" for another one."""
    path = Path(file)
    inside = path.is_relative_to(_REPOSITORY) and path.relative_to(_REPOSITORY).parts[0] in _PACKAGES
    return path.relative_to(_REPOSITORY).as_posix() if inside else ""


def measure(work: Path, images: int) -> list[Measured]:
    """Every command over about so many images, and then over a quarter of them."""
    return [*_measure(work, images), *_measure(work, images // 4)]


def _measure(work: Path, images: int) -> list[Measured]:
    found = []
    for name, arguments in _commands(work, images).items():
        notes = _run(work, arguments, name=name)
        *samples, end = (Sample(**one) for one in json.loads((notes / "samples.json").read_text()))
        for mark in (Sample(**one) for one in json.loads((notes / "search.json").read_text())):
            steps = tuple(one for one in samples if one.images <= mark.images)
            found.append(Measured(name=f"{name}: search alone", samples=steps, end=mark))
        found.append(Measured(name=name, samples=tuple(samples), end=end))
    return found


def terms(work: Path, images: int, *, most: int = 6) -> dict[str, list[tuple[float, str]]]:
    """Where the driver's main thread spends its time: command -> (share, function), largest first."""
    found = {}
    for name, arguments in _commands(work, images).items():
        notes = _run(work, arguments, name=name, profile=True)
        seconds = _nearest(pstats.Stats(str(notes / "profile")))
        whole = seconds.total()
        found[name] = [(own / whole, where) for where, own in seconds.most_common(most)]
    return found


def table(found: Sequence[Measured]) -> str:
    """Markdown: what an image costs the driver, and a million of them by it."""
    offered = MAKERS * RATE
    lines = [
        f"{MAKERS} makers give {offered:.0f} images/s of {SIZE}x{SIZE}. What the driver spends:",
        "",
        "| command | images | images/s | CPU ms an image, first and second half | with the command's end "
        "| one core takes, images/s | keeps up | kB an image | a million: CPU hours, GB |",
        "| --- " + "| ---: " * 8 + "|",
    ]
    count = len(found) // 2
    for one, quarter in zip(found[:count], found[count:], strict=True):
        first, second = one.milliseconds
        each = 1000 * (one.seconds - quarter.seconds) / (one.images - quarter.images)
        cells = [one.name, one.images, f"{one.rate:.0f}", f"{first:.2f}, {second:.2f}", f"{each:.2f}"]
        cells += [f"{1000 / each:.0f}", "yes" if 1000 / each >= offered else "no", f"{one.memory / 1000:.1f}"]
        cells += [f"{each * MILLION / 3.6e6:.1f}, {one.memory * MILLION / 1e9:.1f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _run(work: Path, arguments: Sequence[object], *, name: str, profile: bool = False) -> Path:
    notes = work / "notes" / f"{name}-{profile}"
    notes.mkdir(parents=True, exist_ok=True)
    given = [*map(str, arguments), "--on", f"processes:{MAKERS}"]
    _Driver(given, work=work, notes=notes, profile=profile).wait(3600).check(refused=False)
    if not (notes / "samples.json").exists():
        raise CaseError(f"{name}: no image was made", " ".join(given))
    return notes


def _commands(work: Path, images: int) -> dict[str, list[object]]:
    (work / "study.yaml").write_text(json.dumps(_study(work, name="made", images=images)), encoding="utf-8")
    out = fresh(work / "made")
    prompts = PROMPTS.count("\n")
    return {
        "study": ["study", "run", "study.yaml", "--runs", out / "runs", "--store", out / "store"],
        "synthesize": [
            *("synthesize", "--prompts", "prompts.txt", "--generator", "large", "--out", out / "synthesize"),
            *("--per-prompt", -(-images // prompts), "--batch-size", BATCH),
        ],
        "augment": [
            *("augment", "runs/source", "--per-class", images, "--filters", "black"),
            *("--store", out / "store", "--out", out / "augment"),
        ],
    }


def _study(work: Path, *, name: str, images: int) -> dict[str, Any]:
    """Of steps of 128 images."""
    return {
        "name": name,
        "aim": "single",
        "category": CATEGORY,
        "data": str(work / "data"),
        "generator": {"uri": str(work / "large"), "steps": 2, "batch_size": BATCH},
        "search": {
            "trials": min(24, max(2, images // 16)),
            "images": max(16, images // 24),
            "proposals_per_step": 8,
            "racing": False,
            "stop": None,
        },
        "confirm": {"top": 2, "images": 16},
    }
