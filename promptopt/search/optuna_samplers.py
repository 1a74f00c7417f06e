"""Optuna's samplers, and others by class path, asked for prompts."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence

import optuna

from promptopt.base.errors import PromptoptError
from promptopt.config.study_file import SAMPLER_NAMES
from promptopt.run.database import distributions, quiet
from promptopt.search.candidates import Choice
from promptopt.space import PromptSpace

STARTUP = 8  # prompts before a model is fitted


class SamplerError(PromptoptError, ValueError):
    """`search.sampler` names no sampler that can be used; the message says why."""


def sampler_class(path: str) -> type[optuna.samplers.BaseSampler]:
    """The class that a path such as ``optuna.samplers.TPESampler`` names.

    Raises:
        SamplerError: it cannot be imported, or is no sampler that goes by the trials alone.
    """
    module, _, name = path.rpartition(".")

    def refused(problem: str) -> SamplerError:
        return SamplerError(
            problem,
            key="search.sampler",
            value=path,
            remedy=f"Give a subclass of optuna.samplers.BaseSampler, or one of {', '.join(SAMPLER_NAMES)}.",
        )

    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:
        raise refused(f"cannot be imported ({type(error).__name__}: {error})") from error
    if found is None:
        raise refused(f"does not exist: {module} has no {name}")
    if not (inspect.isclass(found) and issubclass(found, optuna.samplers.BaseSampler)):
        raise refused("is no class of samplers")
    if inspect.isabstract(found):
        raise refused("is abstract")
    if issubclass(found, optuna.samplers.NSGAIISampler | optuna.samplers.NSGAIIISampler):
        raise refused("breeds a population of its own, which is to be had as nsga2 alone")
    return found


def check_sampler(name: str) -> None:
    """Raise a SamplerError where a study could not use it; without a dot it is one of ours."""
    if "." in name:
        make_sampler(name, 0)


def make_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """The sampler for a seed. A class that takes none may draw otherwise in every run.

    Raises:
        SamplerError: see `sampler_class`; or it needs further arguments.
    """
    seed %= 2**32
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=STARTUP)
    if name == "gp":
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=STARTUP, warn_independent_sampling=False)
    if name == "tpe":
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=STARTUP, multivariate=True, warn_independent_sampling=False
        )
    found: Callable[..., optuna.samplers.BaseSampler] = sampler_class(name)
    try:
        takes_seed = "seed" in inspect.signature(found).parameters
        return found(seed=seed) if takes_seed else found()
    except Exception as error:
        raise SamplerError(
            f"cannot be made with {'a seed' if takes_seed else 'nothing'} alone ({error})",
            key="search.sampler",
            value=name,
            remedy="Derive a class from it whose other arguments have defaults.",
        ) from error


def ask(
    sampler: optuna.samplers.BaseSampler,
    space: PromptSpace,
    measured: Sequence[tuple[Mapping[str, str], Sequence[float]]],
    *,
    objectives: int = 1,
    count: int,
    replay: bool = False,
) -> list[Choice]:
    """What a sampler proposes after prompts that were measured; it may repeat some of them.

    Args:
        measured: choices with their values, one an objective, more being better.
        replay: for a sampler that remembers what it asked: its own proposals, asked for again from the start.
    """
    kinds = distributions(space)
    with quiet():
        study = optuna.create_study(directions=["maximize"] * objectives, sampler=sampler)
        for choice, values in measured:
            if replay:
                study.tell(study.ask(kinds), list(values))
            else:
                study.add_trial(
                    optuna.trial.create_trial(params=dict(choice), distributions=kinds, values=list(values))
                )
        asked = [study.ask(kinds) for _ in range(count)]
    return [{slot.name: str(trial.params[slot.name]) for slot in space.slots} for trial in asked]
