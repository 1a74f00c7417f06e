"""The arms' results as values: per arm, learner and scope, and how arms differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.classifier.engine import Arm
from evaluation.estimate import Estimate

ALL = "all"
FORMAT, VERSION = "promptopt-classify", 1
MAIN = "balanced_accuracy"
_PARTS = ("value", "low", "high", "n", "status")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A metric of one arm minus that of another.

    Attributes:
        estimate: with its interval.
        p: two-sided p-value of "no difference"; None where there are too few groups for one.
        p_holm: adjusted over all pairs of the question, in the same learner, scope and metric.
        paired: tested on the same images (and seeds), so that what these contribute cancels. Arms tested on
            different sets are paired by seed alone.
    """

    estimate: Estimate
    p: float | None
    p_holm: float | None
    paired: bool

    @property
    def verdict(self) -> str:
        """ "better", "worse" or "no difference shown", at 5 % after Holm."""
        value = self.estimate.value
        if self.p_holm is None or value is None or self.p_holm >= 0.05:
            return "no difference shown"
        return "better" if value > 0 else "worse"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "estimate": self.estimate.to_dict(),
            "p": self.p,
            "p_holm": self.p_holm,
            "paired": self.paired,
        }


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`first` minus `second`, of one learner in one scope: `differences` by metric.

    `question`: what the pair answers; pairs of a question are corrected together.
    """

    question: str
    learner: str
    scope: str
    first: Arm
    second: Arm
    differences: Mapping[str, Difference]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One trained classifier on one test set: `estimates` by metric, `confusion` counts (true, predicted)."""

    seed: int
    estimates: Mapping[str, Estimate]
    confusion: tuple[tuple[int, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "seed": self.seed,
            "estimates": {name: estimate.to_dict() for name, estimate in self.estimates.items()},
            "confusion": [list(row) for row in self.confusion],
        }


@dataclass(frozen=True, kw_only=True)
class ArmRow:
    """One arm of one learner in one scope.

    Attributes:
        scope: ``all`` test images, or the name of a center.
        train_real, train_synthetic: images trained on.
        test_images, test_groups: images tested on, and their groups.
        estimates: mean over the seeds, by metric.
        confusion: share of each true class (row) that is predicted as each class (column).
        runs: one for each seed.
    """

    arm: Arm
    learner: str
    scope: str
    train_real: int
    train_synthetic: int
    test_images: int
    test_groups: int
    estimates: Mapping[str, Estimate]
    confusion: tuple[tuple[Estimate, ...], ...]
    runs: tuple[Run, ...]

    @property
    def title(self) -> str:
        """The arm, with its ratio where it has one."""
        return self.arm.title

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        plain = ("scope", "train_real", "train_synthetic", "test_images", "test_groups")
        return {
            "arm": self.arm.name,
            "alias": self.arm.alias,
            "ratio": self.arm.ratio,
            **{name: getattr(self, name) for name in plain},
            "estimates": {name: estimate.to_dict() for name, estimate in self.estimates.items()},
            "confusion": [[cell.to_dict() for cell in row] for row in self.confusion],
            "runs": [run.to_dict() for run in self.runs],
        }


@dataclass(frozen=True, kw_only=True)
class ArmsResult:
    """All rows and comparisons, with the settings that made them.

    `classes` is the order of the confusion matrices. Every arm is compared with the first one, R->R.

    Example:
        >>> import numpy as np
        >>> from evaluation import LabeledImages, five_arms
        >>> rng = np.random.default_rng(0)
        >>> def draw(name, n=40):
        ...     labels = ["polyp", "normal"] * (n // 2)
        ...     features = rng.normal(size=(n, 3)) + [[label == "polyp"] * 3 for label in labels]
        ...     return LabeledImages.of(features, labels, name=name)
        >>> result = five_arms(
        ...     draw("real"),
        ...     draw("test"),
        ...     synthetic_train=draw("drawn"),
        ...     arms=["R->R", "S->R"],
        ...     resamples=200,
        ... )
        >>> result.classes, [row.arm.name for row in result.where()]
        (('normal', 'polyp'), ['R->R', 'S->R'])
    """

    classes: tuple[str, ...]
    settings: Mapping[str, Any]
    rows: tuple[ArmRow, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def scopes(self) -> list[str]:
        """``all``, then the centers."""
        return list(dict.fromkeys(row.scope for row in self.rows))

    def where(self, *, scope: str = ALL) -> list[ArmRow]:
        """The rows of a scope, in the order of `ARMS`."""
        return [row for row in self.rows if row.scope == scope]

    def row(self, arm: str, *, ratio: float | None = None, scope: str = ALL) -> ArmRow:
        """One row, by the arm's name or alias.

        Raises:
            KeyError: there is none; names those there are.
        """
        for row in self.rows:
            if arm in (row.arm.name, row.arm.alias) and (row.arm.ratio, row.scope) == (ratio, scope):
                return row
        known = ", ".join(f"{row.title} ({row.scope})" for row in self.rows)
        raise KeyError(f"no row {arm!r}, ratio {ratio}, scope {scope!r}; there are {known}")

    def differences(self, row: ArmRow) -> Mapping[str, Difference]:
        """The row's differences from R->R in the same scope, by metric; none of R->R itself."""
        for one in self.comparisons:
            if (one.first, one.learner, one.scope) == (row.arm, row.learner, row.scope):
                return one.differences
        return {}

    def to_dict(self) -> dict[str, Any]:
        """A JSON document."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "classes": list(self.classes),
            "settings": dict(self.settings),
            "rows": [
                {
                    **row.to_dict(),
                    "differences": {name: one.to_dict() for name, one in self.differences(row).items()},
                }
                for row in self.rows
            ],
        }

    def table(self) -> tuple[list[str], list[list[object]]]:
        """Header and one line a row, for a CSV file; empty cells where there is no value."""
        names = list(dict.fromkeys(name for row in self.rows for name in row.estimates))
        header = ["scope", "arm", "alias", "ratio", "train_real", "train_synthetic"]
        header += ["test_images", "test_groups", *(f"{name}:{part}" for name in names for part in _PARTS)]
        changes = (*(f"difference:{part}" for part in ("value", "low", "high")), "p", "p_holm")
        header += [f"{name}:{part}" for name in names for part in changes]
        return header, [self._line(row, names) for row in self.rows]

    def _line(self, row: ArmRow, names: Sequence[str]) -> list[object]:
        line: list[object] = [row.scope, row.arm.name, row.arm.alias, row.arm.ratio]
        line += [row.train_real, row.train_synthetic, row.test_images, row.test_groups]
        line += [getattr(row.estimates[name], part) for name in names for part in _PARTS]
        differences = self.differences(row)
        for name in names:
            change = differences.get(name)
            if change is None:
                line += [None] * 5
                continue
            estimate = change.estimate
            line += [estimate.value, estimate.low, estimate.high, change.p, change.p_holm]
        return line
