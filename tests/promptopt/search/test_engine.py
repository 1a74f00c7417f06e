"""The search on tables with known values: what it finds, spends, repeats, and how it goes on."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from evaluation.estimate import Estimate
from promptopt.config.study_file import SearchSettings
from promptopt.run.trials import GAIN, TrialRow, latest
from promptopt.search.candidates import Candidates
from promptopt.search.engine import MemoryLog, Pull, Scored, Search, complete, images_made, ranked
from promptopt.search.racing import beaten, stages
from promptopt.search.samplers import SAMPLERS, Sampling, resolve
from promptopt.space import Candidate, PromptSpace, compile_template

SPACE = compile_template("{a|b|c|d} {e|f|g|h} {i|j|k|l}", {})
TERMS = ("one", "two")


class Table:
    """Additive values with a known best prompt, images on shared seeds; counts what it is asked for."""

    def __init__(self, *, noise: float = 0.5, space: PromptSpace = SPACE) -> None:
        self.asked: list[tuple[Candidate, int]] = []
        rng = np.random.default_rng(5)
        effects = {slot.name: rng.normal(size=len(slot.options)) for slot in space.slots}
        self.values = {
            space.candidate(c): float(sum(effects[s.name][s.options.index(c[s.name])] for s in space.slots))
            for c in space.enumerate()
        }
        self.noise = noise
        self.best = max(self.values, key=self.values.__getitem__)
        self.violating: set[Candidate] = set()

    def images(self, prompt: Candidate, count: int) -> np.ndarray:
        own = np.random.default_rng([1, *prompt.prompt.encode()]).normal(size=256)
        return self.values[prompt] + self.noise * (np.random.default_rng(2).normal(size=256) + own)[:count]

    def __call__(self, wanted: Sequence[Pull]) -> list[Scored]:
        found = []
        for pull in wanted:
            self.asked.append((pull.candidate, pull.images))
            scores = self.images(pull.candidate, pull.images)
            columns = {"score": scores, GAIN + "one": scores, GAIN + "two": -scores}
            broken = ("too plain",) if pull.candidate in self.violating else ()
            found.append(
                Scored(
                    Estimate.of_mean(scores),
                    {name: tuple(map(float, values)) for name, values in columns.items()},
                    violations=broken,
                )
            )
        return found


def search(space: PromptSpace = SPACE, *, terms: tuple[str, ...] = (), **settings: object) -> Search:
    chosen = SearchSettings.model_validate({"trials": 24, "images": 8, "stop": None, **settings})
    listed = space.distinct(20_001) if space.size <= 20_000 else None
    name = resolve(chosen.sampler, prompts=None if listed is None else len(listed), trials=chosen.trials)
    sampling = Sampling(candidates=Candidates(space, listed), name=name, seed=3, terms=terms)
    return Search(sampling=sampling, settings=chosen, baseline=Candidate("none"))


def run(one: Search, table: Table | None = None) -> tuple[list[TrialRow], str, Table]:
    table, log = table or Table(), MemoryLog()
    return log.rows, one.run(log, table), table


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("terms", [(), TERMS])
def test_every_sampler_scores_the_wanted_number_and_is_a_function_of_the_seed(
    sampler: str, terms: tuple[str, ...]
) -> None:
    one = search(sampler=sampler, terms=terms, trials=12)
    rows, reason, table = run(one)
    assert len(latest(rows)) == 12
    assert "12 prompts" in reason
    assert images_made(rows) <= 1.25 * 12 * 8
    again, _, _ = run(one)
    assert [replace(row, seconds=0) for row in rows] == [replace(row, seconds=0) for row in again]
    assert len(table.asked) == len({*table.asked}) == sum(row.duplicate_of is None for row in rows)


def test_the_model_finds_the_best_prompt_of_64_in_24_trials() -> None:
    one = search()
    rows, _, table = run(one)
    assert ranked(rows, one.sampling)[0][0].candidate == table.best
    assert max(row.images for row in latest(rows)) >= 16  # promising ones have had more
    assert min(row.images for row in latest(rows)) == 8


def test_a_search_cut_after_any_row_goes_on_as_if_it_had_not_been() -> None:
    one = search(trials=14)
    whole, _, _ = run(one)
    for cut in range(len(whole)):
        log = MemoryLog(list(whole[:cut]))
        one.run(log, Table())
        assert [replace(row, seconds=0) for row in log.rows] == [replace(row, seconds=0) for row in whole]


def test_rows_of_a_step_that_was_not_finished_do_not_count() -> None:
    rows, _, _ = run(search(trials=8, racing=False))
    assert [row.step for row in rows] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert complete(rows[:5]) == rows[:4]
    assert complete(rows[:6]) == rows[:6]
    assert complete([]) == []


def test_it_stops_when_no_other_prompt_is_likely_to_win() -> None:
    rows, reason, table = run(search(trials=64, stop=0.05, sampler="slots"), Table(noise=0.1))
    assert "probability of only" in reason
    assert len(latest(rows)) < 50
    assert max(latest(rows), key=lambda row: row.value).candidate == table.best


def test_budgets_of_images_and_minutes_end_it() -> None:
    rows, reason, _ = run(search(max_images=50))
    assert images_made(rows) <= 50
    assert "images" in reason
    rows, reason, _ = run(search(minutes=1e-9))
    assert len(rows) == 2  # the step that was under way
    assert "minutes" in reason


def test_a_space_too_large_to_list_is_searched_by_its_neighbors() -> None:
    slots = ["{" + "|".join(f"{letter}{i}" for i in range(9)) + "}" for letter in "abcdef"]
    space = compile_template(" ".join(slots), {})
    assert space.size > 20_000

    class Large(Table):
        def __init__(self) -> None:
            super().__init__()

        def images(self, prompt: Candidate, count: int) -> np.ndarray:
            value = sum(int(word[1:]) for word in prompt.prompt.split()) / 10
            return value + 0.1 * np.random.default_rng([1, *prompt.prompt.encode()]).normal(size=count)

    one = search(space, trials=60)
    rows, _, _ = run(one, Large())
    best = ranked(rows, one.sampling)[0][0].candidate
    assert sum(int(word[1:]) for word in best.prompt.split()) >= 40  # of 48; random prompts have 24


def test_prompts_that_break_a_constraint_come_last_and_get_no_more_images() -> None:
    table = Table()
    table.violating = {table.best}
    one = search(trials=40)
    rows, _, _ = run(one, table)
    broken = [row for row in rows if row.candidate == table.best]
    assert all(row.continues is None for row in broken)
    order = [row.candidate for row, _, _ in ranked(rows, one.sampling)]
    assert order[0] != table.best
    if broken:
        assert order[-1] == table.best


def test_warm_starts_are_tried_first() -> None:
    one = search()
    first = {"slot1": "d", "slot2": "h", "slot3": "l"}
    warm = replace(one, sampling=replace(one.sampling, first=(first,)))
    rows, _, _ = run(warm)
    assert rows[0].choice == first


def test_looks_double_up_to_64_images() -> None:
    assert stages(16, racing=True) == (16, 32, 64)
    assert stages(12, racing=True) == (12, 24, 48)
    assert stages(16, racing=False) == (16,)


def test_a_prompt_loses_to_one_that_is_clearly_better_and_not_to_its_equal() -> None:
    rng = np.random.default_rng(0)
    own = rng.normal(size=32)
    better = own + 3 + 0.2 * rng.normal(size=32)
    equal = own + rng.normal(size=32)
    assert beaten({"score": own}, {"equal": {"score": equal}, "better": {"score": better}}) == "better"
    assert beaten({"score": own[:4]}, {"better": {"score": better[:4]}}) is None  # too few to say
    # kept apart, it must be better in every term
    assert beaten({"a": own, "b": own}, {"half": {"a": better, "b": own - 3}}) is None
    assert beaten({"a": own, "b": own}, {"both": {"a": better, "b": better}}) == "both"


def test_in_pareto_mode_both_ends_of_the_front_are_found() -> None:
    """Term two is the opposite of term one, so every prompt is on the front: none may lose."""
    rows, _, _ = run(search(terms=TERMS, trials=20))
    assert all(row.eliminated_by is None for row in rows)
