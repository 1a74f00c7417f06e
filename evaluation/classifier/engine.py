"""Arms, learners and seeds: what is trained on what, with matched steps, and never twice."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.classifier.images import LabeledImages
from evaluation.classifier.learners import Learner
from promptopt.base.files import write_bytes

REAL_TEST = "real_test"

Array = NDArray[np.float64]
OnProgress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A training set with a name, and the set of images that is tested on.

    Attributes:
        name: in tables; two arms of a name differ in `ratio` or `per_class`.
        alias: another name that the field knows it by, such as TSTR.
        real: whether real images are in it.
        per_class: real images of each class, drawn by the seed; None: all.
        rare: pairs of a class and the real images of it at most. With `by_class` it gets as many synthetic
            ones as the largest class: what is rare is what they are to make up for.
        synthetic: name of the synthetic images in it; None: none.
        ratio: synthetic images for each real one, drawn by the seed; a larger ratio holds the smaller. None:
            all of them.
        by_class: whether synthetic images are drawn class by class, so that they have the real ones' class
            shares; otherwise as they come.
        classical: whether the learner augments what it draws, in the usual way.
        test: name of the set tested on.
    """

    name: str
    alias: str = ""
    real: bool = True
    per_class: int | None = None
    rare: tuple[tuple[str, int], ...] = ()
    synthetic: str | None = None
    ratio: float | None = None
    by_class: bool = False
    classical: bool = False
    test: str = REAL_TEST

    @property
    def title(self) -> str:
        """The name, with the ratio where there is one."""
        return self.name if self.ratio is None else f"{self.name} 1:{self.ratio:.3g}"

    @property
    def label(self) -> str:
        """The title, with the alias where there is one."""
        return f"{self.title} ({self.alias})" if self.alias else self.title

    @property
    def drawn(self) -> bool:
        """Whether the seed decides which images are trained on."""
        return self.per_class is not None or bool(self.rare) or self.ratio is not None

    @property
    def training(self) -> tuple[object, ...]:
        """What is trained, whatever the name and the test: arms that agree in it share their classifiers."""
        return (
            self.real, self.per_class, self.rare, self.synthetic, self.ratio, self.by_class, self.classical
        )  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class View:
    """All images as one learner reads them: `synthetic` and `test` by the names that arms use."""

    learner: Learner
    real: LabeledImages
    synthetic: Mapping[str, LabeledImages]
    test: Mapping[str, LabeledImages]


@dataclass(frozen=True, eq=False, kw_only=True)
class Trained:
    """An arm's classifiers: `probabilities` of its test set, shape (n, k), one array a seed.

    `seeded`: whether another seed may give another classifier; where not, all arrays are one.
    """

    arm: Arm
    learner: str
    train_real: int
    train_synthetic: int
    seeded: bool
    probabilities: Sequence[Array]


def train_arms(
    views: Sequence[View],
    arms: Sequence[Arm],
    *,
    classes: Sequence[str],
    seeds: Sequence[int],
    cache: Path | None = None,
    on_progress: OnProgress | None = None,
) -> list[Trained]:
    """Train every learner on every arm with every seed: learner by learner, the arms in their order.

    A seed decides which real and which synthetic images are drawn, a network's start and its batches; all
    arms of a seed share their real images. Every training of a learner makes the same number of steps, and
    none is stopped or chosen by its score. Arms with classical augmentation are left out for a learner that
    knows none.

    Args:
        views: one a learner, with different names of learners.
        classes: the order of the probabilities' columns.
        cache: folder of what was trained, by what it was trained on: the same call trains nothing twice, and
            one that was killed goes on.
        on_progress: called with steps done, steps in all, and what is trained.
    """
    plan = [
        (view, learner, own)
        for view in views
        for own in _by_training(arms)
        if (learner := view.learner.augmented() if own[0].classical else view.learner) is not None
    ]
    progress = _Progress(sum(learner.steps for _, learner, _ in plan) * len(seeds), on_progress)
    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
    trained: dict[tuple[str, Arm], Trained] = {}
    for view, learner, own in plan:
        seeded = learner.uses_seed or own[0].drawn
        tests = {arm.test: view.test[arm.test] for arm in own}
        done: dict[str, list[Array]] = {name: [] for name in tests}
        made = count = 0
        for number, seed in enumerate(seeds):
            progress.start(f"{learner.name}, {own[0].title}, seed {seed}")
            if number and not seeded:
                for arrays in done.values():
                    arrays.append(arrays[0])
                progress.skip(learner.steps)
                continue
            images, made = training_set(own[0], view, classes, seed)
            count = len(images)
            task = _Task(learner, images, tests, classes, seed)
            for name, array in _probabilities(task, cache, progress).items():
                done[name].append(array)
        for arm in own:
            trained[view.learner.name, arm] = Trained(
                arm=arm,
                learner=view.learner.name,
                train_real=count - made,
                train_synthetic=made,
                seeded=seeded,
                probabilities=done[arm.test],
            )
    keys = [(view.learner.name, arm) for view in views for arm in arms]
    return [trained[key] for key in keys if key in trained]


def training_set(arm: Arm, view: View, classes: Sequence[str], seed: int) -> tuple[LabeledImages, int]:
    """The images of one training, and how many of them are synthetic."""
    real = view.real.take([]) if not arm.real else view.real
    if arm.real and (arm.per_class is not None or arm.rare):
        rare = dict(arm.rare)
        own = [
            _shuffled(view.real, name, [seed, 11, place])[: arm.per_class][: rare.get(name)]
            for place, name in enumerate(classes)
        ]
        real = view.real.take(np.sort(np.concatenate(own)))
    if arm.synthetic is None:
        return real, 0
    made = view.synthetic[arm.synthetic]
    if arm.ratio is not None:
        # sorted: the order of rows must say nothing but which images were drawn
        made = made.take(np.sort(_drawn(made, real, arm, classes, seed)))
    return (real.joined(made) if arm.real else made), len(made)


def _drawn(
    made: LabeledImages, real: LabeledImages, arm: Arm, classes: Sequence[str], seed: int
) -> NDArray[np.int64]:
    assert arm.ratio is not None
    if not arm.by_class:
        order = np.random.default_rng([seed, 1]).permutation(len(made))
        return order[: round(arm.ratio * len(real))]
    counts = {name: real.labels.count(name) for name in classes}
    counts |= dict.fromkeys(dict(arm.rare), max(counts.values()))
    own = [
        _shuffled(made, name, [seed, 12, place])[: round(arm.ratio * counts[name])]
        for place, name in enumerate(classes)
    ]
    return np.concatenate(own)


def _shuffled(images: LabeledImages, name: str, key: Sequence[int]) -> NDArray[np.int64]:
    rows = np.flatnonzero([label == name for label in images.labels])
    return np.random.default_rng(key).permutation(rows)


def _by_training(arms: Sequence[Arm]) -> list[list[Arm]]:
    """Arms that share their classifiers, together."""
    together: dict[tuple[object, ...], list[Arm]] = {}
    for arm in arms:
        together.setdefault(arm.training, []).append(arm)
    return list(together.values())


class _Progress:
    """Steps done of all, and whether each training made as many as its learner says."""

    def __init__(self, total: int, on_progress: OnProgress | None) -> None:
        self._total, self._on_progress = total, on_progress
        self._done, self._note = 0, ""

    def start(self, note: str) -> None:
        self._note = note

    def step(self) -> None:
        self.skip(1)

    def skip(self, steps: int) -> None:
        """Steps that need not be made again count at once."""
        self._done += steps
        if self._on_progress is not None:
            self._on_progress(self._done, self._total, self._note)

    @contextlib.contextmanager
    def expecting(self, steps: int) -> Iterator[None]:
        before = self._done
        yield
        if self._done - before != steps:
            raise RuntimeError(f"{self._done - before} steps on {self._note}, not {steps}")


@dataclass(frozen=True, eq=False)
class _Task:
    """One training and the sets that its classifier reads."""

    learner: Learner
    images: LabeledImages
    tests: Mapping[str, LabeledImages]
    classes: Sequence[str]
    seed: int

    @property
    def truth(self) -> NDArray[np.int64]:
        return np.array([self.classes.index(label) for label in self.images.labels])

    def run(self, progress: _Progress) -> dict[str, Array]:
        steps = self.learner.steps
        with progress.expecting(steps):
            predict = self.learner.fit(
                self.images.inputs,
                self.truth,
                classes=len(self.classes),
                seed=self.seed,
                on_step=progress.step,
            )
        return {name: predict(test.inputs) for name, test in self.tests.items()}

    def keys(self) -> dict[str, str]:
        """A digest of all that decides the probabilities, for each test set."""
        from importlib.metadata import version

        own = [self.learner.name, dict(self.learner.settings()), self.seed, list(self.classes)]
        digest = hashlib.sha256(json.dumps([*own, version("torch"), version("numpy")]).encode())
        for array in (self.images.inputs, self.truth):
            digest.update(np.ascontiguousarray(array).tobytes())
        keys = {}
        for name, test in self.tests.items():
            whole = digest.copy()
            whole.update(np.ascontiguousarray(test.inputs).tobytes())
            keys[name] = whole.hexdigest()
        return keys


def _probabilities(task: _Task, cache: Path | None, progress: _Progress) -> dict[str, Array]:
    """Of each test set, from the cache where the same training was made before."""
    if cache is None:
        return task.run(progress)
    paths = {name: cache / f"{key}.npy" for name, key in task.keys().items()}
    if all(path.exists() for path in paths.values()):
        progress.skip(task.learner.steps)
        return {name: np.load(path, allow_pickle=False) for name, path in paths.items()}
    result = task.run(progress)
    for name, array in result.items():
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        write_bytes(paths[name], buffer.getvalue())
    return result
