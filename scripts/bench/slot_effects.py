"""Are the effects of words what they claim? Planted truth: 12,000 prompts, six slots, noisy images.

    python scripts/bench/slot_effects.py --repeats 40

The score of a prompt is planted as words one by one (`additive`), pairs of words and a part of its own, with
SD 1 over the space. An image adds noise with `--noise` SDs, in part shared by all prompts of a seed and by
prompts that share words. Prompts are drawn at random, or by a search that changes words of the best so far
and gives the better ones 16, 32 and 64 images in place of 8. Printed: how often an interval holds an
option's true effect (its mean over all 12,000 prompts), against that of the plain mean of the prompts with
the option; the error of both; and what is named of pairs of words.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np

from evaluation.estimate import Estimate
from promptopt.run.trials import TrialRow
from promptopt.search.model.effects import SlotEffects, slot_effects
from promptopt.space import PromptSpace, compile_template

OPTIONS = (5, 4, 6, 5, 4, 5)
STAGES = (8, 16, 32, 64)
CLEAR = 0.1  # a pair whose true effect is smaller is not there


@dataclass(frozen=True)
class World:
    """Scores of all prompts, SD 1, and what they are made of."""

    scores: np.ndarray
    noise: float
    rng: np.random.Generator

    def main(self, slot: int) -> np.ndarray:
        """True effects of a slot's options."""
        others = tuple(s for s in range(len(OPTIONS)) if s != slot)
        return self.scores.mean(axis=others) - self.scores.mean()

    def pair(self, slots: tuple[int, int], options: tuple[int, int]) -> float:
        """What two options do beyond their sum."""
        others = tuple(s for s in range(len(OPTIONS)) if s not in slots)
        both = float(self.scores.mean(axis=others)[options])
        return both - sum(self.main(s)[o] for s, o in zip(slots, options, strict=True)) - self.scores.mean()


def world(rng: np.random.Generator, *, additive: float, pairs: float, kind: str, noise: float) -> World:
    """`kind`: dense (every pair of words a little), sparse (six pairs of words alone) or bad word."""
    main = np.zeros(OPTIONS)
    for s, count in enumerate(OPTIONS):
        shape = [count if t == s else 1 for t in range(len(OPTIONS))]
        if kind == "bad word":  # most words do little, one in a slot spoils the image
            effect = rng.normal(0, 0.2, count)
            effect[rng.integers(count)] -= rng.exponential(2.0)
        else:
            effect = rng.normal(0, rng.uniform(0.2, 1.5), count)
        main = main + effect.reshape(shape)
    two = np.zeros(OPTIONS)
    for s in range(len(OPTIONS)):
        for t in range(s + 1, len(OPTIONS)):
            shape = [OPTIONS[u] if u in (s, t) else 1 for u in range(len(OPTIONS))]
            if kind == "sparse":
                effect = np.zeros((OPTIONS[s], OPTIONS[t]))
                if rng.random() < 0.4:
                    effect[rng.integers(OPTIONS[s]), rng.integers(OPTIONS[t])] = rng.choice([-1, 1])
            else:
                effect = rng.normal(0, 1, (OPTIONS[s], OPTIONS[t]))
            effect = effect - effect.mean(0) - effect.mean(1, keepdims=True) + effect.mean()
            two = two + effect.reshape(shape)
    own = rng.normal(0, 1, OPTIONS)
    parts = ((main, additive), (two, pairs), (own, 1 - additive - pairs))
    scores = sum(np.sqrt(share) * part / part.std() for part, share in parts if part.std() > 0)
    return World(np.asarray(scores), noise, rng)


class Panel:
    """Noise of images: of the seed, of the seed with a word, of the image (0.4, 0.3, 0.3 of the variance)."""

    def __init__(self, planted: World) -> None:
        rng = planted.rng
        self.world = planted
        self.seeds = rng.standard_normal(STAGES[-1])
        self.words = [rng.standard_normal((count, STAGES[-1])) for count in OPTIONS]

    def images(self, prompt: tuple[int, ...]) -> np.ndarray:
        """Differences from the baseline for every seed."""
        words = sum(word[o] for word, o in zip(self.words, prompt, strict=True)) / np.sqrt(len(OPTIONS))
        own = self.world.rng.standard_normal(STAGES[-1])
        noise = np.sqrt(0.4) * self.seeds + np.sqrt(0.3) * words + np.sqrt(0.3) * own
        return float(self.world.scores[prompt]) + self.world.noise * noise


def trials(planted: World, space: PromptSpace, *, count: int, adaptive: bool) -> list[TrialRow]:
    """Rows of `count` prompts as a search would leave them."""
    rng, panel = planted.rng, Panel(planted)
    found: dict[tuple[int, ...], np.ndarray] = {}
    while len(found) < count:
        prompt = tuple(int(rng.integers(m)) for m in OPTIONS)
        if adaptive and len(found) >= 10 and rng.random() < 0.85:
            best = sorted(found, key=lambda p: -found[p].mean())[:3]
            changed = list(best[int(rng.integers(len(best)))])
            for slot in rng.choice(len(OPTIONS), int(rng.integers(1, 3)), replace=False):
                changed[slot] = int(rng.integers(OPTIONS[slot]))
            prompt = tuple(changed)
        if prompt in found:
            continue
        images = panel.images(prompt)
        used = 16
        if adaptive:  # a race: on to the next stage while among the better half so far
            used = STAGES[0]
            middle = np.median([v.mean() for v in found.values()]) if found else -np.inf
            for stage in STAGES[1:]:
                if images[:used].mean() < middle + 0.2 * STAGES.index(used):
                    break
                used = stage
        found[prompt] = images[:used]
    return [_row(space, number, prompt, images) for number, (prompt, images) in enumerate(found.items())]


def _row(space: PromptSpace, number: int, prompt: tuple[int, ...], images: np.ndarray) -> TrialRow:
    choice = {slot.name: slot.options[o] for slot, o in zip(space.slots, prompt, strict=True)}
    score = Estimate.of_mean(images)
    return TrialRow(number, space.candidate(choice), choice, score, {}, {"score": tuple(images.tolist())})


def planted_space() -> PromptSpace:
    """Six slots with as many options as `OPTIONS`."""
    slots = ("{" + "|".join(f"w{s}{o}" for o in range(count)) + "}" for s, count in enumerate(OPTIONS))
    return compile_template(" ".join(slots), {})


def plain(rows: list[TrialRow], slot: str, option: str) -> Estimate:
    """Mean of the prompts with an option minus that of all prompts: what a table of means shows."""
    values = np.array([row.value for row in rows])
    return Estimate.of_mean(values[[row.choice[slot] == option for row in rows]] - values.mean())


@dataclass
class Tally:
    """Counts of one setting."""

    held: list[bool]
    held_ok: list[bool]
    held_best: list[bool]
    held_plain: list[bool]
    error: list[float]
    error_plain: list[float]
    named: int = 0
    wrong: int = 0
    runs_wrong: int = 0
    covered: int = 0
    share: float = 0.0


def add(tally: Tally, planted: World, space: PromptSpace, rows: list[TrialRow], result: SlotEffects) -> None:
    """Compare one result with the truth."""
    names = [slot.name for slot in space.slots]
    truths = {slot.name: planted.main(s) for s, slot in enumerate(space.slots)}
    for slot in space.slots:
        best = next(iter(result.of(slot.name)))
        for effect in result.effects:
            if effect.slot != slot.name or effect.effect.value is None:
                continue
            truth = float(truths[slot.name][slot.options.index(effect.option)])
            e = effect.effect
            holds = bool(e.low is not None and e.high is not None and e.low <= truth <= e.high)
            tally.held.append(holds)
            tally.error.append(e.value - truth)
            if e.status == "ok":
                tally.held_ok.append(holds)
            if effect == best:
                tally.held_best.append(holds)
            mean = plain(rows, slot.name, effect.option)
            if mean.value is not None and mean.low is not None and mean.high is not None:
                tally.held_plain.append(mean.low <= truth <= mean.high)
                tally.error_plain.append(mean.value - truth)
    wrong = 0
    for pair in result.interactions:
        slots = (names.index(pair.slots[0]), names.index(pair.slots[1]))
        options = tuple(space.slots[s].options.index(o) for s, o in zip(slots, pair.options, strict=True))
        truth = planted.pair(slots, options)  # type: ignore[arg-type]
        tally.covered += float(pair.beyond.low or 0.0) <= truth <= float(pair.beyond.high or 0.0)
        wrong += bool(truth * float(pair.beyond.value or 0.0) <= 0 or abs(truth) < CLEAR)
    tally.named += len(result.interactions)
    tally.wrong += wrong
    tally.runs_wrong += wrong > 0
    tally.share += float(result.additive_share.value or 0.0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--prompts", type=int, nargs="+", default=[25, 50, 100])
    parser.add_argument("--noise", type=float, nargs="+", default=[2.0], help="SD of an image")
    parser.add_argument("--kinds", nargs="+", default=["none", "dense", "sparse", "bad word"])
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    space = planted_space()
    shares = {"none": (0.85, 0.0), "dense": (0.5, 0.35), "sparse": (0.6, 0.3), "bad word": (0.6, 0.3)}
    print(
        "| pairs | additive | noise | prompts | drawn | interval holds | of the reliable | best of slot | "
        "plain mean | RMS error | plain mean | pairs named | wrongly | their intervals hold | "
        "runs with a wrong one | share said | s |"
    )
    print("| --- " * 17 + "|")
    for kind in given.kinds:
        additive, pairs = shares[kind]
        for noise in given.noise:
            for count in given.prompts:
                for adaptive in (False, True):
                    tally = Tally([], [], [], [], [], [])
                    begun = time.perf_counter()
                    for repeat in range(given.repeats):
                        rng = np.random.default_rng([given.seed, repeat, count, int(10 * noise)])
                        planted = world(rng, additive=additive, pairs=pairs, kind=kind, noise=noise)
                        rows = trials(planted, space, count=count, adaptive=adaptive)
                        add(tally, planted, space, rows, slot_effects(space, rows))
                    each = (time.perf_counter() - begun) / given.repeats
                    print(
                        f"| {kind} | {additive:.0%} | {noise:g} | {count} | "
                        f"{'search' if adaptive else 'random'} | "
                        f"{np.mean(tally.held):.1%} | {np.mean(tally.held_ok):.1%} | "
                        f"{np.mean(tally.held_best):.1%} | {np.mean(tally.held_plain):.1%} | "
                        f"{np.sqrt(np.mean(np.square(tally.error))):.2f} | "
                        f"{np.sqrt(np.mean(np.square(tally.error_plain))):.2f} | "
                        f"{tally.named / given.repeats:.2f} | {tally.wrong} of {tally.named} | "
                        f"{tally.covered} of {tally.named} | "
                        f"{tally.runs_wrong / given.repeats:.1%} | {tally.share / given.repeats:.0%} | "
                        f"{each:.2f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
