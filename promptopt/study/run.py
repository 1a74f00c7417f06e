"""One study: ask, make images, measure, record; then confirm and write the results."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.features.feature_store import FeatureStore
from generators.stores.address import store_folder
from promptopt.base.files import writable_folder, write_text
from promptopt.config.study_file import StudyConfig, StudyError, load_study
from promptopt.portfolio.weigh import weigh
from promptopt.run import folder as runfolder
from promptopt.run.prompts import PromptEntry, PromptList, write_prompts
from promptopt.run.set_progress import SearchedClass, read_set_progress
from promptopt.run.snapshot import read_rows
from promptopt.run.trials import TrialLog, TrialRow
from promptopt.scoring.confirm import Finalist, confirm
from promptopt.scoring.objective import ImageMetric, Measurement
from promptopt.scoring.registered import registered_metrics
from promptopt.search.engine import Search, images_made, ranked
from promptopt.search.model.effects import slot_effects
from promptopt.space import Candidate
from promptopt.study.guards import warnings
from promptopt.study.measuring import Measuring, Scoring
from promptopt.study.observer import Observer, StudyStart
from promptopt.study.opening import makers_of
from promptopt.study.results import Finished, prompt_list, resolved_study
from promptopt.study.setup import Setup, prepare
from promptopt.study.step_width import with_proposals
from promptopt.study.tables import write_confirmation, write_effects, write_trials

if TYPE_CHECKING:
    from evaluation.classifier.judge import Judge
    from evaluation.encoders.base import Encoder
    from generators.base import Generator
    from generators.making.makers import Makers
    from promptopt.run.prompt_sets import SetList
    from promptopt.study.proposals import Propose
    from promptopt.study.sets.run import SetResult


@dataclass(frozen=True)
class StudyResult:
    """What a finished run made.

    Attributes:
        generated: images made now; 0 when everything was in the store.
        seconds: wall time by phase ("prepare", "search", "confirm", "report", "total").
        pictures: candidate -> its confirmation images, one a seed, in the store.

    Example:
        >>> import tempfile
        >>> from promptopt import Study
        >>> content = {
        ...     "name": "first",
        ...     "aim": "single",
        ...     "category": "polyps",
        ...     "data": {"phantom": {"images": 180}},
        ...     "search": {"trials": 2, "images": 4, "racing": False},
        ...     "confirm": {"top": 1, "images": 4},
        ... }
        >>> folder = tempfile.mkdtemp()
        >>> result = Study(content, runs=folder + "/runs", store=folder + "/store").run()
        >>> len(result.trials()), result.nothing_new, result.report_path.name
        (2, False, 'report.html')
        >>> first = result.best_prompts[0]
        >>> len(result.images(first.candidate)), list(result.to_dataframe().columns)[:2]
        (4, ['rank', 'prompt'])
    """

    folder: Path
    prompts_path: Path
    report_path: Path
    prompts: PromptList
    generated: int
    reused: int
    trials_before: int
    seconds: Mapping[str, float]
    pictures: Mapping[Candidate, Sequence[Path]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"StudyResult({self.prompts.study!r}, {len(self.best_prompts)} prompts; {self.sentence!r})"

    def _repr_html_(self) -> str:
        from promptopt.study.notebook import result_html

        shown = [entry.candidate for entry in self.best_prompts[:1]] + [self.prompts.baseline.candidate]
        rows = {one.label: self.pictures.get(one, ()) for one in shown}
        return result_html(self.sentence, self.rows(), rows, self.report_path)

    @property
    def sentence(self) -> str:
        """What was shown of the first prompt."""
        return self.prompts.sentence

    @property
    def best_prompts(self) -> list[PromptEntry]:
        """The confirmed prompts, best first, without the baseline."""
        plain = self.prompts.baseline.candidate
        return [entry for entry in self.prompts.prompts if entry.candidate != plain]

    def images(self, prompt: Candidate | str | None = None) -> list[Path]:
        """Files of a prompt's fresh images, in the order of the confirmation seeds.

        Args:
            prompt: a confirmed one, or the baseline; default: the first of `best_prompts`.

        Raises:
            StudyError: another prompt.
        """
        if prompt is None:
            prompt = self.best_prompts[0].candidate
        wanted = Candidate(prompt) if isinstance(prompt, str) else prompt
        if wanted not in self.pictures:
            known = ", ".join(repr(one.label) for one in self.pictures)
            raise StudyError(f"there are no fresh images of {wanted.label!r}; there are some of {known}.")
        return list(self.pictures[wanted])

    def rows(self) -> list[dict[str, Any]]:
        """Every confirmed prompt with its rank, score, interval and p, best first."""
        rows = []
        for entry in self.prompts.prompts:
            score = entry.confirmation.get("score")
            rows.append(
                {
                    "rank": entry.rank,
                    "prompt": entry.prompt,
                    "negative_prompt": entry.negative_prompt,
                    "weight": entry.weight,
                    "score": None if score is None else score.value,
                    "low": None if score is None else score.low,
                    "high": None if score is None else score.high,
                    "p_value": entry.p_value,
                    "better_than_baseline": entry.better_than_baseline,
                }
            )
        return rows

    def to_dataframe(self) -> Any:
        """`rows` as a pandas.DataFrame. Raises StudyError where pandas is not installed."""
        from promptopt.study.notebook import data_frame

        return data_frame(self.rows())

    @property
    def weights(self) -> dict[Candidate, float]:
        """Candidate -> share of the portfolio, the largest first."""
        shares = {entry.candidate: entry.weight for entry in self.prompts.prompts if entry.weight > 0}
        return dict(sorted(shares.items(), key=lambda pair: -pair[1]))

    def trials(self) -> tuple[TrialRow, ...]:
        """Every row of the search."""
        return show(self.folder).trials

    @property
    def nothing_new(self) -> bool:
        """True when the study had been finished before: no image was made and no prompt scored."""
        return self.generated == 0 and self.trials_before == self.prompts.prompts_scored


@dataclass(frozen=True)
class StudyRows:
    """What `show` found.

    Attributes:
        trials: rows of a search for single prompts.
        prompts: None while such a study is not finished.
        classes: how far the search of each class is, of a study of sets; else empty.
        sets: None while a study of sets is not finished.
        budget: images of the search for each class of a study of sets, where its study file is beside it.
    """

    folder: Path
    trials: tuple[TrialRow, ...] = ()
    prompts: PromptList | None = None
    classes: tuple[SearchedClass, ...] = ()
    sets: SetList | None = None
    budget: int | None = None


def run_study(
    config: StudyConfig,
    *,
    runs: Path,
    store: Path,
    observer: Observer | None = None,
    device: str = "auto",
    on: str = "here",
    given: Sequence[Candidate | str] = (),
    generator: Generator | None = None,
    encoder: Encoder | None = None,
    judge: Judge | None = None,
    metrics: Sequence[ImageMetric] = (),
    propose: Propose | None = None,
    makers: Makers | None = None,
) -> StudyResult | SetResult:
    """Run, resume or extend a study, and write its results into `runs/<name>/`.

    The run may be killed at any moment; the same call goes on and ends with the same prompts.json.

    Args:
        runs: folder of run folders.
        store: folder of images and features, shared by all runs.
        on: where images are made: "here", "processes:4", "ray?gpus=8" (`generators.making.place.Place`); the
            results do not depend on it.
        given: prompts to confirm besides the best ones (for comparisons); a text is a prompt alone.
        generator, encoder, judge: used in place of those that the study file names.
        metrics: further terms of the score, beside those that the study file names.
        propose: asked before each step of a study of sets for further prompts (`promptopt.study.proposals`).
        makers: who makes the images at the place `on`, as `promptopt.study.opening.makers_of` opens them for
            this study; they stay open. Default: they are opened, and closed at the end.

    Raises:
        StudyError: something is missing or contradictory; raised before any image is made.
    """
    started = time.perf_counter()
    observer = observer or Observer()
    if on != "here" and generator is not None:
        raise StudyError(
            f"images are to be made on {on!r}, but the generator was given as an object, which other "
            "processes cannot load. Name it by its address in the study, or make the images here."
        )
    if config.aim == "set":
        from promptopt.study.sets.run import run_set_study

        return run_set_study(
            config,
            runs=runs,
            store=store,
            observer=observer,
            device=device,
            on=on,
            generator=generator,
            encoder=encoder,
            judge=judge,
            propose=propose,
            makers=makers,
        )
    if propose is not None:
        raise StudyError(f"{config.source}: aim: a proposer is asked by a study of sets; write aim: set.")
    metrics = (*registered_metrics(config.metrics), *metrics)
    with runfolder.locked_run(Path(runs), config.name) as folder, contextlib.ExitStack() as open_things:
        config = with_proposals(config, folder=folder, on=on)
        store = writable_folder(store_folder(store), "the store", error=StudyError)
        made_by = makers or open_things.enter_context(
            makers_of(config, on, device=device, store=store, features=encoder is None)
        )
        observer.on_phase("checking the study, its data and its models")
        setup = prepare(
            config,
            store=store,
            device=device,
            generator=generator,
            encoder=encoder,
            judge=judge,
            metrics=metrics,
            makers=made_by,
        )
        runfolder.check_pictures(folder, setup.pictures)
        for notice in setup.encoder_checks.notices(config):
            observer.on_warning(notice)
        runfolder.check_settings(folder, setup.identity)
        write_text(folder / runfolder.STUDY, resolved_study(setup))
        for text in warnings({setup.positive_name: setup}, FeatureStore(store / "features")):
            observer.on_warning(text)
        measuring = Measuring(setup, store=store, metrics=metrics, on_image=observer.on_image)
        run = _Run(measuring, folder=folder, observer=observer)
        prepared = time.perf_counter()
        run.search()
        searched = time.perf_counter()
        finished = run.confirm([Candidate(one) if isinstance(one, str) else one for one in given])
        confirmed_at = time.perf_counter()
        if makers is None:
            made_by.close()
        prompts = prompt_list(setup, finished)
        trials = run.log.rows
        write_trials(folder / "trials.csv", trials)
        write_confirmation(folder / "confirmation.csv", finished.confirmed)
        effects = slot_effects(setup.space, trials)
        write_effects(folder / "effects.csv", effects)
        observer.on_phase("writing the report")
        from promptopt.study.report.render import ReportInput, write_report

        report = write_report(
            folder / runfolder.REPORT,
            ReportInput(
                setup=setup,
                prompts=prompts,
                trials=tuple(trials),
                confirmed=finished.confirmed,
                baseline=finished.fresh_baseline,
                effects=effects,
                objectives=run.objectives,
                features=measuring.features,
            ),
        )
        # Last, so that its presence means that the study is finished.
        path = write_prompts(folder / runfolder.PROMPTS, prompts)
        ended = time.perf_counter()
        result = StudyResult(
            folder=folder,
            prompts_path=path,
            report_path=report,
            prompts=prompts,
            generated=measuring.generated,
            reused=measuring.reused,
            trials_before=run.trials_before,
            seconds={
                "prepare": prepared - started,
                "search": searched - prepared,
                "confirm": confirmed_at - searched,
                "report": ended - confirmed_at,
                "total": ended - started,
            },
            pictures={
                one.candidate: [image.path for image in one.measurement.images] for one in finished.confirmed
            },
        )
        observer.on_finish(result)
        return result


def show(run_folder: str | Path) -> StudyRows:
    """The trials and results of a run folder, finished or not, of single prompts or of sets.

    Raises:
        StudyError: not a run folder.
    """
    folder = Path(run_folder)
    path = folder / runfolder.PROMPTS
    classes = read_set_progress(folder)
    if classes is not None:
        from promptopt.run.prompt_sets import read_sets

        sets = read_sets(path) if path.exists() else None
        return StudyRows(folder, classes=classes, sets=sets, budget=_budget(folder / runfolder.STUDY))
    rows = read_rows(folder)
    from promptopt.run.prompts import read_prompts

    return StudyRows(folder, tuple(rows), read_prompts(path) if path.exists() else None)


def _budget(study: Path) -> int | None:
    """Images of the search for each class, by the study file in the run folder."""
    with contextlib.suppress(OSError, StudyError):
        return load_study(study).set.budget
    return None


class _Run:
    """The state of one call of `run_study`."""

    def __init__(self, measuring: Measuring, *, folder: Path, observer: Observer) -> None:
        self.setup = measuring.setup
        self.measuring = measuring
        self.observer = observer
        self.log = TrialLog(
            folder / runfolder.DATABASE,
            name=self.setup.config.name,
            space=self.setup.space,
            terms=self.setup.sampling.terms,
        )
        self.trials_before = len(self.log.distinct)
        self.stopped = ""

    def search(self) -> None:
        """Score prompts until a budget is spent, the space is exhausted or the evidence suffices."""
        setup, log = self.setup, self.log
        engine = Search(sampling=setup.sampling, settings=setup.config.search, baseline=setup.baseline)
        self.observer.on_start(
            StudyStart(
                name=setup.config.name,
                category=setup.category.name,
                prompts_in_space=setup.space.size,
                trials=max(engine.target, self.trials_before),
                trials_done=self.trials_before,
                images_per_trial=setup.config.search.images,
                prompts_to_confirm=setup.config.confirm.top,
                images_per_confirmation=setup.config.confirm_images,
                images_in_search=_images_ahead(setup, max(0, engine.target - self.trials_before)),
            )
        )
        plain = setup.baseline
        (images,) = self.measuring.fetch([(plain, setup.panel.search)])
        self.objectives = self.measuring.objectives(images)
        self.baseline = self.objectives.searching.measure(plain, images)
        scorer = Scoring(self.measuring, self.objectives.searching, self.baseline)

        def scored(row: TrialRow) -> None:
            if row.duplicate_of is None:
                self.observer.on_trial(row, max(log.distinct, key=lambda r: r.value))

        self.stopped = engine.run(log, scorer, on_row=scored)

    def confirm(self, given: Sequence[Candidate]) -> Finished:
        """The ranking on fresh seeds, and the weights of the mixture."""
        setup, config, objectives = self.setup, self.setup.config, self.objectives
        plain = setup.baseline
        best = [
            one
            for one in ranked(self.log.rows, setup.sampling)
            if one[0].candidate.normalized_key != plain.normalized_key
        ]
        finalists = [
            Finalist(candidate=row.candidate, search=row, predicted=(mean, sd))
            for row, mean, sd in best[: config.confirm.top]
        ]
        if not finalists and not given:
            raise StudyError(
                f"{config.source}: the template has no prompt besides the baseline "
                f"{plain.label!r}. Add options to it, or change the baseline."
            )
        self.observer.on_phase("drawing the best prompts again on fresh seeds")
        known = {plain.normalized_key} | {one.candidate.normalized_key for one in finalists}
        for candidate in given:
            if candidate.normalized_key not in known:
                known.add(candidate.normalized_key)
                finalists.append(Finalist(candidate=candidate))
        wanted = [plain, *(one.candidate for one in finalists)]
        # all at once, so that several processes have work
        fetched = self.measuring.fetch([(candidate, setup.panel.confirmation) for candidate in wanted])
        images_of = dict(zip(wanted, fetched, strict=True))
        choices = {f.candidate: f.search.choice for f in finalists if f.search is not None}

        def fresh(candidate: Candidate) -> Measurement:
            images = images_of[candidate]
            found = objectives.confirming.measure(candidate, images, choice=choices.get(candidate))
            if config.data is None:
                return found
            return replace(found, estimates={**found.estimates, "copies": self.measuring.copies(images)})

        baseline = fresh(plain)
        confirmed = confirm(
            finalists,
            objective=objectives.confirming,
            measure=fresh,
            baseline=baseline,
            second=objectives.second,
            alpha=config.confirm.alpha,
            pareto=bool(setup.sampling.terms),
            on_done=self.observer.on_confirmation,
        )
        self.observer.on_confirmed(confirmed)
        return Finished(
            confirmed=confirmed,
            searched_baseline=self.baseline,
            fresh_baseline=baseline,
            weighing=weigh(
                [one for one in confirmed if one.contradicted_by is None],
                baseline=baseline,
                searching=objectives.searching,
                confirming=objectives.confirming,
                config=config,
            ),
            scored=len(self.log.distinct),
            images=images_made(self.log.rows),
            stopped=self.stopped,
        )


def _images_ahead(setup: Setup, trials: int) -> int:
    """Images that a search of so many more prompts asks for: racing makes about a quarter more."""
    own = setup.config.search
    return len(setup.panel.search) + round(trials * own.images * (1.25 if own.racing else 1.0))
