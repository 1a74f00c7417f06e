"""What can be trained on labeled images: the protocol, and the linear probe on frozen features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evaluation.classifier.images import ClassifierError
from evaluation.classifier.probe import NotConvergedError, fit_probe, fit_standardized

Predict = Callable[[NDArray[Any]], NDArray[np.float64]]
OnStep = Callable[[], None]


class Learner(Protocol):
    """Trains a classifier the same way whatever it is trained on; every class weighs the same in all."""

    @property
    def name(self) -> str:
        """What is trained, in a word."""

    @property
    def steps(self) -> int:
        """Calls of `on_step` in one training, the same for every training set."""

    @property
    def uses_seed(self) -> bool:
        """Whether two seeds give two classifiers."""

    def settings(self) -> Mapping[str, Any]:
        """All that decides the result, as plain JSON values."""

    def augmented(self) -> Learner | None:
        """The same learner with classical augmentation; None where it knows none."""

    def fit(
        self, inputs: NDArray[Any], truth: NDArray[np.int64], *, classes: int, seed: int, on_step: OnStep
    ) -> Predict:
        """Train; returns the function from inputs to probabilities, shape (n, classes)."""


@dataclass(frozen=True, kw_only=True)
class ProbeLearner:
    """Logistic regression with an L2 penalty on standardized features, run to convergence.

    Convex and solved exactly, so there are no optimizer steps to match and no seed to vary: what varies
    between seeds is the draw of synthetic images alone. Two classes go through `evaluation.fit_probe`.

    Args:
        strength: scikit-learn's ``C``.

    Example:
        >>> ProbeLearner(strength=0.5).settings()["strength"]
        0.5
    """

    strength: float = 1.0

    name = "probe"
    steps = 1
    uses_seed = False

    def settings(self) -> Mapping[str, Any]:
        """The penalty and the solver."""
        return {"strength": self.strength, "solver": "L-BFGS", "class_weight": "balanced"}

    def augmented(self) -> None:
        """None: features of fixed networks are not augmented."""

    def fit(
        self, inputs: NDArray[Any], truth: NDArray[np.int64], *, classes: int, seed: int, on_step: OnStep
    ) -> Predict:
        """Fit on features (n, d).

        Raises:
            ClassifierError: pixels in place of features, or no convergence.
        """
        if inputs.ndim != 2:
            raise ClassifierError(f"inputs has shape {inputs.shape}; a probe is fitted on features (n, d)")
        x = np.asarray(inputs, dtype=np.float64)
        try:
            predict = self._binary(x, truth, seed) if classes == 2 else self._several(x, truth, seed)
        except NotConvergedError as error:
            raise ClassifierError(str(error)) from error
        on_step()
        return predict

    def _binary(self, x: NDArray[np.float64], truth: NDArray[np.int64], seed: int) -> Predict:
        from scipy.special import expit

        probe = fit_probe(x, truth == 1, seed=seed, strength=self.strength)

        def predict(inputs: NDArray[Any]) -> NDArray[np.float64]:
            chance = expit(probe.log_odds(inputs))
            return np.column_stack([1 - chance, chance])

        return predict

    def _several(self, x: NDArray[np.float64], truth: NDArray[np.int64], seed: int) -> Predict:
        model, mean, scale = fit_standardized(x, truth, seed=seed, strength=self.strength)

        def predict(inputs: NDArray[Any]) -> NDArray[np.float64]:
            given = np.asarray(inputs, dtype=np.float64)
            if given.ndim != 2 or given.shape[1] != len(mean):
                raise ClassifierError(
                    f"inputs has shape {given.shape}, the probe was fitted on {len(mean)} features; "
                    "use the same encoder"
                )
            return np.asarray(model.predict_proba((given - mean) / scale), dtype=np.float64)

        return predict
