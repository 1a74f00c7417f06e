"""The search's model over slots as a sampler for any Optuna study of categorical parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.search_space import intersection_search_space
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from promptopt.search.model.improvement import improvements
from promptopt.search.model.noise import FloatArray, IntArray
from promptopt.search.model.value_model import ValueModel

_LISTED = 4_000  # combinations that are all looked at; of larger spaces neighbors of the best and a sample
_SAMPLED = 1_000
_NEIGHBORS_OF = 5
_LOOKED_AT = 512  # combinations, of the highest bounds, that are drawn jointly
_DRAWS = 128


class SlotSampler(BaseSampler):
    """Proposes categorical parameters by a Gaussian process over their options and pairs of options.

    A trial's value is taken for a constant plus an effect of each parameter's option and of each pair of
    options, something of its own, and noise; the four variances are estimated anew for every proposal. It
    proposes what improves most, in expectation over joint draws, on the best of all trials, running ones
    included (https://doi.org/10.1214/18-BA1110). No combination is proposed twice before all were.

    Trials that were pruned count by their last intermediate value. Trials that break a constraint
    (`optuna.trial.Trial.set_constraint`) count as no better than the worst that keeps to all. Of several
    objectives each proposal takes other random weights (https://doi.org/10.1109/TEVC.2005.851274).

    Parameters that are not categorical, or that not every trial has, are left to `independent_sampler`.

    Args:
        seed: with the same one, and trials one after another, a study is the same.
        n_startup_trials: trials of random combinations before the model is used.
        independent_sampler: default `optuna.samplers.TPESampler` with the same seed.

    Raises:
        ValueError: n_startup_trials is below 1.

    Example:
        >>> import optuna
        >>> from promptopt.samplers import SlotSampler
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> def objective(trial):
        ...     size = trial.suggest_categorical("size", ["tiny", "small", "large"])
        ...     color = trial.suggest_categorical("color", ["red", "pale", "brown"])
        ...     return {"tiny": 0, "small": 2, "large": 1}[size] + {"red": 1, "pale": 3, "brown": 0}[color]
        >>> study = optuna.create_study(direction="maximize", sampler=SlotSampler(seed=0, n_startup_trials=4))
        >>> study.optimize(objective, n_trials=9)
        >>> study.best_params
        {'size': 'small', 'color': 'pale'}
    """

    def __init__(
        self,
        *,
        seed: int | None = None,
        n_startup_trials: int = 8,
        independent_sampler: BaseSampler | None = None,
    ) -> None:
        if n_startup_trials < 1:
            raise ValueError(f"n_startup_trials is {n_startup_trials}; give 1 or more")
        self._rng = np.random.default_rng(seed)
        self._startup = n_startup_trials
        self._independent = independent_sampler or TPESampler(seed=seed)

    def reseed_rng(self) -> None:
        """Draw otherwise from now on, as Optuna asks where several processes have the same sampler."""
        self._rng = np.random.default_rng()
        self._independent.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The categorical parameters that all trials have, with the same options."""
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        shared = intersection_search_space(trials, include_pruned=True)
        return {
            name: kind
            for name, kind in shared.items()
            if isinstance(kind, CategoricalDistribution) and not kind.single()
        }

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values of the parameters of `search_space`."""
        kinds = {
            name: kind for name, kind in search_space.items() if isinstance(kind, CategoricalDistribution)
        }
        found = {
            name: self._independent.sample_independent(study, trial, name, kind)
            for name, kind in search_space.items()
            if name not in kinds
        }
        if kinds:
            seen = _Seen(study, trial, kinds)
            code = self._choose(seen) if len(seen.values) >= self._startup else self._drawn(seen)
            found |= {name: kind.choices[int(i)] for (name, kind), i in zip(kinds.items(), code, strict=True)}
        return found

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """By the independent sampler; a categorical parameter at random while there is nothing to go by."""
        if isinstance(param_distribution, CategoricalDistribution):
            known = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
            if len(known) < self._startup:
                choices = param_distribution.choices
                return choices[int(self._rng.integers(len(choices)))]
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """For the independent sampler, which may need it."""
        self._independent.before_trial(study, trial)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """For the independent sampler, which may need it."""
        self._independent.after_trial(study, trial, state, values)

    def _drawn(self, seen: _Seen) -> IntArray:
        """A combination that no trial had, as long as one is drawn in 100."""
        for _ in range(100):
            code = self._rng.integers(seen.sizes)
            if tuple(code.tolist()) not in seen.taken:
                break
        return np.asarray(code, dtype=np.int64)

    def _choose(self, seen: _Seen) -> IntArray:
        codes, repeats = seen.grouped()
        models = [
            ValueModel(codes, [[row[k] for row in own] for own in repeats]) for k in range(seen.objectives)
        ]
        weights = self._rng.dirichlet(np.ones(len(models))) if len(models) > 1 else np.ones(1)
        mean = sum(w * m.predict(codes)[0] for w, m in zip(weights, models, strict=True))
        others = self._others(seen, codes[np.argsort(-mean, kind="stable")[:_NEIGHBORS_OF]])
        pending = seen.pending
        if not len(others):  # all were tried: one that is likely to be the best
            draw = sum(w * m.draws(codes[:0], 1, self._rng)[0] for w, m in zip(weights, models, strict=True))
            return np.asarray(codes[int(np.argmax(draw))])
        bound = np.zeros(len(others))
        for weight, model in zip(weights, models, strict=True):
            value, sd = model.predict(others)
            bound += weight * (value + 2 * sd)
        others = others[np.argsort(-bound, kind="stable")[:_LOOKED_AT]]
        drawn = [model.draws(np.concatenate([pending, others]), _DRAWS, self._rng) for model in models]
        draws = np.tensordot(weights, np.stack(drawn), axes=1)
        known = len(codes) + len(pending)
        gain = improvements(draws[:, known:], draws[:, :known].max(axis=1))
        return np.asarray(others[int(gain.argmax())])

    def _others(self, seen: _Seen, best: IntArray) -> IntArray:
        """Combinations that no trial had."""
        sizes = seen.sizes
        if np.prod(sizes, dtype=np.float64) <= _LISTED:
            grids = np.meshgrid(*(np.arange(n) for n in sizes), indexing="ij")
            codes = np.stack([grid.ravel() for grid in grids], axis=1)
        else:
            near = np.repeat(best, int(np.sum(sizes)), axis=0)
            changed = [(slot, option) for slot, n in enumerate(sizes) for option in range(n)]
            for row, (slot, option) in zip(near, changed * len(best), strict=True):
                row[slot] = option
            sample = self._rng.integers(sizes, size=(_SAMPLED, len(sizes)))
            codes = np.unique(np.concatenate([near, sample]), axis=0)
        fresh = [tuple(code) not in seen.taken for code in codes.tolist()]
        return np.asarray(codes[fresh], dtype=np.int64)


class _Seen:
    """What the trials of a study say of combinations of categorical parameters.

    Attributes:
        values: code and values of each trial that has them, more being better, objectives in SDs.
        pending: codes of running trials, (n, parameters), none of which is in `values`.
        taken: all codes.
    """

    def __init__(
        self, study: Study, trial: FrozenTrial, kinds: Mapping[str, CategoricalDistribution]
    ) -> None:
        self._kinds = kinds
        self.sizes = [len(kind.choices) for kind in kinds.values()]
        self.objectives = len(study.directions)
        signs = np.array([1.0 if d == StudyDirection.MAXIMIZE else -1.0 for d in study.directions])
        sound: list[bool] = []
        rows: list[FloatArray] = []
        codes: list[tuple[int, ...]] = []
        running: list[tuple[int, ...]] = []
        for other in study.get_trials(deepcopy=False):
            code = self._code(other)
            if code is None or other.number == trial.number:
                continue
            if other.state == TrialState.RUNNING:
                running.append(code)
            elif (values := _values(other, self.objectives)) is not None:
                codes.append(code)
                rows.append(signs * values)
                sound.append(all(value <= 0 for value in other.constraints.values()))
        table = _finite(np.array(rows).reshape(len(rows), self.objectives))
        keeps = np.array(sound, dtype=bool)
        if keeps.any():
            table[~keeps] = np.minimum(table[~keeps], table[keeps].min(axis=0))
        if self.objectives > 1 and len(table):
            table = table / np.maximum(table.std(axis=0), 1e-12)
        self.values = list(zip(codes, table, strict=True))
        left = sorted(set(running) - set(codes))
        self.pending = np.array(left, dtype=np.int64).reshape(len(left), len(self.sizes))
        self.taken = set(codes) | set(running)

    def _code(self, trial: FrozenTrial) -> tuple[int, ...] | None:
        found = []
        for name, kind in self._kinds.items():
            if trial.distributions.get(name) != kind:
                return None
            found.append(int(kind.to_internal_repr(trial.params[name])))
        return tuple(found)

    def grouped(self) -> tuple[IntArray, list[list[FloatArray]]]:
        """Each combination once, with the values of all its trials."""
        found: dict[tuple[int, ...], list[FloatArray]] = {}
        for code, value in self.values:
            found.setdefault(code, []).append(value)
        return np.array(list(found), dtype=np.int64), list(found.values())


def _values(trial: FrozenTrial, objectives: int) -> FloatArray | None:
    """A trial's values; of one that was pruned, the last intermediate one; None where there are none."""
    if trial.state == TrialState.COMPLETE:
        found = np.array(trial.values, dtype=np.float64)
    elif trial.state == TrialState.PRUNED and objectives == 1 and trial.intermediate_values:
        found = np.array([trial.intermediate_values[max(trial.intermediate_values)]], dtype=np.float64)
    else:
        return None
    return None if np.isnan(found).any() else found


def _finite(table: FloatArray) -> FloatArray:
    """Infinite values become the best, or the worst, of the finite ones of their objective."""
    for column in table.T:
        finite = column[np.isfinite(column)]
        low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
        np.clip(column, low, high, out=column)
    return table
