"""prompts.json: the confirmed prompts, with all that is needed to make every image again.

The file holds no time and no machine's path, so two identical runs write identical bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from evaluation.estimate import Estimate
from generators.family import split_settings
from promptopt.base.checksums import summed
from promptopt.base.files import write_json
from promptopt.base.settings import read_json
from promptopt.config.study_file import StudyError
from promptopt.formatting.numbers import in_cell
from promptopt.space import Candidate

if TYPE_CHECKING:
    from evaluation.report.encoder_check import EncoderCheck

VERSION = 2  # of the file
AGAIN = (
    "Run the study's command again, with the same --runs and --store: it draws nothing anew, and writes the "
    "file anew."
)
DIGITS = 6  # significant digits of every number written


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class EstimateEntry(_Model):
    """An `Estimate` as written: value and interval rounded to 6 significant digits."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    method: str
    status: Literal["ok", "unreliable", "undefined"]

    @classmethod
    def of(cls, estimate: Estimate) -> EstimateEntry:
        """From an Estimate, rounded."""
        return cls(
            value=rounded(estimate.value),
            low=rounded(estimate.low),
            high=rounded(estimate.high),
            n=estimate.n,
            method=estimate.method,
            status=estimate.status,
        )

    def estimate(self) -> Estimate:
        """Back to an Estimate."""
        return Estimate(**self.model_dump())


class IndependentCheckEntry(_Model):
    """What another encoder, or the judge, says of a prompt: its gain over the baseline on the same seeds, the
    p-value adjusted over the prompts (Holm), by how much the search's encoder sees more than it (`gap`, both
    as means over their terms), and what it measured besides."""

    gain: EstimateEntry
    p_value: float
    gap: EstimateEntry | None = None
    estimates: dict[str, EstimateEntry] = {}


class PromptEntry(_Model):
    """One prompt. `search` is empty for the baseline and for prompts given by hand.

    `negative_prompt` and `generation_parameters` are its own, where the study varied them, and `on_front` is
    there where the terms of the score were kept apart; the file leaves them out where they were not.
    `p_value` is adjusted over the prompts (Holm); `shrunken` joins the fresh scores and the search's model;
    `optimism` is the search score minus the fresh one.
    """

    rank: int
    prompt: str
    negative_prompt: str | None = None
    generation_parameters: dict[str, int | float | str] | None = None
    slots: dict[str, str] | None
    weight: float
    tied_with_first: bool
    behind_first: EstimateEntry | None
    better_than_baseline: bool = False
    p_value: float | None = None
    contradicted_by: str | None = None
    on_front: bool | None = None
    shrunken: EstimateEntry | None = None
    optimism: EstimateEntry | None = None
    search: dict[str, EstimateEntry]
    confirmation: dict[str, EstimateEntry]
    independent_checks: dict[str, IndependentCheckEntry] = {}

    @property
    def label(self) -> str:
        """Its name for people: the prompt, where nothing else varies."""
        return self.candidate.label

    @property
    def candidate(self) -> Candidate:
        """The prompt with what it was drawn with."""
        return Candidate(self.prompt, self.negative_prompt, self.generation_parameters or {})

    @model_serializer(mode="wrap")
    def _without_unvaried(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        unvaried = ("negative_prompt", "generation_parameters", "on_front")
        return {key: value for key, value in content.items() if key not in unvaried or value is not None}


class BaselineEntry(_Model):
    """The plain prompt that the others are compared with, measured on the same seeds."""

    prompt: str
    search: dict[str, EstimateEntry]
    confirmation: dict[str, EstimateEntry]

    @property
    def candidate(self) -> Candidate:
        """The plain prompt, as `PromptEntry.candidate`."""
        return Candidate(self.prompt)


class Network(_Model):
    """A network by the address in the study file and the hash of its weights."""

    uri: str
    fingerprint: str


class EncoderCheckEntry(_Model):
    """Probes on an encoder's features of real images and on thumbnails of them; see `EncoderCheck`."""

    uri: str
    encoder: EstimateEntry
    thumbnails: EstimateEntry
    difference: EstimateEntry
    classes: int
    verdict: Literal["better", "unclear", "worse", "unknown"]
    sentence: str

    @classmethod
    def of(cls, check: EncoderCheck, uri: str, *, images: str) -> EncoderCheckEntry:
        """What is written of the check of the encoder at `uri` on `images`, as they are called."""
        return cls(
            uri=uri,
            encoder=EstimateEntry.of(check.encoder),
            thumbnails=EstimateEntry.of(check.thumbnails),
            difference=EstimateEntry.of(check.difference),
            classes=check.classes,
            verdict=check.verdict,
            sentence=check.sentence(uri, images=images),
        )


class Seeds(_Model):
    """Image seeds of both stages, in order, and the study's own."""

    study: int
    sampler: int
    search: list[int]
    confirmation: list[int]


class MixtureEntry(_Model):
    """Prompts with their shares, and what is measured of a mixture of their images."""

    weights: dict[str, float]
    estimates: dict[str, EstimateEntry]


class PortfolioEntry(_Model):
    """How the weights were chosen, and what they gain on images and real ones that they were not fitted to.

    `compared` holds the mixtures "portfolio", "single_best" and "uniform_top"; `differences` the portfolio
    minus each of the others, by metric.
    """

    method: str
    distance: str
    alignment_floor: float | None
    left_out: dict[str, str]
    images_fitted: int
    images_compared: int
    compared: dict[str, MixtureEntry]
    differences: dict[str, dict[str, EstimateEntry]]


class PromptList(_Model):
    """The whole file. `prompts`, the baseline among them, are in order of the confirmation score; `tied` are
    the labels of those that may be best."""

    format: Literal["promptopt-prompts"] = "promptopt-prompts"
    version: Literal[2] = 2
    study: str
    category: str
    baseline: BaselineEntry
    prompts: list[PromptEntry]
    tied: list[str]
    optimism: EstimateEntry | None = None
    weights_note: str
    portfolio: PortfolioEntry | None = None  # absent in files of earlier versions
    prompts_in_space: int
    prompts_scored: int
    images_in_search: int | None = None
    stopped: str = ""
    generator: Network
    generators: dict[str, Network] = {}  # by member name, where the study varied generator or lora_scale
    encoder: Network
    second_encoder: Network | None = None
    encoder_checks: list[EncoderCheckEntry] = []  # absent in files of earlier versions
    judge: Network | None
    data: str
    seeds: Seeds
    settings: dict[str, Any]
    versions: dict[str, str]

    @property
    def sentence(self) -> str:
        """What was shown of the first prompt."""
        first = self.prompts[0]
        if first.candidate == self.baseline.candidate:
            return f"No prompt did better than the baseline, {first.label!r}."
        score = in_cell(first.confirmation.get("score"), "+.2f")
        shown = "better than the baseline" if first.better_than_baseline else "not shown to be better"
        return f"{first.label!r}: {score} SD, {shown}."

    @property
    def alpha(self) -> float:
        """The level of the confirmation's tests, over all prompts together."""
        return float(self.settings.get("confirm", {}).get("alpha", 0.05))

    def verdict(self, entry: PromptEntry) -> str | None:
        """Beside the baseline: better, worse or unclear; None for the baseline itself.

        A prompt that an independent check contradicts is unclear.
        """
        if entry.candidate == self.baseline.candidate:
            return None
        if entry.contradicted_by is not None:
            return "unclear"
        if entry.better_than_baseline:
            return "better"
        score = entry.confirmation.get("score")
        below = score is not None and (score.value or 0.0) < 0
        return "worse" if entry.p_value is not None and entry.p_value < self.alpha and below else "unclear"

    def drawn_with(self, settings: Mapping[str, Any] | None) -> Network:
        """The generator that a prompt's settings name. Raises StudyError for a file that does not say."""
        name, _ = split_settings(settings or {})
        if not self.generators:
            return self.generator
        if name not in self.generators:
            raise StudyError(f"prompts.json: generators: has no {name!r}. Run the study again.")
        return self.generators[name]

    @model_serializer(mode="wrap")
    def _without_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        if not self.generators:
            del content["generators"]
        return content


def write_prompts(path: Path, prompts: PromptList) -> Path:
    """Write atomically, in one canonical form."""
    content = prompts.model_dump(mode="json")
    return write_json(path, summed(content), ensure_ascii=False, allow_nan=False)


def read_prompts(path: str | Path) -> PromptList:
    """Read and check a prompts.json.

    Raises:
        StudyError: missing, not JSON, not in this format, or not what its checksum says (files of earlier
            versions have none).
    """
    return read_json(PromptList, path, error=StudyError, remedy=AGAIN, summed=True)


def rounded(value: float | None) -> float | None:
    """The value to `DIGITS` significant digits."""
    return None if value is None else float(f"{value:.{DIGITS}g}")
