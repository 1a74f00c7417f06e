"""What every sampler of prompts must do: choose options of slots from what was measured before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import optuna
import pytest

Slots = Mapping[str, Sequence[str]]
"""Options by slot."""
Measured = Sequence[tuple[Mapping[str, str], float]]
"""Choices (an option for every slot) with their scores, the first measured first; more is better."""
Propose = Callable[[Slots, Measured, int, int], list[dict[str, str]]]
"""slots, what was measured, how many, seed -> the next choices."""


class SamplerSuite:
    """Tests of a way to choose prompts.

    Override the fixture `propose`: slots, what was measured, a count and a seed -> the next choices.

    Attributes:
        learns: False for a sampler that looks at no score, such as random draws.
        steps, count: how often, and how many at a time, it is asked where it must find the best.

    Example:
        >>> class TestMine(SamplerSuite):
        ...     @pytest.fixture
        ...     def propose(self):
        ...         return my_proposals
    """

    learns: ClassVar[bool] = True
    steps: ClassVar[int] = 12
    count: ClassVar[int] = 3
    slots: ClassVar[Slots] = {
        "size": ("", "small", "large"),
        "color": ("red", "pale", "pink", "brown"),
        "view": ("", "close view", "overview"),
        "light": ("bright", "dark"),
    }

    @pytest.fixture
    def propose(self) -> Propose:
        """The sampler."""
        raise NotImplementedError(f"{type(self).__name__}: override the fixture `propose`")

    def measured(self, count: int, seed: int = 0) -> list[tuple[dict[str, str], float]]:
        """Random choices with their scores."""
        rng = np.random.default_rng(seed)
        choices = [
            {name: str(rng.choice(options)) for name, options in self.slots.items()} for _ in range(count)
        ]
        return [(choice, score(choice)) for choice in choices]

    @pytest.mark.parametrize("earlier", [0, 1, 12])
    def test_every_choice_is_of_the_space(self, propose: Propose, earlier: int) -> None:
        chosen = propose(self.slots, self.measured(earlier), self.count, 0)
        assert 1 <= len(chosen) <= self.count
        for choice in chosen:
            assert choice.keys() == self.slots.keys()
            assert all(option in self.slots[name] for name, option in choice.items()), choice

    @pytest.mark.parametrize("earlier", [0, 12])
    def test_is_a_function_of_what_was_measured_and_the_seed(self, propose: Propose, earlier: int) -> None:
        first = propose(self.slots, self.measured(earlier), self.count, 7)
        np.random.default_rng().normal(size=3)
        assert propose(self.slots, self.measured(earlier), self.count, 7) == first

    def test_seed_changes_the_draw(self, propose: Propose) -> None:
        chosen = [propose(self.slots, self.measured(12), self.count, seed) for seed in range(8)]
        assert any(choice != chosen[0] for choice in chosen[1:])

    def test_what_was_measured_is_left_alone(self, propose: Propose) -> None:
        measured = self.measured(12)
        kept = [(dict(choice), number) for choice, number in measured]
        propose(self.slots, measured, self.count, 0)
        assert measured == kept

    def test_equal_scores_are_no_trouble(self, propose: Propose) -> None:
        flat = [(choice, 0.0) for choice, _ in self.measured(12)]
        assert propose(self.slots, flat, self.count, 0)

    def test_slot_of_one_option_is_no_trouble(self, propose: Propose) -> None:
        slots = {**self.slots, "place": ("in the colon",)}
        measured = [({**choice, "place": "in the colon"}, number) for choice, number in self.measured(12)]
        for choice in propose(slots, measured, self.count, 0):
            assert choice["place"] == "in the colon"

    def test_finds_better_prompts_than_chance(self, propose: Propose) -> None:
        """The mean of the second half of what it tries, against that of all prompts, over five seeds."""
        if not self.learns:
            pytest.skip("looks at no score")
        gains = []
        for seed in range(5):
            measured: list[tuple[dict[str, str], float]] = []
            for _ in range(self.steps):
                chosen = propose(self.slots, measured, self.count, seed)
                measured += [(choice, score(choice)) for choice in chosen]
            late = [number for _, number in measured[len(measured) // 2 :]]
            gains.append(float(np.mean(late)))
        by_chance = [number for _, number in self.measured(2000)]
        assert np.mean(gains) > np.mean(by_chance) + 0.5 * np.std(by_chance), gains


class OptunaSamplerSuite(SamplerSuite):
    """Tests of an `optuna.samplers.BaseSampler`, whose parameters are the slots.

    Override the fixture `make_sampler`: seed -> sampler. Optuna's own `optuna.testing` tests the rest.
    """

    @pytest.fixture
    def make_sampler(self) -> Callable[[int], optuna.samplers.BaseSampler]:
        """The sampler for a seed."""
        raise NotImplementedError(f"{type(self).__name__}: override the fixture `make_sampler`")

    @pytest.fixture
    def propose(self, make_sampler: Callable[[int], optuna.samplers.BaseSampler]) -> Propose:
        """By asking a study that was handed what was measured."""

        def ask(slots: Slots, measured: Measured, count: int, seed: int) -> list[dict[str, str]]:
            space = _distributions(slots)
            study = optuna.create_study(direction="maximize", sampler=make_sampler(seed))
            for choice, number in measured:
                study.add_trial(optuna.create_trial(params=dict(choice), distributions=space, value=number))
            return [study.ask(space).params for _ in range(count)]

        return ask

    def test_goes_on_after_failed_trials(
        self, make_sampler: Callable[[int], optuna.samplers.BaseSampler]
    ) -> None:
        study = optuna.create_study(direction="maximize", sampler=make_sampler(0))
        space = _distributions(self.slots)
        for number in range(12):
            trial = study.ask(space)
            if number % 3:
                study.tell(trial, score(trial.params))
            else:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
        assert study.ask(space).params.keys() == self.slots.keys()


def score(choice: Mapping[str, Any]) -> float:
    """A score with one best prompt: what each option adds, and what two of them add together."""
    worth = {"small": 1.0, "large": -1.0, "pale": 1.0, "brown": -1.5, "close view": 0.8, "dark": -0.7}
    both = 0.5 if choice["color"] == "pale" and choice["size"] == "small" else 0.0
    return sum(worth.get(option, 0.0) for option in choice.values()) + both


def _distributions(slots: Slots) -> dict[str, optuna.distributions.BaseDistribution]:
    return {
        name: optuna.distributions.CategoricalDistribution(list(options)) for name, options in slots.items()
    }
