"""Everything a study needs, opened and checked before the first image is made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generators.family import GeneratorFamily
from promptopt.base.seeds import SeedPanel, seed_panel
from promptopt.config.study_file import StudyConfig, StudyError
from promptopt.portfolio.weigh import check_sentence_model
from promptopt.run.folder import BUDGETS
from promptopt.run.snapshot import read_rows
from promptopt.run.trials import TrialRow, latest
from promptopt.search.candidates import ENUMERABLE, Candidates
from promptopt.search.racing import stages
from promptopt.search.samplers import Sampling, resolve
from promptopt.space import PromptSpace, Variation
from promptopt.space.of_category import compile_space, open_category
from promptopt.space.token_limit import describe, too_long
from promptopt.study.opening import (
    check_given,
    open_data,
    open_encoder,
    open_generator,
    open_judge,
    open_opinion,
    open_second,
)
from studies.category import CATEGORIES, Category, load_category
from studies.dataset import POOLS, Dataset

if TYPE_CHECKING:
    from evaluation.classifier.judge import Judge
    from evaluation.encoders.base import Encoder, TextEncoder
    from generators.base import Generator
    from generators.request import ImageRequest
    from promptopt.review.preferences import PreferenceMetric
    from promptopt.scoring.objective import ImageMetric

_WARM = 4  # prompts taken over from an earlier study
_FEWEST = 4  # positives and negatives a pool needs for any estimate at all


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A checked study.

    Attributes:
        space: the prompts; `candidates` lists them (prompt -> choice) when there are at most 20,000.
        texts: class name -> fixed texts for the alignment; the category's own is `category.name`.
        sampling: how the search proposes prompts.
        positives, negatives: the real images, all pools.
        opinion: what experts think of prompts.
        second: an encoder that the search never sees, for the confirmation.
        device: where networks run, as the caller said.
        identity: all that decides the results; a run that is resumed must have the same.
    """

    config: StudyConfig
    category: Category
    space: PromptSpace
    candidates: Mapping[str, Mapping[str, str]] | None
    sampling: Sampling
    texts: Mapping[str, list[str]]
    data: Dataset
    positives: Dataset
    negatives: Dataset
    positive_name: str
    generator: Generator
    encoder: TextEncoder
    second: Encoder | None
    judge: Judge | None
    opinion: PreferenceMetric | None
    device: str
    panel: SeedPanel
    identity: Mapping[str, Any]

    @property
    def negative_prompt(self) -> str:
        """What guidance leads away from, the same for every prompt."""
        chosen = self.config.generator.negative_prompt
        return self.category.negative_prompt if chosen is None else chosen

    def request(self, prompt: str, seed: int) -> ImageRequest:
        """One image of a prompt, with the study's generator settings.

        A label of a `Variation` brings its own; what it does not name is the study's.
        """
        own = self.config.generator
        variation = Variation.of(prompt)
        chosen = variation.negative_prompt
        settings: dict[str, Any] = {
            "steps": own.steps,
            "guidance": own.guidance,
            "scheduler": own.scheduler,
            **variation.settings,
        }
        negative = self.negative_prompt if chosen is None else chosen
        return self.generator.request(variation.prompt, seed, negative_prompt=negative, **settings)


def prepare(
    config: StudyConfig,
    *,
    store: Path,
    device: str = "auto",
    generator: Generator | None = None,
    encoder: TextEncoder | None = None,
    judge: Judge | None = None,
    metrics: Sequence[ImageMetric] = (),
) -> Setup:
    """Open and check everything; the objects given replace those that the study file names.

    Raises:
        StudyError: anything missing, empty, contradictory, or a prompt over the generator's token limit.
    """
    where = config.source
    category = open_category(config)
    space = compile_space(category, where)
    candidates = space.distinct(ENUMERABLE + 1) if space.size <= ENUMERABLE else None
    _check_sampler(config, candidates)
    check_sentence_model(config)
    data = open_data(config, store)
    name, positives, negatives = _split(config, category, data)
    if generator is None:
        generator = open_generator(config, category.knobs, device)
    else:
        check_given(config, category.knobs, generator)
    _check_tokens(config, category, space, candidates, generator)
    encoder = encoder or open_encoder(config, device)
    texts = fixed_texts(category, shipped=config.category in CATEGORIES)
    _check_texts(texts, encoder, where)
    second = open_second(config, encoder, device)
    judge = judge or open_judge(config, device)
    if judge is not None and category.name not in judge.names["category"]:
        raise StudyError(
            f"{where}: judge: it does not know the category {category.name!r}, only "
            f"{', '.join(judge.names['category'])}. Remove `judge`, or train one that does."
        )
    panel = seed_panel(
        config.seed,
        search_images=stages(config.search.images, racing=config.search.racing)[-1],
        confirm_images=config.confirm.images,
        sampler=config.search.seed,
    )
    setup = Setup(
        config=config,
        category=category,
        space=space,
        candidates=candidates,
        sampling=Sampling(
            candidates=Candidates(space, candidates),
            name=resolve(
                config.search.sampler,
                prompts=None if candidates is None else len(candidates),
                trials=config.search.trials,
            ),
            seed=panel.sampler,
            terms=_terms_apart(config, encoder, metrics),
            first=_earlier_winners(config, space),
        ),
        texts=texts,
        data=data,
        positives=positives,
        negatives=negatives,
        positive_name=name,
        generator=generator,
        encoder=encoder,
        second=second,
        judge=judge,
        opinion=open_opinion(config, category),
        device=device,
        panel=panel,
        identity={},
    )
    try:
        sample = asdict(setup.request(category.baseline, panel.search[0]))
        for name, values in category.knobs.items():
            for value in values:
                setup.request(Variation(category.baseline, settings={name: value}).label, panel.search[0])
    except ValueError as error:  # a scheduler or size that the generator does not have
        raise StudyError(f"{where}: generator: {error}") from error
    object.__setattr__(setup, "identity", _identity(setup, sample, metrics))
    return setup


def _terms_apart(
    config: StudyConfig, encoder: TextEncoder, metrics: Sequence[ImageMetric]
) -> tuple[str, ...]:
    """Names of the terms that a Pareto study keeps apart; none for one score."""
    if config.mode == "score":
        return ()
    names = [name for name, weight in config.score.model_dump().items() if weight > 0]
    names += [metric.name for metric in metrics if metric.weight > 0]
    if len(names) < 2:
        raise StudyError(
            f"{config.source}: mode: 'pareto' needs two terms or more with a weight above 0, and there is "
            f"{names}. Raise another weight in `score`, or use mode: score."
        )
    return tuple(names)


def _earlier_winners(config: StudyConfig, space: PromptSpace) -> tuple[Mapping[str, str], ...]:
    """The best prompts of the earlier studies that this space holds too, the best of each first."""
    found: dict[str, Mapping[str, str]] = {}
    for text in config.search.warm_start:
        try:
            trials = latest(read_rows(config.resolve(text)))
        except StudyError as error:
            raise StudyError(f"{config.source}: search.warm_start: {error}") from error
        rows: list[TrialRow] = sorted(trials, key=lambda row: (-row.value, row.number))
        own = 0
        for row in rows:
            choice = {slot.name: row.choice.get(slot.name) for slot in space.slots}
            if own < _WARM and all(choice[slot.name] in slot.options for slot in space.slots):
                known = {name: str(option) for name, option in choice.items()}
                found.setdefault(space.label(known), known)
                own += 1
        if not own:
            raise StudyError(
                f"{config.source}: search.warm_start: no prompt of {text} fits this study's template; its "
                f"slots are {', '.join(rows[0].choice) if rows else 'unknown'}. Remove it from the list."
            )
    return tuple(found.values())


def _check_sampler(config: StudyConfig, candidates: Mapping[str, Any] | None) -> None:
    if config.search.sampler == "enumerate" and (
        candidates is None or len(candidates) > config.search.trials
    ):
        count = "more than 20,000" if candidates is None else str(len(candidates))
        raise StudyError(
            f"{config.source}: search.sampler: 'enumerate' tries every prompt, and there are {count} for "
            f"{config.search.trials} trials. Raise search.trials, or choose 'gp'."
        )


def _split(config: StudyConfig, category: Category, data: Dataset) -> tuple[str, Dataset, Dataset]:
    name = config.positives or category.name
    categories = {record.category for record in data}
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
        for what, part in (("positive", positives), ("other", negatives)):
            count = len(part.where(pool=pool))
            if count < _FEWEST:
                raise StudyError(
                    f"{config.source}: data: {data.root}, pool {pool!r}: {count} {what} images "
                    f"(positive: {name!r}), at least {_FEWEST} are needed. Add images, or assign "
                    "the pools again."
                )
    return name, positives, negatives


def _list(values: set[str]) -> str:
    shown = sorted(values)[:20]
    return ", ".join(shown) + (", ..." if len(values) > 20 else "")


def _check_tokens(
    config: StudyConfig,
    category: Category,
    space: PromptSpace,
    candidates: Mapping[str, Mapping[str, str]] | None,
    generator: Generator,
) -> None:
    chosen = config.generator.negative_prompt
    if chosen is not None and category.negative_template is not None:
        raise StudyError(
            f"{config.source}: generator.negative_prompt: {chosen!r} fixes what the negative_template of the "
            f"category {category.name} varies. Leave one of them out."
        )
    if candidates is not None:
        found = [Variation.of(label) for label in candidates]
    else:  # too many to list
        found = [space.variation(space.longest(generator.count_tokens))]
    prompts = list(dict.fromkeys(one.prompt for one in found))
    negatives = list(dict.fromkeys(one.negative_prompt for one in found if one.negative_prompt is not None))
    negatives.append(category.negative_prompt if chosen is None else chosen)
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


def fixed_texts(category: Category, *, shipped: bool) -> dict[str, list[str]]:
    """The classes that an image is told apart by: name -> texts, the category's own first."""
    # A shipped category is told apart from its sisters too; a file of one's own says all there is to say.
    texts = {category.name: list(category.texts)}
    if shipped:
        for other in CATEGORIES:
            if other != category.name:
                texts[other] = list(load_category(other).texts)
    for name, lines in category.distractors.items():
        texts.setdefault(name, list(lines))
    if len(texts) < 2:
        raise StudyError(
            f"category {category.name}: distractors: none given, so alignment has nothing to compare with. "
            "Add at least one class of texts that the images should not show."
        )
    return texts


def _check_texts(texts: Mapping[str, list[str]], encoder: TextEncoder, where: str) -> None:
    for name, lines in texts.items():
        for text in lines:
            count = encoder.count_tokens(text)
            if count > encoder.context_length:
                raise StudyError(
                    f"{where}: category text of {name!r} has {count} tokens, the encoder reads "
                    f"{encoder.context_length}: {text!r}. Shorten it, or choose another encoder."
                )


def _identity(setup: Setup, sample: dict[str, Any], metrics: Sequence[ImageMetric]) -> dict[str, Any]:
    """Settings and fingerprints that decide the results; no paths, as the same content elsewhere is equal."""
    config, family = setup.config, setup.generator
    drawn = {key: value for key, value in sample.items() if key not in ("prompt", "seed", "generator")}
    search, confirm = config.search.model_dump(mode="json"), config.confirm.model_dump(mode="json")
    for budget in BUDGETS:
        del search[budget]
    search["warm_start"] = [setup.space.label(choice) for choice in setup.sampling.first]
    confirm["second_encoder"] = setup.second.fingerprint if setup.second is not None else None
    return {
        "category": setup.category.model_dump(mode="json"),
        "texts": _digest(setup.texts),
        "positives": setup.positive_name,
        "data": setup.data.fingerprint,
        "generator": {"fingerprint": sample["generator"], **drawn},
        **({"generators": family.fingerprints} if isinstance(family, GeneratorFamily) else {}),
        "encoder": setup.encoder.fingerprint,
        "judge": setup.judge.fingerprint if setup.judge is not None else None,
        "mode": config.mode,
        "search": search,
        "constraints": config.constraints.model_dump(mode="json"),
        "score": config.score.model_dump(mode="json"),
        "metrics": {m.name: [m.weight, m.greater_is_better, m.version] for m in metrics},
        **(
            {"preference": [setup.opinion.fingerprint, config.preference.weight]}
            if setup.opinion is not None and config.preference is not None
            else {}
        ),
        "confirm": confirm,
        "seed": config.seed,
    }


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
