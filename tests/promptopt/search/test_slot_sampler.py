"""The model over slots as an Optuna sampler: Optuna's published tests, the suite, and what it promises."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.testing import pytest_samplers
from optuna.trial import TrialState

from promptopt.samplers import SlotSampler
from promptopt.testing.samplers import OptunaSamplerSuite

CHOICES = {"size": (1, 2, 3), "color": ("red", None, "blue"), "view": (True, False), "light": (0.5, 1.5)}
KINDS = {name: CategoricalDistribution(options) for name, options in CHOICES.items()}
COMBINATIONS = [dict(zip(CHOICES, one, strict=True)) for one in itertools.product(*CHOICES.values())]


@pytest.fixture(autouse=True)
def silent() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


class TestPublished(
    pytest_samplers.BasicSamplerTestCase,
    pytest_samplers.RelativeSamplerTestCase,
    pytest_samplers.MultiObjectiveSamplerTestCase,
):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: SlotSampler(seed=0)


class TestEarlyModel(TestPublished):
    """The same with the model in use from the second trial on."""

    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: SlotSampler(seed=0, n_startup_trials=1)


class TestSuite(OptunaSamplerSuite):
    @pytest.fixture
    def make_sampler(self) -> Callable[[int], BaseSampler]:
        return lambda seed: SlotSampler(seed=seed)


def worth(params: dict[str, object]) -> float:
    return (
        {1: 0.0, 2: 1.5, 3: 0.5}[params["size"]]
        + {"red": 0.0, None: 2.0, "blue": -1.0}[  # type: ignore[index]
            params["color"]
        ]
        + (0.7 if params["view"] else 0.0) * float(params["light"])
    )  # type: ignore[arg-type]


BEST = max(COMBINATIONS, key=worth)


def study(direction: str = "maximize", **settings: object) -> optuna.Study:
    return optuna.create_study(direction=direction, sampler=SlotSampler(**{"seed": 0, **settings}))


def suggested(trial: optuna.Trial) -> dict[str, object]:
    return {name: trial.suggest_categorical(name, options) for name, options in CHOICES.items()}


def trials_until_best(sampler: BaseSampler, *, sign: float = 1.0) -> int:
    one = optuna.create_study(direction="maximize" if sign > 0 else "minimize", sampler=sampler)
    for count in range(1, 200):
        trial = one.ask(KINDS)
        one.tell(trial, sign * worth(trial.params))
        if trial.params == BEST:
            return count
    return 200


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_it_is_at_the_best_of_36_combinations_long_before_chance(sign: float) -> None:
    ours = [trials_until_best(SlotSampler(seed=seed), sign=sign) for seed in range(8)]
    chance = [trials_until_best(RandomSampler(seed=seed)) for seed in range(8)]
    assert np.mean(ours) < 14
    assert np.mean(chance) > 1.5 * np.mean(ours)


def test_same_seed_same_study_and_another_seed_another() -> None:
    def asked(seed: int) -> list[dict[str, object]]:
        one = study(seed=seed)
        one.optimize(lambda trial: worth(suggested(trial)), n_trials=20)
        return [trial.params for trial in one.trials]

    assert asked(3) == asked(3)
    assert asked(3) != asked(4)


def test_every_combination_comes_once_before_one_comes_again() -> None:
    one = study()
    for _ in range(len(COMBINATIONS)):
        trial = one.ask(KINDS)
        one.tell(trial, worth(trial.params))
    keys = [tuple(trial.params.values()) for trial in one.trials]
    assert len(set(keys[9:])) == len(keys[9:])
    assert not set(keys[9:]) & set(keys[:9])
    trial = one.ask(KINDS)  # nothing is left
    assert trial.params in COMBINATIONS


def test_running_trials_are_not_proposed_again() -> None:
    one = study()
    for choice in COMBINATIONS[::4]:
        one.add_trial(optuna.create_trial(params=choice, distributions=KINDS, value=worth(choice)))
    asked = [tuple(one.ask(KINDS).params.values()) for _ in range(8)]
    assert len(set(asked)) == 8


def test_pruned_trials_count_by_their_last_value() -> None:
    """What is never told but as pruned is learned from all the same."""
    one = study()
    for choice in COMBINATIONS:
        if choice != BEST:
            report = {1: 9.0 * (choice["size"] == 1), 2: worth(choice)}
            one.add_trial(
                optuna.create_trial(
                    state=TrialState.PRUNED,
                    params=choice,
                    distributions=KINDS,
                    intermediate_values=report,
                )
            )
    assert one.ask(KINDS).params == BEST
    space = one.sampler.infer_relative_search_space(one, one.trials[-1])
    assert set(space) == set(CHOICES)


def test_what_breaks_a_constraint_is_no_better_than_the_worst_that_keeps_to_it() -> None:
    """With the best color forbidden, the other trials of that color are not sought out."""
    counts = {}
    for forbidding in (False, True):
        one = study(seed=5)
        for _ in range(18):
            trial = one.ask(KINDS)
            if forbidding:
                trial.set_constraint("color", 1.0 if trial.params["color"] is None else -1.0)
            one.tell(trial, worth(trial.params))
        counts[forbidding] = sum(trial.params["color"] is None for trial in one.trials[8:])
        if forbidding:
            assert one.best_trial.params["color"] is not None
    assert counts[True] < counts[False]


def test_several_objectives_are_weighed_at_random() -> None:
    one = optuna.create_study(directions=["maximize", "minimize"], sampler=SlotSampler(seed=1))
    for _ in range(24):
        trial = one.ask(KINDS)
        cost = {1: 0.0, 2: 3.0, 3: 1.0}[trial.params["size"]]
        one.tell(trial, [100 * worth(trial.params), cost])
    late = [trial.params["size"] for trial in one.trials[8:]]
    assert {1, 2} <= set(late)
    assert any(trial.params == BEST for trial in one.trials)


def test_noise_is_seen_in_repeated_trials() -> None:
    """One lucky value of a poor combination, told five more times, is no reason to go near it."""
    rng = np.random.default_rng(0)
    one = study()
    for choice in COMBINATIONS:
        if choice == BEST:
            continue
        for _ in range(3):
            noisy = worth(choice) + 0.3 * float(rng.normal())
            one.add_trial(optuna.create_trial(params=choice, distributions=KINDS, value=noisy))
    assert one.ask(KINDS).params == BEST


def test_conditional_and_numerical_parameters_are_left_to_the_other_sampler() -> None:
    def objective(trial: optuna.Trial) -> float:
        kind = trial.suggest_categorical("kind", ["a", "b"])
        if kind == "a":
            return float(trial.suggest_categorical("own", [1, 2, 3]))
        return trial.suggest_float("x", 0, 1) + trial.suggest_int("n", 0, 2)

    class Asked(RandomSampler):
        def __init__(self) -> None:
            super().__init__(seed=0)
            self.names: set[str] = set()

        def sample_independent(self, study, trial, param_name, param_distribution):  # type: ignore[no-untyped-def]
            self.names.add(param_name)
            return super().sample_independent(study, trial, param_name, param_distribution)

    other = Asked()
    one = study("maximize", independent_sampler=other, n_startup_trials=2)
    one.optimize(objective, n_trials=25)
    assert other.names == {"own", "x", "n"}
    assert one.best_value == 3.0


def test_infinite_and_missing_values_are_no_trouble() -> None:
    one = study(n_startup_trials=2)
    for number, choice in enumerate(COMBINATIONS[::3]):
        value = [worth(choice), float("inf"), float("-inf")][number % 3]
        one.add_trial(optuna.create_trial(params=choice, distributions=KINDS, value=value))
    one.add_trial(optuna.create_trial(params=BEST, distributions=KINDS, state=TrialState.PRUNED))
    assert one.ask(KINDS).params in COMBINATIONS


def test_large_spaces_are_searched_by_neighbors_and_a_sample() -> None:
    kinds = {f"slot {i}": CategoricalDistribution(list(range(6))) for i in range(8)}
    one = study()
    for _ in range(60):
        trial = one.ask(kinds)
        one.tell(trial, float(sum(trial.params.values())))
    first = np.mean([trial.value for trial in one.trials[:8]])
    assert one.best_value > first + 12


def test_several_threads_share_it() -> None:
    one = study()
    one.optimize(lambda trial: worth(suggested(trial)), n_trials=30, n_jobs=2)
    assert len(one.trials) == 30
    assert one.best_params == BEST


def test_no_trial_at_random_is_refused() -> None:
    with pytest.raises(ValueError, match="n_startup_trials is 0"):
        SlotSampler(n_startup_trials=0)
