"""A study looked at before it runs: whether it can, what it will make, what to be warned of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.features.feature_store import FeatureStore
from generators.stores.address import store_folder
from promptopt.base.files import writable_folder
from promptopt.config.study_file import StudyConfig, StudyError
from promptopt.run.prompt_sets import METHODS
from promptopt.scoring.registered import registered_metrics
from promptopt.space.of_category import class_studies, compile_space, open_category
from promptopt.study.guards import warnings
from promptopt.study.setup import Setup, prepare
from studies.dataset import POOLS


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a checked study will do.

    Attributes:
        prompts: label -> prompts of its template.
        real_images: label -> pool -> real images of the class.
        images: most images that it makes.
        warnings: what its results will suffer from.
        setup: of the first class.
    """

    prompts: Mapping[str, int]
    real_images: Mapping[str, Mapping[str, int]]
    images: int
    warnings: tuple[str, ...]
    setup: Setup


def check_study(config: StudyConfig, *, store: Path, device: str = "auto") -> Preview:
    """Open and check all that a run would. Raises StudyError as `promptopt.study.run.run_study` does."""
    store = writable_folder(store_folder(store), "the store", error=StudyError)
    if config.aim == "set":
        from promptopt.study.sets.opening import prepare_sets

        sets = prepare_sets(config, store=store, device=device)
        classes, checks = dict(sets.classes), sets.encoder_checks
    else:
        metrics = tuple(registered_metrics(config.metrics))
        own = prepare(config, store=store, device=device, metrics=metrics)
        classes, checks = {own.positive_name: own}, own.encoder_checks
    return Preview(
        prompts={label: own.space.size for label, own in classes.items()},
        real_images={
            label: {pool: len(own.positives.where(pool=pool)) for pool in POOLS}
            for label, own in classes.items()
        },
        images=most_images(config, [own.space.size for own in classes.values()]),
        warnings=(
            *checks.notices(config),
            *warnings(classes, FeatureStore(store / "features")),
        ),
        setup=next(iter(classes.values())),
    )


def template_sizes(config: StudyConfig) -> list[int]:
    """Prompts of each class's template; opens no data and no network. Raises StudyError as a run would."""
    return [compile_space(open_category(own), config.source).size for own in class_studies(config).values()]


def most_images(config: StudyConfig, prompts: Sequence[int]) -> int:
    """Most images that a study makes; `prompts` are those of each class's template."""
    if config.aim == "set":
        methods = len(METHODS) + config.confirm.captions
        return len(prompts) * (config.set.budget + methods * config.confirm_images)
    made = (min(config.search.trials, *prompts, config.search.trials) + 1) * config.search.images
    made = round(1.25 * made) if config.search.racing else made  # a quarter more in all
    return made + (config.confirm.top + 1) * config.confirm_images
