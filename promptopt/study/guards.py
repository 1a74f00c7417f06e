"""What must be said before the first image is made: networks that do not fit the images, too few images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evaluation.encoders.base import TextEncoder
from evaluation.report.calibration import FLOOR
from promptopt.base.errors import PromptoptError
from promptopt.config.study_file import StudyConfig, StudyError
from promptopt.space.emphasis import emphasis_warning
from studies.dataset import CLAIM_FROM, Dataset
from studies.phantom import is_phantom

if TYPE_CHECKING:
    from evaluation.features.feature_store import FeatureStore
    from promptopt.study.setup import Setup

BIOMEDCLIP = "hf:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"
_MOST = 400  # real images of a class, and of the others, that an encoder is tried on


def refuse_embedded(
    config: StudyConfig, data: Dataset, *, given: Sequence[tuple[str, object | None]] = ()
) -> None:
    """Refuse the embedded networks on images that are not the phantom's, unless the study allows it.

    They were trained on the phantom alone: on photographs the generator draws something else, and the encoder
    guesses. Networks that were fine-tuned from them (a folder, `embedded+lora:...`) are the user's own.

    Args:
        given: key of the study file -> the object that takes its place, if any.

    Raises:
        StudyError: naming the key and what to do.
    """
    if config.allow_embedded or config.data is None or is_phantom(data.root):
        return
    replaced = {key for key, network in given if network is not None}
    named = [(key, uri) for key, uri in _networks(config) if key.split(".")[0] not in replaced]
    found = [key for key, uri in named if _is_embedded(uri)]
    if found:
        raise StudyError(
            f"{config.source}: {' and '.join(found)}: embedded was trained on the phantom's drawings alone "
            f"and knows nothing of the images of {config.as_written(str(data.root))}. Fine-tune it on them "
            "(promptopt train sd --init embedded, promptopt train clip --init embedded) and name the "
            "results, or name networks of your domain. --allow-embedded, or allow_embedded: true in the "
            "study, tries it anyway."
        )


def refuse_embedded_encoders(named: Mapping[str, Sequence[str]], data: Path, *, allowed: bool) -> None:
    """The same for a command that measures by encoders: option -> their addresses.

    Raises:
        PromptoptError: naming the option and what to do.
    """
    found = [option for option, uris in named.items() if any(map(_is_embedded, uris))]
    if found and not allowed and not is_phantom(data):
        raise PromptoptError(
            "embedded was trained on the phantom's drawings alone and knows nothing of the images of "
            f"{data}, so its numbers mean nothing there",
            key=" and ".join(found),
            remedy="Fine-tune it on them (promptopt train clip --init embedded) and name the result, or name "
            f"one of your domain (such as {BIOMEDCLIP}). --allow-embedded tries it anyway.",
        )


def _networks(config: StudyConfig) -> Iterator[tuple[str, str]]:
    yield "generator.uri", config.generator.uri
    yield from ((f"generator.named.{name}", uri) for name, uri in config.generator.named.items())
    yield "encoder", config.encoder
    if config.confirm.second_encoder is not None:
        yield "confirm.second_encoder", config.confirm.second_encoder
    if config.judge is not None:
        yield "judge", config.judge


def _is_embedded(uri: str) -> bool:
    """Whether it is an embedded network as it is, by its name or by the path of its folder."""
    base = uri.removeprefix("clip-guided:").partition("?")[0]
    if base == "embedded":
        return True
    import evaluation
    import generators

    homes = [Path(str(package.__file__)).parent / "embedded" for package in (generators, evaluation)]
    return any(Path(base).is_relative_to(home) for home in homes)


def warnings(classes: Mapping[str, Setup], features: FeatureStore) -> list[str]:
    """All that there is to warn of, a sentence or two each.

    Args:
        classes: label -> the checked study of that class; of one without labels, that one.
        features: of the study's store, where what is computed here is found again by the search.
    """
    config = next(iter(classes.values())).config
    return [
        *_emphasis(classes),
        *(_too_few_images(config, classes) if config.aim == "set" else ()),
        *(_weak(classes, features) if config.data is not None else ()),
    ]


def _emphasis(classes: Mapping[str, Setup]) -> Iterator[str]:
    prompts = [own.category.baseline for own in classes.values()]
    for own in classes.values():
        prompts += [fixed for fixed in (own.negative_prompt,) if fixed]
        prompts.append(own.category.template)
        prompts += [option for slot in own.space.slots for option in slot.options]
    if warning := emphasis_warning(prompts):
        yield warning


def _too_few_images(config: StudyConfig, classes: Mapping[str, Setup]) -> Iterator[str]:
    counts = {label: len(own.positives.where(pool="test")) for label, own in classes.items()}
    if few := {label: count for label, count in counts.items() if count < CLAIM_FROM}:
        shown = ", ".join(f"{label}: {count}" for label, count in few.items())
        yield (
            f"the pool test has fewer than {CLAIM_FROM} real images of a class ({shown}), so nothing will be "
            "called better or worse. Add images first, unless you only try things out."
        )
    if config.confirm_images < CLAIM_FROM:
        yield (
            f"confirm.images is {config.confirm_images}, and below {CLAIM_FROM} nothing is called better or "
            "worse. Raise it, unless you only try things out."
        )


def _weak(classes: Mapping[str, Setup], features: FeatureStore) -> Iterator[str]:
    """By the category's texts, as margins are, and by a linear classifier of the pool reference.

    On the real images of the pool validation, which the search may see.
    """
    for label, own in classes.items():
        weak = {by: value for by, value in _aurocs(own, features).items() if value < FLOOR}
        if weak:
            shown = ", ".join(f"{value:.2f} by {by}" for by, value in weak.items())
            yield (
                f"the encoder {own.config.as_written(own.config.encoder)!r} hardly tells real images of "
                f"{label!r} from the others: AUROC {shown}; 0.5 is guessing, {FLOOR:g} the least to rely on. "
                "Train one on your images (promptopt train clip), name one of your domain (such as "
                f"{BIOMEDCLIP}), or better texts and distractors in the category."
            )


def _aurocs(setup: Setup, features: FeatureStore) -> dict[str, float]:
    from evaluation.classifier.probe import fit_probe
    from evaluation.metrics.alignment import class_weights, margins
    from evaluation.metrics.auroc import auroc

    def rows(pool: str) -> tuple[np.ndarray, np.ndarray]:
        parts = [part.where(pool=pool).paths() for part in (setup.positives, setup.negatives)]
        parts = [paths[:: max(1, -(-len(paths) // _MOST))] for paths in parts]
        truth = np.arange(sum(map(len, parts))) < len(parts[0])
        return features.features(setup.encoder, [*parts[0], *parts[1]]), truth

    held_out, truth = rows("validation")
    probe = fit_probe(*rows("reference"), seed=setup.panel.metrics)
    found = {"a linear classifier": auroc(probe.log_odds(held_out), truth)}
    if isinstance(setup.encoder, TextEncoder):
        weights = class_weights(setup.encoder, setup.texts)
        found["the category's texts"] = auroc(margins(held_out, weights, target=setup.category.name), truth)
    return {by: estimate.value for by, estimate in found.items() if estimate.value is not None}
