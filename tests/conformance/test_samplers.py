"""The search's own samplers, and Optuna's, in the suite for samplers."""

from __future__ import annotations

from collections.abc import Callable

import optuna
import pytest

from evaluation.estimate import Estimate
from promptopt.run.trials import TrialRow
from promptopt.search.candidates import Candidates
from promptopt.search.samplers import STARTUP, Models, Sampling, propose
from promptopt.space import PromptSpace, compile_template
from promptopt.testing.samplers import Measured, OptunaSamplerSuite, Propose, SamplerSuite, Slots

IMAGES = 8
# "enumerate" and "random" look at no score.
OWN = {"slots": True, "gp": True, "tpe": True, "nsga2": True, "random": False, "enumerate": False}


def chosen_by(name: str) -> Propose:
    """The search's `propose` with this sampler, over a template with a bracket for each slot."""

    def ask(slots: Slots, measured: Measured, count: int, seed: int) -> list[dict[str, str]]:
        space = compile_template(" ".join("{" + "|".join(options) + "}" for options in slots.values()))
        names = dict(zip(slots, (slot.name for slot in space.slots), strict=True))
        listed = space.distinct(10_000)
        rows = [
            _row(number, {names[slot]: option for slot, option in choice.items()}, value, space)
            for number, (choice, value) in enumerate(measured)
        ]
        sampling = Sampling(candidates=Candidates(space, listed), name=name, seed=seed)
        arms = {row.candidate: row for row in rows}
        model = Models(sampling, list(arms.values())) if name == "slots" and len(arms) >= STARTUP else None
        back = {own: slot for slot, own in names.items()}
        return [
            {back[own]: option for own, option in choice.items()}
            for choice in propose(sampling, rows, count, model)
        ]

    return ask


def _row(number: int, choice: dict[str, str], value: float, space: PromptSpace) -> TrialRow:
    values = tuple(value + 0.01 * (image - (IMAGES - 1) / 2) for image in range(IMAGES))
    estimate = Estimate.of_mean(values)
    return TrialRow(
        number=number,
        candidate=space.candidate(choice),
        choice=choice,
        score=estimate,
        estimates={"score": estimate},
        per_image={"score": values},
    )


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name == "gp" else name for name in OWN],
    scope="class",
)
class TestOwnSamplers(SamplerSuite):
    @pytest.fixture
    def propose(self, name: str, monkeypatch: pytest.MonkeyPatch) -> Propose:
        monkeypatch.setattr(type(self), "learns", OWN[name])
        return chosen_by(name)


class TestTpe(OptunaSamplerSuite):
    @pytest.fixture
    def make_sampler(self) -> Callable[[int], optuna.samplers.BaseSampler]:
        return lambda seed: optuna.samplers.TPESampler(seed=seed, n_startup_trials=6)


class TestRandom(OptunaSamplerSuite):
    learns = False

    @pytest.fixture
    def make_sampler(self) -> Callable[[int], optuna.samplers.BaseSampler]:
        return lambda seed: optuna.samplers.RandomSampler(seed=seed)
