"""One study: ask, make images, measure, record; then confirm and write the results."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.feature_store import FeatureStore
from evaluation.metrics import alignment
from evaluation.probe import fit_probe
from generators.store import ImageStore, StoredImage
from promptopt import runfolder
from promptopt.config import StudyConfig, StudyError
from promptopt.confirm import Confirmed, best_trials, confirm
from promptopt.export import PromptList, write_confirmation, write_prompts, write_trials
from promptopt.objective import Measurement, Objective, RealPool, study_bandwidth
from promptopt.observer import Observer, StudyStart
from promptopt.results import prompt_list, resolved_study
from promptopt.search import TrialLog, TrialRow, next_choice
from promptopt.setup import Setup, prepare
from promptopt.template import PromptSpace
from promptopt.weights import weigh

if TYPE_CHECKING:
    from evaluation.encoders import TextEncoder
    from evaluation.judge import Judge
    from generators.backend import Generator


@dataclass(frozen=True)
class StudyResult:
    """What a finished run made.

    Attributes:
        generated: images made now; 0 when everything was in the store.
        seconds: wall time by phase ("prepare", "search", "confirm", "report", "total").
    """

    folder: Path
    prompts_path: Path
    report_path: Path
    prompts: PromptList
    generated: int
    reused: int
    trials_before: int
    seconds: Mapping[str, float]

    @property
    def nothing_new(self) -> bool:
        """True when the study had been finished before: no image was made and no prompt scored."""
        return self.generated == 0 and self.trials_before == self.prompts.prompts_scored


@dataclass(frozen=True)
class StudyRows:
    """What `show` found: `prompts` is None while the study is not finished."""

    folder: Path
    trials: tuple[TrialRow, ...]
    prompts: PromptList | None


def run_study(
    config: StudyConfig,
    *,
    runs: Path,
    store: Path,
    observer: Observer | None = None,
    device: str = "auto",
    given: Sequence[str] = (),
    generator: Generator | None = None,
    encoder: TextEncoder | None = None,
    judge: Judge | None = None,
) -> StudyResult:
    """Run, resume or extend a study, and write its results into `runs/<name>/`.

    The run may be killed at any moment; the same call goes on and ends with the same prompts.json.

    Args:
        runs: folder of run folders.
        store: folder of images and features, shared by all runs.
        given: prompts to confirm besides the best ones (for comparisons).
        generator, encoder, judge: used in place of those that the study file names.

    Raises:
        StudyError: something is missing or contradictory; raised before any image is made.
    """
    started = time.perf_counter()
    observer = observer or Observer()
    with runfolder.locked_run(Path(runs), config.name) as folder:
        store = runfolder.writable_folder(Path(store), "the store")
        observer.on_phase("checking the study, its data and its models")
        setup = prepare(config, store=store, device=device, generator=generator, encoder=encoder, judge=judge)
        runfolder.check_settings(folder, setup.identity)
        runfolder.write_text(folder / runfolder.STUDY, resolved_study(setup))
        run = _Run(setup, folder=folder, store=store, observer=observer)
        prepared = time.perf_counter()
        run.search()
        searched = time.perf_counter()
        confirmed, fresh_baseline = run.confirm(given)
        confirmed_at = time.perf_counter()
        prompts = prompt_list(
            setup,
            confirmed=confirmed,
            baseline=(run.baseline, fresh_baseline),
            weighing=weigh(
                confirmed,
                baseline=fresh_baseline,
                searching=run.searching,
                confirming=run.confirming,
                config=config,
            ),
            scored=len(run.log.distinct),
        )
        trials = run.log.rows
        write_trials(folder / "trials.csv", trials)
        write_confirmation(folder / "confirmation.csv", confirmed)
        observer.on_phase("writing the report")
        from promptopt.report import ReportInput, write_report

        report = write_report(
            folder / runfolder.REPORT,
            ReportInput(
                setup=setup,
                prompts=prompts,
                trials=tuple(trials),
                confirmed=confirmed,
                baseline=fresh_baseline,
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
            generated=run.generated,
            reused=run.reused,
            trials_before=run.trials_before,
            seconds={
                "prepare": prepared - started,
                "search": searched - prepared,
                "confirm": confirmed_at - searched,
                "report": ended - confirmed_at,
                "total": ended - started,
            },
        )
        observer.on_finish(result)
        return result


def show(run_folder: str | Path) -> StudyRows:
    """The trials and results of a run folder, finished or not.

    Raises:
        StudyError: not a run folder.
    """
    folder = Path(run_folder)
    database = folder / runfolder.DATABASE
    if not database.is_file():
        raise StudyError(f"{folder}: not a run folder, {runfolder.DATABASE} is missing. Run the study first.")
    log = TrialLog(database)
    path = folder / runfolder.PROMPTS
    from promptopt.export import read_prompts

    return StudyRows(folder, tuple(log.rows), read_prompts(path) if path.exists() else None)


class _Run:
    """The state of one call of `run_study`."""

    def __init__(self, setup: Setup, *, folder: Path, store: Path, observer: Observer) -> None:
        self.setup = setup
        self.observer = observer
        self.images = ImageStore(store / "images")
        self.features = FeatureStore(store / "features.sqlite")
        self.generated = 0
        self.reused = 0
        self.log = TrialLog(folder / runfolder.DATABASE)
        self.trials_before = len(self.log.distinct)

    def _real(self, pool: str) -> RealPool:
        parts = (part.where(pool=pool) for part in (self.setup.positives, self.setup.negatives))
        return RealPool(*(self.features.features(self.setup.encoder, part.paths()) for part in parts))

    def _objectives(self, baseline: Sequence[StoredImage]) -> tuple[Objective, Objective]:
        """The same yardstick twice: for the search, and for the confirmation against the test pool."""
        setup = self.setup
        reference, validation, test = (self._real(pool) for pool in ("reference", "validation", "test"))
        own = self.features.features(setup.encoder, [image.path for image in baseline])
        searching = Objective(
            encoder=setup.encoder,
            features=self.features,
            class_weights=alignment.class_weights(setup.encoder, setup.texts),
            target=setup.category.name,
            probe=fit_probe(reference.features, reference.labels, seed=setup.panel.metrics),
            distance_to=reference.positives,
            bandwidth=study_bandwidth(reference.positives, own),
            training_negatives=reference.negatives,
            held_out=validation,
            weights=setup.config.score,
            seed=setup.panel.metrics,
            judge=setup.judge,
            judge_target=setup.category.name,
        )
        return searching, replace(searching, distance_to=test.positives, held_out=test)

    def fetch(self, prompt: str, seeds: Sequence[int]) -> list[StoredImage]:
        """Images of the prompt for the seeds, from the store where they exist."""
        requests = [self.setup.request(prompt, seed) for seed in seeds]
        return self.images.fetch(self.setup.generator, requests, on_image=self._count)

    def _count(self, image: StoredImage, generated: bool) -> None:
        self.generated += generated
        self.reused += not generated
        self.observer.on_image(generated)

    def search(self) -> None:
        """Score prompts until `search.trials` distinct ones are done or the space is exhausted."""
        setup, log = self.setup, self.log
        config = setup.config.search
        target = config.trials if setup.candidates is None else min(config.trials, len(setup.candidates))
        self.observer.on_start(
            StudyStart(
                name=setup.config.name,
                category=setup.category.name,
                prompts_in_space=setup.space.size,
                trials=max(target, self.trials_before),
                trials_done=self.trials_before,
                images_per_trial=config.images,
                prompts_to_confirm=setup.config.confirm.top,
                images_per_confirmation=setup.config.confirm.images,
            )
        )
        images = self.fetch(setup.category.baseline, setup.panel.search)
        self.searching, self.confirming = self._objectives(images)
        self.baseline = self.searching.measure(setup.category.baseline, images)
        scored = {row.prompt: row for row in log.distinct}
        # A space no larger than the budget is tried in full: nothing is left for a model to choose.
        everything = setup.candidates is not None and len(setup.candidates) <= config.trials
        sampler = "enumerate" if everything else config.sampler
        while len(scored) < target:
            choice = next_choice(
                setup.space,
                log.rows,
                sampler=sampler,
                seed=setup.panel.sampler,
                untried=None
                if setup.candidates is None
                else [choice for prompt, choice in setup.candidates.items() if prompt not in scored],
            )
            row = self._row(setup.space, choice, scored)
            log.add(setup.space, row)
            scored.setdefault(row.prompt, row)
            if row.duplicate_of is None:
                self.observer.on_trial(row, max(scored.values(), key=lambda r: r.value))

    def _row(self, space: PromptSpace, choice: Mapping[str, str], scored: Mapping[str, TrialRow]) -> TrialRow:
        prompt = space.label(choice)
        known = scored.get(prompt)
        if known is not None:
            return TrialRow(
                number=len(self.log.rows),
                prompt=prompt,
                choice=dict(choice),
                score=known.score,
                estimates=known.estimates,
                duplicate_of=known.number,
            )
        measurement = self.searching.measure(prompt, self.fetch(prompt, self.setup.panel.search))
        score = self.searching.score(measurement, self.baseline)
        arrays = {**measurement.per_image, "score": score.per_image}
        return TrialRow(
            number=len(self.log.rows),
            prompt=prompt,
            choice=dict(choice),
            score=score.estimate,
            estimates=measurement.estimates,
            per_image={name: tuple(float(v) for v in values) for name, values in arrays.items()},
        )

    def confirm(self, given: Sequence[str]) -> tuple[tuple[Confirmed, ...], Measurement]:
        """The ranking on fresh seeds, and the baseline's own fresh measurement."""
        setup = self.setup

        def fresh(prompt: str) -> Measurement:
            return self.confirming.measure(prompt, self.fetch(prompt, setup.panel.confirmation))

        baseline = fresh(setup.category.baseline)
        rows = best_trials(self.log.rows, setup.config.confirm.top, without=setup.category.baseline)
        if not rows and not given:
            raise StudyError(
                f"{setup.config.source}: the template has no prompt besides the baseline "
                f"{setup.category.baseline!r}. Add options to it, or change the baseline."
            )
        confirmed = confirm(
            rows,
            objective=self.confirming,
            measure=fresh,
            baseline=baseline,
            given=given,
            on_done=self.observer.on_confirmation,
        )
        self.observer.on_confirmed(confirmed)
        return confirmed, baseline
