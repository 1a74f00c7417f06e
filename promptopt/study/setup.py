"""Everything a study needs, opened and checked before the first image is made, in three passes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.encoders.base import TextEncoder
from generators.family import GeneratorFamily
from promptopt.base.devices import resolve_device
from promptopt.config.study_file import StudyConfig, StudyError
from promptopt.run.folder import BUDGETS
from promptopt.space import Candidate
from promptopt.space.token_limit import describe, too_long
from promptopt.study.checks import Checked, check
from promptopt.study.encoders import EncoderChecks, check_image_encoder, compare_encoders
from promptopt.study.guards import refuse_embedded
from promptopt.study.opening import Networks, open_networks
from studies.category import Category

if TYPE_CHECKING:
    from evaluation.classifier.judge import Judge
    from evaluation.encoders.base import Encoder
    from generators.base import Generator
    from generators.making.makers import Makers
    from generators.request import ImageRequest
    from promptopt.review.preferences import PreferenceMetric
    from promptopt.scoring.objective import ImageMetric


@dataclass(frozen=True, kw_only=True)
class Setup(Checked):
    """A checked study with its networks.

    Attributes:
        opinion: what experts think of prompts.
        second: an encoder that the search never sees, for the confirmation.
        device: where networks run, as the caller said.
        encoder_checks: what probes on real images say of the encoders, beside thumbnails.
        identity: all that decides the results; a run that is resumed must have the same.
    """

    generator: Generator
    encoder: Encoder
    second: Encoder | None
    judge: Judge | None
    opinion: PreferenceMetric | None
    device: str
    identity: Mapping[str, Any]
    encoder_checks: EncoderChecks = field(default_factory=EncoderChecks)

    @property
    def negative_prompt(self) -> str:
        """What guidance leads away from, the same for every prompt."""
        return fixed_negative(self.config, self.category)

    @property
    def baseline(self) -> Candidate:
        """The plain prompt that every other one is compared with."""
        return Candidate(self.category.baseline)

    def request(self, candidate: Candidate, seed: int) -> ImageRequest:
        """One image of a candidate; what it does not name is the study's."""
        return _request(self, self.generator, candidate, seed)


def prepare(
    config: StudyConfig,
    *,
    store: Path,
    device: str = "auto",
    generator: Generator | None = None,
    encoder: Encoder | None = None,
    judge: Judge | None = None,
    metrics: Sequence[ImageMetric] = (),
    compare_encoder: bool = True,
    makers: Makers | None = None,
) -> Setup:
    """Check all that needs no network, open the networks, and check all that needs them.

    Args:
        generator, encoder, judge: in place of those that the study file names.
        compare_encoder: whether the encoders are compared with thumbnails on the real images.
        makers: open the generator that the study names; this process by default.

    Raises:
        StudyError: anything missing, empty, contradictory, a prompt over the generator's token limit, or an
            embedded network for images that are not the phantom's, or an encoder worse than thumbnails.
    """
    if generator is None or encoder is None:
        resolve_device(device, error=StudyError)
    checked = check(config, store=store, metrics=metrics)
    refuse_embedded(
        config, checked.data, given=[("generator", generator), ("encoder", encoder), ("judge", judge)]
    )
    networks = open_networks(
        config,
        checked.category,
        device=device,
        generator=generator,
        encoder=encoder,
        judge=judge,
        makers=makers,
    )
    sample = _check_networks(checked, networks)
    checks = EncoderChecks()
    if compare_encoder and config.data is not None:
        checks = compare_encoders(
            config,
            {checked.category.name: checked.positives},
            checked.data,
            networks.encoder,
            networks.second,
            store=store,
        )
    return Setup(
        **_contents(checked),
        **_contents(networks),
        device=device,
        encoder_checks=checks,
        identity=_identity(checked, networks, sample, metrics),
    )


def fixed_negative(config: StudyConfig, category: Category) -> str:
    """The negative prompt of a candidate that has none of its own."""
    chosen = config.generator.negative_prompt
    return category.negative_prompt if chosen is None else chosen


def _contents(values: Checked | Networks) -> dict[str, Any]:
    return {one.name: getattr(values, one.name) for one in fields(values)}


def _request(checked: Checked, generator: Generator, candidate: Candidate, seed: int) -> ImageRequest:
    own = checked.config.generator
    chosen = candidate.negative_prompt
    settings: dict[str, Any] = {
        "steps": own.steps,
        "guidance": own.guidance,
        "scheduler": own.scheduler,
        **candidate.generation_parameters,
    }
    negative = fixed_negative(checked.config, checked.category) if chosen is None else chosen
    return generator.request(candidate.prompt, seed, negative_prompt=negative, **settings)


def _check_networks(checked: Checked, networks: Networks) -> dict[str, Any]:
    """Whether the networks can do what the study asks; a request of the baseline, as plain values."""
    category, where = checked.category, checked.config.source
    _check_tokens(checked, networks.generator)
    if isinstance(networks.encoder, TextEncoder):
        _check_texts(checked, networks.encoder)
    else:
        check_image_encoder(checked.config)
    judge = networks.judge
    if judge is not None and category.name not in judge.names["category"]:
        raise StudyError(
            f"{where}: judge: it does not know the category {category.name!r}, only "
            f"{', '.join(judge.names['category'])}. Remove `judge`, or train one that does."
        )
    seed = checked.panel.search[0]
    try:
        sample = asdict(_request(checked, networks.generator, Candidate(category.baseline), seed))
        for name, values in category.generation_parameters.items():
            for value in values:
                one = Candidate(category.baseline, None, {name: value})
                _request(checked, networks.generator, one, seed)
    except ValueError as error:  # a scheduler or size that the generator does not have
        raise StudyError(f"{where}: generator: {error}") from error
    return sample


def _check_tokens(checked: Checked, generator: Generator) -> None:
    config, category, candidates = checked.config, checked.category, checked.candidates
    if candidates is not None:
        found = list(candidates)
    else:  # too many to list
        found = [checked.space.candidate(checked.space.longest(generator.count_tokens))]
    prompts = list(dict.fromkeys(one.prompt for one in found))
    negatives = list(dict.fromkeys(one.negative_prompt for one in found if one.negative_prompt is not None))
    negatives.append(fixed_negative(config, category))
    for what, texts in (
        ("prompts", prompts),
        ("baseline prompts", [category.baseline]),
        ("negative prompts", negatives),
    ):
        if long := too_long(texts, generator):
            scope = f"{len(long)} of {len(texts)}" if candidates is not None else "at least the longest"
            raise StudyError(
                f"{config.source}: category {category.name}: {scope} {what} exceed the generator's limit of "
                f"{generator.max_tokens} tokens and would be cut off; the longest has {long[0].count}:\n"
                f"{describe(long)}\nShorten the options."
            )


def _check_texts(checked: Checked, encoder: TextEncoder) -> None:
    for name, lines in checked.texts.items():
        for text in lines:
            count = encoder.count_tokens(text)
            if count > encoder.context_length:
                raise StudyError(
                    f"{checked.config.source}: category text of {name!r} has {count} tokens, the encoder "
                    f"reads {encoder.context_length}: {text!r}. Shorten it, or choose another encoder."
                )


def _identity(
    checked: Checked, networks: Networks, sample: Mapping[str, Any], metrics: Sequence[ImageMetric]
) -> dict[str, Any]:
    """Settings and fingerprints that decide the results; no paths, as the same content elsewhere is equal."""
    config, family, opinion = checked.config, networks.generator, networks.opinion
    drawn = {key: value for key, value in sample.items() if key not in ("prompt", "seed", "generator")}
    search, confirm = config.search.model_dump(mode="json"), config.confirm.model_dump(mode="json")
    for budget in BUDGETS:
        del search[budget]
    search["warm_start"] = [checked.space.candidate(choice).to_json() for choice in checked.sampling.first]
    if not config.confirm.captions:
        del confirm["captions"]  # as in runs from before the setting
    confirm["second_encoder"] = networks.second.fingerprint if networks.second is not None else None
    return {
        "category": checked.category.model_dump(mode="json"),
        "texts": _digest(checked.texts),
        "positives": checked.positive_name,
        "data": checked.data.fingerprint,
        "pictures": _digest(dict(checked.pictures)),
        "generator": {"fingerprint": sample["generator"], **drawn},
        **({"generators": family.fingerprints} if isinstance(family, GeneratorFamily) else {}),
        "encoder": networks.encoder.fingerprint,
        "judge": networks.judge.fingerprint if networks.judge is not None else None,
        "mode": config.mode,
        "search": search,
        "constraints": config.constraints.model_dump(mode="json"),
        "score": config.single_score.model_dump(mode="json"),
        "metrics": {m.name: [m.weight, m.greater_is_better, m.version] for m in metrics},
        **(
            {"preference": [opinion.fingerprint, config.preference.weight]}
            if opinion is not None and config.preference is not None
            else {}
        ),
        "confirm": confirm,
        "seed": config.seed,
    }


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
