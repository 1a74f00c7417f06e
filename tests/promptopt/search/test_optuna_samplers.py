"""Optuna's samplers by class path: what is taken, what is refused, and that they learn from the search."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.samplers import BaseSampler, RandomSampler

from promptopt.run.trials import latest
from promptopt.search.optuna_samplers import SamplerError, ask, check_sampler, make_sampler
from tests.promptopt.search.sets.worlds import World
from tests.promptopt.search.test_engine import SPACE, run, search

HERE = __name__


class Seedless(RandomSampler):
    def __init__(self) -> None:
        super().__init__(seed=11)


class Demanding(RandomSampler):
    def __init__(self, temperature: float) -> None:
        super().__init__(seed=0)


class Failing(RandomSampler):
    def __init__(self, seed: int) -> None:
        raise RuntimeError("no license")


class NoSampler:
    pass


def a_function() -> BaseSampler:
    return RandomSampler()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no.such.module.Sampler", "cannot be imported .*ModuleNotFoundError"),
        ("optuna.samplers.NoSuchSampler", "does not exist: optuna.samplers has no NoSuchSampler"),
        ("optuna.samplers.BaseSampler", "is abstract"),
        ("os.path", "is no class of samplers"),
        (f"{HERE}.NoSampler", "is no class of samplers"),
        (f"{HERE}.a_function", "is no class of samplers"),
        (f"{HERE}.Demanding", "cannot be made with nothing alone .*temperature"),
        (f"{HERE}.Failing", "cannot be made with a seed alone .*no license"),
        ("optuna.samplers.GridSampler", "cannot be made with a seed alone .*search_space"),
        ("optuna.samplers.NSGAIISampler", "breeds .* to be had as nsga2"),
    ],
)
def test_what_is_no_sampler_is_refused_with_a_sentence(path: str, words: str) -> None:
    with pytest.raises(SamplerError, match=f"search.sampler: '{path}' {words}"):
        check_sampler(path)


@pytest.mark.parametrize(
    "path", ["optuna.samplers.TPESampler", "promptopt.samplers.SlotSampler", f"{HERE}.Seedless", "slots"]
)
def test_subclasses_are_taken_with_a_seed_where_they_have_one(path: str) -> None:
    check_sampler(path)
    if "." in path:
        assert isinstance(make_sampler(path, 2**40), BaseSampler)


@pytest.mark.parametrize("path", ["optuna.samplers.TPESampler", "promptopt.samplers.SlotSampler"])
def test_a_search_by_class_path_is_a_function_of_the_seed_and_beats_chance(path: str) -> None:
    one = search(sampler=path, trials=30, racing=False)
    rows, _, table = run(one)
    again, _, _ = run(search(sampler=path, trials=30, racing=False))
    assert [row.candidate for row in rows] == [row.candidate for row in again]
    assert len(latest(rows)) == 30
    late = [table.values[row.candidate] for row in latest(rows)[10:]]
    assert np.mean(late) > np.mean(list(table.values.values())) + 0.5 * np.std(list(table.values.values()))


def test_a_sampler_sees_choices_with_their_values() -> None:
    seen: list[tuple[dict[str, object], list[float]]] = []

    class Looking(RandomSampler):
        def infer_relative_search_space(self, study, trial):  # type: ignore[no-untyped-def]
            seen[:] = [(dict(t.params), list(t.values)) for t in study.get_trials() if t.state.is_finished()]
            return super().infer_relative_search_space(study, trial)

    choices = list(SPACE.enumerate())[:3]
    measured = [(choice, [float(i), -float(i)]) for i, choice in enumerate(choices)]
    asked = ask(Looking(seed=0), SPACE, measured, objectives=2, count=2)
    assert len(asked) == 2
    assert all(SPACE.candidate(choice) for choice in asked)
    assert seen == [(dict(choice), values) for choice, values in measured]
    assert ask(Looking(seed=0), SPACE, [], count=1)


@pytest.mark.parametrize("sampler", ["random", "tpe", "promptopt.samplers.SlotSampler"])
def test_a_set_is_searched_by_other_samplers_too(sampler: str) -> None:
    """It ends, measures each prompt once, is a function of its seed, and differs from our own model's."""
    looks = {}
    for name, again in [(sampler, 0), (sampler, 1), ("auto", 0)]:
        search_, state = World(1).search(images=100, sampler=name)
        looks[name, again] = list(state.looks)
        assert state.images <= 100
        assert len({candidate.normalized_key for candidate in state.looks}) == len(state.looks)
        assert search_.sampler == name
    assert looks[sampler, 0] == looks[sampler, 1]
    assert looks[sampler, 0] != looks["auto", 0]


def test_a_set_search_tells_a_sampler_what_each_prompt_would_add_now(monkeypatch: pytest.MonkeyPatch) -> None:
    from promptopt.search.sets import engine

    told = []

    def spy(sampler, space, measured, *, count):  # type: ignore[no-untyped-def]
        told.append(measured)
        return ask(sampler, space, measured, count=count)

    monkeypatch.setattr(engine, "ask", spy)
    _, state = World(1).search(images=100, sampler="optuna.samplers.TPESampler")
    assert len(told) > 2
    last = {state.candidates.key(choice): value for choice, (value,) in told[-1]}
    now = {
        key.normalized_key: float(values.mean())
        for key, values in zip(state.keys, state.values, strict=True)
        if state.looks[key].choice is not None
    }
    assert set(last) <= set(now)
    first = {state.candidates.key(choice): value for choice, (value,) in told[0]}
    assert any(first[key] != last[key] for key in first)  # fitted anew under the set of the time
