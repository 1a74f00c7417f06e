"""Do the winners of a run win with another generator too?

The confirmed prompts are drawn by the other generator with the seeds of the confirmation and compared with
that generator's own images of the baseline prompt: same encoder, same texts, same probe, same test pool.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.estimate import Estimate
from evaluation.inference.agreement import rank_correlation
from generators.family import GeneratorFamily
from generators.stores.address import store_folder
from promptopt.base.files import writable_folder
from promptopt.base.naming import without_home
from promptopt.config.generator_uris import varied_members
from promptopt.config.study_file import StudyConfig, StudyError, load_study
from promptopt.formatting.numbers import in_cell
from promptopt.run import folder as runfolder
from promptopt.run.finished import single_prompts
from promptopt.run.prompts import PromptEntry, PromptList
from promptopt.scoring.objective import Measurement, Score
from promptopt.space import Candidate
from promptopt.space.of_category import open_category
from promptopt.space.token_limit import TooLong, describe, too_long
from promptopt.study.measuring import Measuring
from promptopt.study.opening import makers_of
from promptopt.study.setup import Setup, prepare

if TYPE_CHECKING:
    from PIL import Image

    from evaluation.classifier.judge import Judge
    from evaluation.encoders.base import Encoder
    from generators.base import Generator
    from generators.making.makers import Makers
    from generators.request import ImageRequest


@dataclass(frozen=True)
class Transferred:
    """One prompt at home and away.

    Attributes:
        home_rank, home: its place and score in the run's confirmation; the score is the difference from the
            baseline prompt in SDs of the baseline's images, paired by seed.
        away: the same of the other generator; None where its tokenizer would cut the prompt.
        estimates: all metrics there.
    """

    candidate: Candidate
    home_rank: int
    home: Estimate
    away: Score | None
    estimates: Mapping[str, Estimate]


@dataclass(frozen=True)
class Transfer:
    """The prompts of one run with one other generator.

    Attributes:
        home, generator: uri and fingerprint of the run's own generator and of the other.
        rows: in the order of the run's confirmation; the baseline is not among them, its score is 0.
        baseline: the baseline prompt, and its metrics with the other generator.
        too_long: prompts that were left out, with the words that would be lost.
        rank_correlation: Spearman's, of the scores at home and away, over the prompts that were not left out.
            Noise in either score pulls it toward 0.
        seeds: of the images of each prompt.
        generated, reused: images made now, and taken from the store.
    """

    study: str
    category: str
    home: tuple[str, str]
    generator: tuple[str, str]
    rows: tuple[Transferred, ...]
    baseline: tuple[str, Mapping[str, Estimate]]
    too_long: tuple[TooLong, ...]
    rank_correlation: Estimate
    seeds: tuple[int, ...]
    generated: int
    reused: int

    @property
    def winner(self) -> Transferred:
        """The prompt that the run ranked first, the baseline aside."""
        return self.rows[0]

    @property
    def sentence(self) -> str:
        """Whether the winner stays ahead of the baseline prompt, no stronger than its interval allows."""
        if self.winner.away is None:
            return f"The winner {self.winner.candidate.label!r} is too long for this generator."
        score = self.winner.away.estimate
        if score.value is None or score.low is None or score.high is None:
            return "The images are too few to say whether the winner stays ahead."
        amount = in_cell(score, "+.2f", mark="")
        sure = self.winner.home.low is not None and self.winner.home.low > 0
        if score.low > 0 and sure:
            return f"The winner stays ahead of the baseline prompt: {amount}."
        if score.low > 0:
            return f"The winner is ahead of the baseline prompt: {amount}; at home it was not surely so."
        if score.high < 0:
            return f"The winner is worse than the baseline prompt here: {amount}."
        return f"The winner cannot be told apart from the baseline prompt here: {amount}."


def transfer(
    run_folder: str | Path,
    generator: str | Generator,
    *,
    store: str | Path,
    images: int | None = None,
    fresh: bool = False,
    changes: Mapping[str, Any] | None = None,
    device: str = "auto",
    on: str = "here",
    encoder: Encoder | None = None,
    judge: Judge | None = None,
    on_image: Callable[[int, int, bool], None] | None = None,
) -> Transfer:
    """Measure a finished run's confirmed prompts with another generator.

    Images and features come from the store where they are there: killed and called again, it goes on; a
    second call makes nothing.

    Args:
        run_folder: of a finished study.
        generator: an address as in a study file, paths from the current folder; or a loaded one.
        store: folder of images and features, shared with the studies.
        images: of each prompt; default: as many as the confirmation had. The seeds are those of the
            confirmation, and further ones of the same sequence.
        fresh: draw seeds that the run has never used. The winner was chosen by its confirmation, which makes
            its score at home a little too good; with another generator the same seeds are as good as new.
        changes: of the study's settings, such as {"generator.steps": 30}; see `StudyConfig.override`. By
            default the other generator samples as the run's own did.
        device: "auto", "cpu", "cuda" or "cuda:N".
        on: where images are made; see `generators.making.place.Place`.
        encoder, judge: in place of those of the study file.
        on_image: called with (images at hand, all images, whether it was generated now).

    Raises:
        StudyError: not a finished run, data or encoder that are no longer those of the run, or a generator
            that cannot be loaded or cannot take the baseline prompt.
    """
    folder = Path(run_folder)
    prompts = single_prompts(
        folder,
        instead="Run its study again with the other generator: `promptopt study run FILE --set "
        "generator.uri=... --name ...`.",
    )
    store = writable_folder(store_folder(store), "the store")
    entries = [e for e in prompts.prompts if e.candidate != prompts.baseline.candidate]
    if not entries:
        raise StudyError(f"{folder / runfolder.PROMPTS}: holds no prompt besides the baseline.")
    config = load_study(folder / runfolder.STUDY)
    config = config.override({"confirm.images": images or len(prompts.seeds.confirmation), **(changes or {})})
    with makers_of(config, on, device=device, store=store, features=encoder is None, bulk=True) as makers:
        setup = _setup(
            folder,
            prompts,
            config,
            _loaded(generator, makers),
            store=store,
            device=device,
            encoder=encoder,
            judge=judge,
        )
        return _transferred(setup, prompts, entries, store=store, fresh=fresh, on_image=on_image)


def _loaded(generator: str | Generator, makers: Makers) -> Generator:
    from generators.errors import GeneratorError

    if not isinstance(generator, str):
        return generator
    try:
        return makers.load(generator)
    except (GeneratorError, OSError) as error:
        raise StudyError(f"generator {generator!r} cannot be loaded: {error}") from error


def _transferred(
    setup: Setup,
    prompts: PromptList,
    entries: Sequence[PromptEntry],
    *,
    store: Path,
    fresh: bool,
    on_image: Callable[[int, int, bool], None] | None,
) -> Transfer:
    baseline = prompts.baseline.candidate
    if cut := _cut([baseline], setup):
        raise StudyError(
            f"{setup.generator.uri}: the baseline prompt is too long for it:\n{describe(cut.values())}"
        )
    long = _cut([entry.candidate for entry in entries], setup)
    fitting = [entry.candidate for entry in entries if entry.candidate not in long]
    seeds = setup.panel.confirmation
    if fresh:
        seeds = _fresh_seeds(setup, avoid=(*prompts.seeds.search, *prompts.seeds.confirmation))
    measured, made = _measure(setup, [baseline, *fitting], seeds, store=store, on_image=on_image)
    rows = []
    for entry in entries:
        there = measured.get(entry.candidate)
        rows.append(
            Transferred(
                entry.candidate,
                entry.rank,
                entry.confirmation["score"].estimate(),
                None if there is None else there[1],
                {} if there is None else there[0].estimates,
            )
        )
    total = len(seeds) * (len(fitting) + 1)
    return Transfer(
        study=prompts.study,
        category=prompts.category,
        home=(prompts.generator.uri, prompts.generator.fingerprint),
        generator=(without_home(setup.generator.uri), setup.request(baseline, seeds[0]).generator),
        rows=tuple(rows),
        baseline=(baseline.prompt, measured[baseline][0].estimates),
        too_long=tuple(long.values()),
        rank_correlation=_rank_correlation(rows),
        seeds=tuple(seeds),
        generated=made,
        reused=total - made,
    )


@dataclass(frozen=True)
class _Retrying:
    """A generator that takes any length: a whole space may be too long of which a few prompts are drawn."""

    own: Generator
    max_tokens: int = sys.maxsize

    @property
    def uri(self) -> str:
        return self.own.uri

    @property
    def fingerprint(self) -> str:
        return self.own.fingerprint

    def request(self, prompt: str, seed: int, **settings: Any) -> ImageRequest:
        return self.own.request(prompt, seed, **settings)

    def generate(self, requests: Sequence[ImageRequest]) -> Iterator[Image.Image]:
        return self.own.generate(requests)

    def count_tokens(self, prompt: str) -> int:
        return self.own.count_tokens(prompt)


def _setup(
    folder: Path,
    prompts: PromptList,
    config: StudyConfig,
    generator: Generator,
    *,
    store: Path,
    device: str,
    encoder: Encoder | None,
    judge: Judge | None,
) -> Setup:
    # Prompts that were found with several generators are all drawn with this one.
    members = list(varied_members(config, open_category(config).generation_parameters))

    def everywhere(one: Generator) -> Generator:
        return one if len(members) == 1 else GeneratorFamily.alike(one, members)

    retrying = everywhere(_Retrying(generator))
    setup = prepare(config, store=store, device=device, generator=retrying, encoder=encoder, judge=judge)
    for what, now, then in (
        ("data", setup.data.fingerprint, prompts.data),
        ("encoder", setup.encoder.fingerprint, prompts.encoder.fingerprint),
    ):
        if now != then:
            raise StudyError(
                f"{folder / runfolder.STUDY}: {what}: has changed since the run ({then[:12]} then, "
                f"{now[:12]} now), so its scores cannot be compared. Put it back, or run the study again."
            )
    return replace(setup, generator=everywhere(generator))


def _cut(candidates: Sequence[Candidate], setup: Setup) -> dict[Candidate, TooLong]:
    """Those whose prompt or negative prompt the generator would cut; under their label."""
    found = {}
    for one in candidates:
        negative = setup.negative_prompt if one.negative_prompt is None else one.negative_prompt
        if long := too_long([one.prompt, negative], setup.generator):
            found[one] = replace(long[0], prompt=one.label)
    return found


def _fresh_seeds(setup: Setup, *, avoid: Sequence[int]) -> tuple[int, ...]:
    count, known = len(setup.panel.confirmation), set(avoid) | set(setup.panel.confirmation)
    # more than are needed, as some may be known
    rng = np.random.default_rng([setup.config.seed, 5])
    drawn = rng.integers(2**31 - 1, size=count + 4 * len(known) + 64)
    return tuple(int(seed) for seed in dict.fromkeys(drawn.tolist()) if seed not in known)[:count]


def _measure(
    setup: Setup,
    candidates: Sequence[Candidate],
    seeds: Sequence[int],
    *,
    store: Path,
    on_image: Callable[[int, int, bool], None] | None,
) -> tuple[dict[Candidate, tuple[Measurement, Score]], int]:
    """Measurement and score of each prompt, the first being the baseline, and how many images were made."""
    try:
        total = len([setup.request(one, seed) for one in candidates for seed in seeds])
    except ValueError as error:  # a setting of the study that this generator does not have
        raise StudyError(f"{setup.generator.uri}: {error}. Change it with --set.") from error
    done = made = 0

    def count(generated: bool) -> None:
        nonlocal done, made
        done, made = done + 1, made + generated
        if on_image is not None:
            on_image(done, total, generated)

    measuring = Measuring(setup, store=store, on_image=count)
    parts = measuring.fetch([(one, seeds) for one in candidates])
    objective = measuring.objectives(parts[0]).confirming
    measurements = [objective.measure(one, part) for one, part in zip(candidates, parts, strict=True)]
    found = {m.candidate: (m, objective.score(m, measurements[0])) for m in measurements}
    return found, made


def _rank_correlation(rows: Sequence[Transferred]) -> Estimate:
    """Spearman's correlation of the values at home and away, over prompts."""
    both = [
        (row.home.value, row.away.estimate.value)
        for row in rows
        if row.away is not None and row.home.value is not None and row.away.estimate.value is not None
    ]
    return rank_correlation([home for home, _ in both], [away for _, away in both])
