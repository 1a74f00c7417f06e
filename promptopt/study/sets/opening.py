"""A study of sets, opened and checked: each class as a study of one, all with the same networks and seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptopt.config.study_file import StudyConfig, StudyError
from promptopt.space.captions import caption_prompts
from promptopt.space.of_category import class_studies
from promptopt.space.token_limit import describe, too_long
from promptopt.study.encoders import EncoderChecks, compare_encoders
from promptopt.study.setup import Setup, prepare

if TYPE_CHECKING:
    from evaluation.classifier.judge import Judge
    from evaluation.encoders.base import Encoder
    from generators.base import Generator
    from generators.making.makers import Makers

LEAST_REAL = 8
"""Fewest real images of a class, reference and validation pool together, that a set can be fitted to."""


@dataclass(frozen=True, kw_only=True)
class SetSetup:
    """A checked study of sets.

    Attributes:
        classes: label -> the same study as one of that class alone.
        identity: all that decides the results; a run that is resumed must have the same.
        encoder_checks: what probes on real images say of the encoders, beside thumbnails.
    """

    config: StudyConfig
    classes: Mapping[str, Setup]
    identity: Mapping[str, Any]
    encoder_checks: EncoderChecks = field(default_factory=EncoderChecks)

    @property
    def first(self) -> Setup:
        """The first class's: networks, data and seeds are the same for all."""
        return next(iter(self.classes.values()))

    @property
    def generator(self) -> Generator:
        """The generator."""
        return self.first.generator

    @property
    def encoder(self) -> Encoder:
        """The search's encoder."""
        return self.first.encoder

    @property
    def second(self) -> Encoder | None:
        """The encoder that only the confirmation asks, or None."""
        return self.first.second

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the study file's order."""
        return tuple(self.classes)


def prepare_sets(
    config: StudyConfig,
    *,
    store: Path,
    device: str = "auto",
    generator: Generator | None = None,
    encoder: Encoder | None = None,
    judge: Judge | None = None,
    makers: Makers | None = None,
) -> SetSetup:
    """Open and check everything; the objects given replace those that the study file names.

    Raises:
        StudyError: as `promptopt.study.setup.prepare`, two classes with one category's name, a class with
            too few real images, or an encoder that does worse than thumbnails.
    """
    setups: dict[str, Setup] = {}
    through = config.closeness.through
    for label, own in class_studies(config).items():
        setup = prepare(
            own,
            store=store,
            device=device,
            generator=generator,
            encoder=encoder,
            judge=judge,
            compare_encoder=False,
            makers=makers,
        )
        generator, encoder, judge = setup.generator, setup.encoder, setup.judge
        if through == "autoencoder" and not hasattr(generator, "reconstruct"):
            raise StudyError(
                f"{config.source}: closeness.through: the generator {generator.uri} has no autoencoder. "
                "Remove the key."
            )
        seen = [len(setup.positives.where(pool=pool)) for pool in ("reference", "validation")]
        if sum(seen) < LEAST_REAL:
            raise StudyError(
                f"{config.source}: classes.{label}: {sum(seen)} real images in the pools reference and "
                f"validation, at least {LEAST_REAL} are needed to fit a set to. Add images."
            )
        if own.confirm.captions:
            _check_captions(setup, f"{config.source}: confirm.captions")
        setups[label] = setup
    first = next(iter(setups.values()))
    classes = {label: own.positives for label, own in setups.items()}
    checks = compare_encoders(config, classes, first.data, first.encoder, first.second, store=store)
    return SetSetup(config=config, classes=setups, identity=_identity(config, setups), encoder_checks=checks)


def _check_captions(setup: Setup, where: str) -> None:
    captions = [prompt for prompt, _ in caption_prompts(setup.positives, setup.positive_name)]
    if not captions:
        raise StudyError(f"{where}: no real image of {setup.positive_name!r} has a caption. Set it to false.")
    if long := too_long(captions, setup.generator):
        raise StudyError(
            f"{where}: {len(long)} captions exceed the generator's limit of {setup.generator.max_tokens} "
            f"tokens:\n{describe(long)}\nShorten them, or set it to false."
        )


def _identity(config: StudyConfig, setups: Mapping[str, Setup]) -> dict[str, Any]:
    """What every class's study depends on, and what only a search for sets has."""
    settings = config.set.model_dump(mode="json")
    for key in (
        "budget",
        "prompts",
        "tolerance",
        "min_distance",
        "sentence_model",
    ):  # they say when it ends and what is made of it
        settings.pop(key)
    return {
        "aim": "set",
        "classes": {label: dict(setup.identity) for label, setup in setups.items()},
        "set": settings,
        "set_score": config.set_score.model_dump(mode="json"),
        **({} if config.closeness.through == "nothing" else {"closeness": config.closeness.through}),
    }
