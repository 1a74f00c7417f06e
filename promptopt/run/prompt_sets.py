"""prompts.json of a study of sets: each class's set, its learned template, and what was confirmed of both.

The file holds no time and no machine's path, so two identical runs write identical bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from promptopt.base.checksums import summed
from promptopt.base.files import write_json
from promptopt.base.seeds import derived_seed, seed_panel
from promptopt.base.settings import read_json
from promptopt.config.study_file import StudyError
from promptopt.run.prompts import AGAIN, EncoderCheckEntry, EstimateEntry, Network, Seeds
from promptopt.space import Candidate, PromptSpace, compile_template

SETS: Literal["promptopt-sets"] = "promptopt-sets"  # the format's name
CONFIRMED = ("set", "baseline", "single")
"""Those whose prompts at each confirmation seed follow from prompts.json alone."""
METHODS = ("set", "learned", "baseline", "random", "single")
"""What the images of a class can be drawn by: ``--prompts`` of `augment` and `synthesize`."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class WeightedPrompt(_Model):
    """One prompt of a set.

    `images` is how many the weights were fitted on, `adds` the MMD^2 that the set would lose without it.
    """

    prompt: str
    negative_prompt: str | None = None
    generation_parameters: dict[str, int | float | str] = {}
    weight: float
    images: int
    adds: float

    @property
    def candidate(self) -> Candidate:
        """The prompt as a value."""
        return Candidate(self.prompt, self.negative_prompt, dict(self.generation_parameters))


class PromptSet(_Model):
    """Prompts with weights whose images together come near to the real images of a class.

    Example:
        >>> pair = PromptSet(
        ...     prompts=[
        ...         WeightedPrompt(prompt="a dim polyp", weight=0.75, images=8, adds=0.1),
        ...         WeightedPrompt(prompt="a bright polyp", weight=0.25, images=8, adds=0.02),
        ...     ]
        ... )
        >>> [one.prompt for one in pair.spread(4, seed=0)].count("a dim polyp")
        3
    """

    prompts: list[WeightedPrompt]

    @property
    def weights(self) -> dict[Candidate, float]:
        """Candidate -> weight, the largest first."""
        return {one.candidate: one.weight for one in self.prompts}

    def spread(self, count: int, *, seed: int) -> list[Candidate]:
        """`count` candidates, each as often as its weight says, in an order drawn from `seed`."""
        return spread(self.weights, count, seed=seed)


class LearnedTemplate(_Model):
    """A template with fitted weights: a distribution over prompts that can be sampled without end.

    `template` is in the prompt language, weights and all, and needs no wildcards. `pairs` are slots that are
    drawn together, as one choice of the template; `weights` has each slot's own share of it.

    Example:
        >>> learned = LearnedTemplate(
        ...     template="a {90::dim|10::bright} polyp",
        ...     weights={"slot1": {"dim": 0.9, "bright": 0.1}},
        ...     strength=0.1,
        ... )
        >>> [str(one) for one in learned.sample(2, seed=0)]
        ['a dim polyp', 'a bright polyp']
        >>> learned.sample(9, seed=0)[:2] == learned.sample(2, seed=0)
        True
    """

    template: str
    weights: dict[str, dict[str, float]]  # slot -> option -> probability
    pairs: list[tuple[str, str]] = []
    strength: float
    predicted: EstimateEntry | None = None

    def space(self) -> PromptSpace:
        """The compiled template."""
        return compile_template(self.template)

    def sample(self, count: int, *, seed: int) -> list[Candidate]:
        """`count` candidates drawn from it."""
        space, rng = self.space(), np.random.default_rng([seed, 0x1EA2])
        return [space.candidate(space.sample(rng)) for _ in range(count)]


class CertificateEntry(_Model):
    """See `promptopt.search.sets.certificate.Certificate`."""

    bound: float
    expected: float
    probability: float
    share: float | None
    prompts: int
    complete: bool
    sentence: str


class DistancesEntry(_Model):
    """How far the prompts of a set are from each other, by words or by a sentence model.

    `between` is in the order of the set; `mean` that of the prompts of two images, drawn by weight (Rao's
    quadratic entropy), `nearest` that of the nearest two prompts.
    """

    measure: str
    mean: float
    nearest: float
    between: list[list[float]]

    @property
    def sentence(self) -> str:
        """In one line."""
        return (
            f"Its prompts are {self.mean:.2f} from each other on average, the nearest two {self.nearest:.2f} "
            f"({self.measure})."
        )


class SizeEntry(_Model):
    """Closeness of the best set of `prompts` prompts on the images fitted to, and on those held out."""

    prompts: int
    fitted: float
    held_out: EstimateEntry


class ComparisonEntry(_Model):
    """The set, or the learned template, minus another method; `better` after Holm's correction."""

    first: str
    second: str
    metric: Literal["closeness", "second_encoder", "accuracy"]
    difference: EstimateEntry
    p_value: float
    p_adjusted: float
    verdict: Literal["better", "worse", "unclear"]


class ClassEntry(_Model):
    """One class of the study."""

    label: str
    category: str
    baseline: str
    real_images: dict[str, int]
    set: PromptSet
    learned: LearnedTemplate | None
    single: WeightedPrompt
    sizes: list[SizeEntry]
    certificate: CertificateEntry | None
    prompts_in_space: int
    prompts_measured: int
    images_in_search: int
    stopped: str
    closeness: dict[str, EstimateEntry]
    second_encoder: dict[str, EstimateEntry] = {}
    comparisons: list[ComparisonEntry]
    metrics: dict[str, dict[str, EstimateEntry]] = {}
    distances: DistancesEntry | None = None  # of a set of one prompt, and in files of earlier versions
    generators: dict[str, Network] = {}  # by member name, where the class varied generator or lora_scale

    def draw(
        self, method: str, count: int, *, seed: int, space: PromptSpace | None = None
    ) -> list[Candidate]:
        """`count` candidates, one an image: of "set", "learned", "baseline", "single" or "random" prompts.

        Those of "learned" and "random" are drawn one by one, so more of them leave the first as they are.

        Args:
            space: the compiled template; for "random" alone.

        Raises:
            StudyError: an unknown method, no learned template, or "random" without a template.
        """
        if method == "set":
            return self.set.spread(count, seed=seed)
        if method == "baseline":
            return [Candidate(self.baseline)] * count
        if method == "single":
            return [self.single.candidate] * count
        if method == "learned":
            if self.learned is None:
                raise StudyError(
                    f"prompts.json: {self.label}: there is no learned template, as too few prompts of the "
                    "template were measured. Take the set."
                )
            return self.learned.sample(count, seed=seed)
        if method == "random" and space is not None:
            rng = np.random.default_rng([seed, 0x4A2D])
            return [space.candidate(space.sample(rng)) for _ in range(count)]
        raise StudyError(f"{method!r} cannot be drawn; take one of {', '.join(METHODS)}.")


class SetList(_Model):
    """The whole file."""

    format: Literal["promptopt-sets"] = SETS
    version: Literal[1] = 1
    study: str
    sentence: str
    classes: list[ClassEntry]
    accuracy: dict[str, EstimateEntry] = {}
    comparisons: list[ComparisonEntry] = []
    generator: Network
    encoder: Network
    second_encoder: Network | None = None
    encoder_checks: list[EncoderCheckEntry] = []  # absent in files of earlier versions
    data: str
    seeds: Seeds
    settings: dict[str, Any]
    versions: dict[str, str]

    def of(self, label: str) -> ClassEntry:
        """The class of a label. Raises StudyError for another one."""
        for entry in self.classes:
            if entry.label == label:
                return entry
        raise StudyError(
            f"prompts.json: there is no class {label!r}; classes: {', '.join(c.label for c in self.classes)}."
        )

    def confirmed(self, label: str, method: str) -> list[Candidate]:
        """The candidate at each confirmation seed of a class, by one of `CONFIRMED`."""
        count = len(self.seeds.confirmation)
        panel = seed_panel(self.seeds.study, search_images=0, confirm_images=0)
        return self.of(label).draw(method, count, seed=dealing_seed(panel.metrics))


def spread(weights: Mapping[Candidate, float], count: int, *, seed: int) -> list[Candidate]:
    """`count` candidates by systematic sampling of their weights, shuffled: each within one of its share."""
    rng = np.random.default_rng([seed, 0x5E7])
    ends = np.cumsum(list(weights.values()))
    places = (rng.permutation(count) + 0.5) / count * ends[-1]
    chosen: Sequence[int] = np.minimum(np.searchsorted(ends, places, side="right"), len(ends) - 1).tolist()
    candidates = list(weights)
    return [candidates[i] for i in chosen]


def dealing_seed(metrics: int) -> int:
    """The seed with which a study's confirmation deals prompts to its image seeds.

    Args:
        metrics: of the study's seed panel.
    """
    return derived_seed(metrics, 0x3E7)


def write_sets(path: Path, sets: SetList) -> Path:
    """Write atomically, in one canonical form."""
    content = sets.model_dump(mode="json")
    return write_json(path, summed(content), ensure_ascii=False, allow_nan=False)


def read_sets(path: str | Path) -> SetList:
    """Read and check a prompts.json of sets.

    Raises:
        StudyError: missing, not JSON, of another format, or not what its checksum says (files of earlier
            versions have none).
    """
    return read_json(SetList, path, error=StudyError, remedy=AGAIN, summed=True)
