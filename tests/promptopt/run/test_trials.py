"""The Optuna database of a search: what an Optuna user sees, and that a search goes on from it."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest

from evaluation.estimate import Estimate
from promptopt.config.study_file import StudyError
from promptopt.run import set_log
from promptopt.run.database import address, report
from promptopt.run.set_log import LoggedLook, SetLog
from promptopt.run.snapshot import read_rows, read_studies
from promptopt.run.trials import TrialLog, TrialRow, complete, latest
from promptopt.search.engine import MemoryLog, Pull, Scored
from promptopt.search.sets.engine import Look, SetBudget, SetSearch
from promptopt.space import Candidate, compile_template
from tests.promptopt.search.sets.worlds import World
from tests.promptopt.search.test_engine import SPACE, TERMS, Table, search

NAMES = ("a b", "100%20", "q?x=1", "h#1", "c:d", 'it\'s "q"', "Größe 日本", "{x}", "a&b;c", "50%")


class KilledError(Exception):
    pass


def log_of(path: Path, **changes: object) -> TrialLog:
    return TrialLog(path, **{"name": "polyps", "space": SPACE, **changes})  # type: ignore[arg-type]


def loaded(path: Path, name: str = "polyps") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=address(path))


def bare(rows: Sequence[TrialRow]) -> list[TrialRow]:
    return [replace(row, seconds=0.0) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("folder", NAMES)
def test_a_run_folder_may_have_any_name(tmp_path: Path, folder: str) -> None:
    path = tmp_path / folder / "study.db"
    path.parent.mkdir()
    search(trials=2, racing=False).run(log_of(path, name=folder), Table())
    assert path.is_file()
    assert len(list(path.parent.iterdir())) == 1
    assert len(list(tmp_path.iterdir())) == 1  # nothing beside it under a mangled name
    assert len(loaded(path, folder).trials) == 2
    assert len(read_rows(path.parent)) == 2
    assert len(log_of(path, name=folder).rows) == 2
    log = SetLog(tmp_path / folder / "sets.db", label=folder, space=SPACE)
    choice = next(iter(SPACE.enumerate()))
    log.add([LoggedLook(SPACE.candidate(choice), choice, 4)], {SPACE.candidate(choice): 1.0})
    assert len(loaded(tmp_path / folder / "sets.db", folder).trials) == 1


@pytest.mark.slow
def test_there_is_one_trial_a_prompt_as_an_optuna_user_expects(tmp_path: Path) -> None:
    path, table = tmp_path / "study.db", Table(noise=2.0)
    worst = min(table.values, key=table.values.__getitem__)
    table.violating = {table.best, worst}
    before = datetime.datetime.now() - datetime.timedelta(seconds=1)
    log = log_of(path)
    search(trials=24).run(log, table)
    rows, study = log.rows, loaded(path)
    arms = {row.candidate.label: row for row in latest(rows)}
    assert any(row.continues is not None for row in rows)
    assert sorted(trial.user_attrs["prompt"] for trial in study.trials) == sorted(arms)
    states = optuna.trial.TrialState
    for trial in study.trials:
        own = [row for row in rows if row.candidate.label == trial.user_attrs["prompt"]]
        assert trial.intermediate_values == {row.images: pytest.approx(row.value) for row in own}
        assert trial.value == pytest.approx(own[-1].value)
        assert trial.state == (states.PRUNED if own[-1].eliminated_by else states.COMPLETE)
        assert trial.constraints == {"broken constraints": float(len(own[-1].violations))}
        assert trial.params == own[-1].choice
        assert before < trial.datetime_start < trial.datetime_complete  # type: ignore[operator]
    assert {trial.state for trial in study.trials} == {states.PRUNED, states.COMPLETE}
    sound = [row for row in arms.values() if not row.violations and not row.eliminated_by]
    assert study.best_trial.value == pytest.approx(max(row.value for row in sound))
    assert table.best.label in arms
    assert study.best_trial.user_attrs["prompt"] != table.best.label  # it breaks a constraint
    # plots of optuna read it
    assert optuna.visualization.plot_timeline(study).data
    assert optuna.visualization.plot_intermediate_values(study).data
    assert optuna.visualization.plot_optimization_history(study).data


def test_a_pareto_front_has_a_value_a_term(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    search(trials=10, terms=TERMS).run(log := log_of(path, terms=TERMS), Table())
    study = loaded(path)
    assert study.metric_names == list(TERMS)
    assert len(study.trials) == len(latest(log.rows)) == 10
    assert all(np.isclose(sum(trial.values), 0) for trial in study.trials if trial.values is not None)
    assert bare(log_of(path, terms=TERMS).rows) == bare(log.rows)


def test_trials_run_until_the_search_can_no_longer_extend_them(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    seen: list[list[str]] = []

    class Watching(Table):
        def __call__(self, wanted: Sequence[Pull]) -> list[Scored]:
            seen.append([trial.state.name for trial in loaded(path).trials])
            assert {pull.candidate.label for pull in wanted} <= {
                trial.user_attrs["prompt"] for trial in loaded(path).trials if trial.state.name == "RUNNING"
            }
            return super().__call__(wanted)

    search(trials=6, racing=False).run(log_of(path), Watching())
    assert set(seen[-1][:-2]) == {"COMPLETE"}  # no more images can follow without racing
    assert set(seen[-1][-2:]) == {"RUNNING"}
    assert read_studies(tmp_path)[0].name == "polyps"


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "terms"), [("slots", ()), ("random", TERMS), ("nsga2", ())])
def test_a_search_killed_anywhere_goes_on_to_the_same_rows(
    tmp_path: Path, sampler: str, terms: tuple[str, ...]
) -> None:
    """The log dies before and after each of its writes; prompts that come up again are among them."""
    tiny = compile_template("{a|b|c|d} {e|f|g}", {})
    one = search(tiny, trials=11, sampler=sampler, terms=terms)
    table = Table(space=tiny)
    one.run(whole := MemoryLog(), table)

    class Dying(TrialLog):
        left = 0

        def add(self, row: TrialRow, /, *, final: bool = False) -> None:
            self.left -= 1
            if self.left < 0:
                raise KilledError
            super().add(row, final=final)

    path, tries = tmp_path / "study.db", 0
    while True:
        log = Dying(path, name="polyps", space=tiny, terms=terms)
        assert complete(log.rows) == log.rows
        log.left = 3 + tries % 3
        tries += 1
        try:
            one.run(log, table)
            break
        except KilledError:
            continue
    assert tries > 2
    assert bare(log.rows) == bare(whole.rows)
    study = loaded(path)
    prompts = [trial.user_attrs["prompt"] for trial in study.trials if trial.state.name != "FAIL"]
    assert sorted(prompts) == sorted(row.candidate.label for row in latest(whole.rows))


@pytest.mark.slow
def test_a_study_that_goes_on_with_a_larger_budget_opens_its_trials_again(tmp_path: Path) -> None:
    path, table = tmp_path / "study.db", Table(noise=2.0)
    search(trials=12).run(log_of(path), table)
    begun = {trial.number: trial.datetime_start for trial in loaded(path).trials}
    search(trials=24).run(log := log_of(path), table)
    search(trials=24).run(whole := MemoryLog(), table)
    assert bare(log.rows) == bare(whole.rows)
    study = loaded(path)
    assert {number: study.trials[number].datetime_start for number in begun} == begun
    assert len(study.trials) == 24
    assert all(trial.state.is_finished() for trial in study.trials)
    again = [row for row in log.rows if row.continues is not None and row.number >= 12]
    assert again
    assert bare(log_of(path).rows) == bare(log.rows)


def test_an_extension_of_a_finished_trial_stays_in_it(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    choice = next(iter(SPACE.enumerate()))

    def row(number: int, images: int, value: float) -> TrialRow:
        values = tuple(value + 0.1 * (i % 2) for i in range(images))
        return TrialRow(
            number=number,
            candidate=SPACE.candidate(choice),
            choice=choice,
            score=Estimate.of_mean(values),
            estimates={},
            per_image={"score": values},
            continues=None if number == 0 else number - 1,
            step=number,
        )

    for number, (images, value) in enumerate([(8, 3.0), (16, 1.0), (32, 2.0)]):
        log = log_of(path)
        log.begin([(SPACE.candidate(choice), choice)])
        log.add(row(number, images, value))
        log.finish()
        (trial,) = loaded(path).trials
        assert trial.value == pytest.approx(value + 0.05)
        assert len(trial.intermediate_values) == number + 1
        assert trial.constraints == {"broken constraints": 0.0}
    assert [one.images for one in read_rows(tmp_path)] == [8, 16, 32]


def test_a_trial_that_a_killed_process_never_measured_fails_at_the_end(tmp_path: Path) -> None:
    choices = list(SPACE.enumerate())[:2]
    log = log_of(tmp_path / "study.db")
    log.begin([(SPACE.candidate(choice), choice) for choice in choices])
    log_of(tmp_path / "study.db").finish()
    assert [trial.state.name for trial in loaded(tmp_path / "study.db").trials] == ["FAIL", "FAIL"]
    assert read_rows(tmp_path) == []


def test_a_database_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    old = optuna.create_study(storage=address(path), study_name="search", direction="maximize")
    attributes = {"prompt": "a square", "candidate": Candidate("a square").to_json(), "row": {}}
    old.add_trial(optuna.trial.create_trial(value=0.0, user_attrs=attributes))
    with pytest.raises(StudyError, match="trial 0 was written by an earlier version"):
        log_of(path)
    with pytest.raises(StudyError, match="trial 0 was written by an earlier version"):
        read_rows(tmp_path)


def test_a_set_that_goes_on_has_one_trial_a_prompt_too(tmp_path: Path) -> None:
    path, choices = tmp_path / "study.db", list(SPACE.enumerate())[:3]
    a, b, c = (SPACE.candidate(choice) for choice in choices)
    values = {a: 0.5, b: 0.1, c: -0.2}
    log = SetLog(path, label="polyp", space=SPACE)
    log.add([LoggedLook(a, choices[0], 4), LoggedLook(b, choices[1], 4)], values)
    log.add([LoggedLook(a, choices[0], 8), LoggedLook(c, choices[2], 4)], values)
    log.close([c], values)
    log.finish(values, {a: 1.0}, {b: "copies real images"})
    states = {t.user_attrs["prompt"]: (t.state.name, t.value) for t in loaded(path, "polyp").trials}
    assert states == {a.label: ("COMPLETE", 0.5), b.label: ("COMPLETE", 0.1), c.label: ("PRUNED", -0.2)}
    assert [t.constraints["broken constraints"] for t in loaded(path, "polyp").trials] == [0, 1, 0]

    log = SetLog(path, label="polyp", space=SPACE)
    assert [[look.images for look in step] for step in log.steps] == [[4, 4], [8, 4]]
    values = {a: 0.4, b: 0.6, c: -0.2}
    log.add([LoggedLook(b, choices[1], 8)], values)
    log.finish(values, {b: 1.0})
    trials = loaded(path, "polyp").trials
    assert [t.value for t in trials] == [0.4, 0.6, -0.2]
    assert [t.constraints["broken constraints"] for t in trials] == [0, 0, 0]
    assert trials[1].intermediate_values == {4: 0.1, 8: 0.6}
    assert len(SetLog(path, label="polyp", space=SPACE).steps) == 3


@pytest.mark.slow
def test_a_search_for_a_set_killed_while_it_writes_takes_the_same_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies within steps; what is half written is dropped, and each prompt has one trial that counts."""
    world, path = World(1), tmp_path / "study.db"
    plain = world.space.likeliest()
    left = [10_000]

    def dying(trial: optuna.Trial, value: float, images: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KilledError
        report(trial, value, images)

    monkeypatch.setattr(set_log, "report", dying)

    def steps(log: SetLog) -> list[list[LoggedLook]]:
        engine = SetSearch(
            baseline=Look(world.space.candidate(plain), plain, 4),
            budget=SetBudget(images=100, tolerance=None),
            seed=0,
        )
        state, step, values = world.state(), 0, dict[Candidate, float]()
        while True:
            new = step >= len(log.steps)
            known = [] if new else [Look(one.candidate, one.choice, one.images) for one in log.steps[step]]
            looks = known or engine.next_step(state, step)[0]
            if not looks:
                log.finish(values, state.weights)
                return log.steps
            state.take([(one, world.measure(world.code(one.choice or plain), one.images)) for one in looks])
            values = {key: float(v.mean()) for key, v in zip(state.keys, state.values, strict=True)}
            if new:
                log.add([LoggedLook(one.key, one.choice, one.images) for one in looks], values)
            step += 1

    whole = steps(SetLog(tmp_path / "whole.db", label="polyp", space=world.space))
    tries = 0
    while True:
        left[0], tries = 3 + 2 * tries, tries + 1
        try:
            found = steps(SetLog(path, label="polyp", space=world.space))
            break
        except KilledError:
            continue
    assert tries > 3
    assert found == whole
    prompts = [t.user_attrs["prompt"] for t in loaded(path, "polyp").trials if t.state.name == "COMPLETE"]
    assert sorted(prompts) == sorted({look.candidate.label for step in whole for look in step})
