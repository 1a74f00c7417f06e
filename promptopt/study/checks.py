"""The first pass over a study: everything that can be checked before a network is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from promptopt.base.seeds import SeedPanel, seed_panel
from promptopt.config.study_file import StudyConfig, StudyError
from promptopt.formatting.numbers import count
from promptopt.search.candidates import ENUMERABLE, Candidates
from promptopt.search.optuna_samplers import SamplerError, check_sampler
from promptopt.search.racing import stages
from promptopt.search.samplers import Sampling, resolve
from promptopt.space import Candidate, PromptSpace
from promptopt.space.of_category import compile_space, open_category
from promptopt.study.opening import open_data, picture_digests
from promptopt.study.warm_start import earlier_winners
from studies.category import Category
from studies.dataset import FEWEST, POOLS, Dataset

if TYPE_CHECKING:
    from promptopt.scoring.objective import ImageMetric


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a study is about.

    Attributes:
        space: the prompts; `candidates` lists them with their choices when there are at most 20,000.
        sampling: how the search proposes prompts.
        texts: class name -> fixed texts for the alignment; the category's own is `category.name`.
        positives, negatives: the real images, all pools.
        panel: every seed of the study.
        pictures: file name -> sha256 of every real picture.
    """

    config: StudyConfig
    category: Category
    space: PromptSpace
    candidates: Mapping[Candidate, Mapping[str, str]] | None
    sampling: Sampling
    texts: Mapping[str, list[str]]
    data: Dataset
    positives: Dataset
    negatives: Dataset
    positive_name: str
    panel: SeedPanel
    pictures: Mapping[str, str]


def check(config: StudyConfig, *, store: Path, metrics: Sequence[ImageMetric] = ()) -> Checked:
    """Read category, template, earlier runs and data. Raises StudyError with the key at fault."""
    category = open_category(config)
    space = compile_space(category, config.source)
    _check_negative(config, category)
    listed = space.distinct(ENUMERABLE + 1) if space.size <= ENUMERABLE else None
    candidates = Candidates(space, listed)
    prompts = None if candidates.listed is None else len(candidates.listed)
    _check_sampler(config, prompts)
    terms = _pareto_terms(config, metrics)
    texts = fixed_texts(category)
    first = earlier_winners(config, space, label=config.positives or category.name)
    panel = seed_panel(
        config.seed,
        search_images=max(config.set.most_images, 2 * config.set.images)
        if config.aim == "set"
        else stages(config.search.images, racing=config.search.racing)[-1],
        confirm_images=config.confirm_images,
        sampler=config.search.seed,
    )
    data = open_data(config, store)
    pictures = {} if config.data is None else picture_digests(config, data, store)
    name, positives, negatives = _split(config, category, data)
    return Checked(
        config=config,
        category=category,
        space=space,
        candidates=listed,
        sampling=Sampling(
            candidates=candidates,
            name=resolve(config.search.sampler, prompts=prompts, trials=config.search.trials),
            seed=panel.sampler,
            terms=terms,
            first=first,
        ),
        texts=texts,
        data=data,
        positives=positives,
        negatives=negatives,
        positive_name=name,
        panel=panel,
        pictures=pictures,
    )


def _check_negative(config: StudyConfig, category: Category) -> None:
    chosen = config.generator.negative_prompt
    if chosen is not None and category.negative_template is not None:
        raise StudyError(
            f"{config.source}: generator.negative_prompt: {chosen!r} fixes what the negative_template of the "
            f"category {category.name} varies. Leave one of them out."
        )


def _check_sampler(config: StudyConfig, prompts: int | None) -> None:
    try:
        check_sampler(config.search.sampler)
    except SamplerError as error:
        raise StudyError(f"{config.source}: {error}") from error
    if config.search.sampler == "enumerate" and (prompts is None or prompts > config.search.trials):
        count = "more than 20,000" if prompts is None else str(prompts)
        raise StudyError(
            f"{config.source}: search.sampler: 'enumerate' tries every prompt, and there are {count} for "
            f"{config.search.trials} trials. Raise search.trials, or choose 'gp'."
        )


def _pareto_terms(config: StudyConfig, metrics: Sequence[ImageMetric]) -> tuple[str, ...]:
    """Names of the terms of a study with a Pareto front; none for one score."""
    if config.mode == "score":
        return ()
    names = [name for name, weight in config.single_score.model_dump().items() if weight > 0]
    names += [metric.name for metric in metrics if metric.weight > 0]
    if len(names) < 2:
        raise StudyError(
            f"{config.source}: mode: 'pareto' needs two terms or more with a weight above 0, and there is "
            f"{names}. Raise another weight in `score`, or use mode: score."
        )
    return tuple(names)


def _split(config: StudyConfig, category: Category, data: Dataset) -> tuple[str, Dataset, Dataset]:
    name = config.positives or category.name
    categories = {record.category for record in data}
    if config.data is None:
        return name, data, data
    key = "category" if name in categories else "label"
    chosen = [getattr(record, key) == name for record in data]
    positives, negatives = (
        Dataset(data.root, tuple(r for r, c in zip(data, chosen, strict=True) if c is side), data.fingerprint)
        for side in (True, False)
    )
    if not len(positives):
        labels = {record.label for record in data}
        raise StudyError(
            f"{config.source}: positives: no image of {data.root} has the category or label {name!r}. "
            f"Categories there: {_list(categories)}; labels: {_list(labels)}."
        )
    for pool in POOLS:
        for what, part in ((repr(name), positives), (f"anything but {name!r}", negatives)):
            there = len(part.where(pool=pool))
            if there < FEWEST:
                raise StudyError(
                    f"{config.source}: data: {data.root}, pool {pool!r}: {count(there, 'image')} of {what}, "
                    f"at least {FEWEST} are needed. Add images, or share the pools out anew "
                    "(promptopt data select --shares)."
                )
    return name, positives, negatives


def _list(values: set[str]) -> str:
    shown = sorted(values)[:20]
    return ", ".join(shown) + (", ..." if len(values) > 20 else "")


def fixed_texts(category: Category) -> dict[str, list[str]]:
    """The classes that an image is compared with: name -> texts, the category's own first.

    All of them stand in the category's file, so that a copy of a shipped one measures what that one does.
    """
    texts = {category.name: list(category.texts)}
    for name, lines in category.distractors.items():
        texts.setdefault(name, list(lines))
    if len(texts) < 2:
        raise StudyError(
            f"category {category.name}: distractors: none given, so alignment has nothing to compare with. "
            "Add at least one class of texts that the images should not show."
        )
    return texts
