"""What an image adds to the Inception Score of a weighted set."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from evaluation.arrays import check_features
from evaluation.influence._checks import InfluenceError, Matrix, Vector, check_weights, check_width
from evaluation.metrics.inception_score import check_probabilities


@dataclass(frozen=True, eq=False)
class InceptionInfluence:
    """exp of the mutual information of image and class (Salimans et al. 2016) under weights, and its slopes.

    With class probabilities p_i, weights w of sum 1 and q = sum_i w_i p_i::

        I(w) = sum_i w_i KL(p_i | q) = H(q) - sum_i w_i H(p_i),    IS = exp(I)

    The derivative of IS as w moves to (1 - e) w + e delta_x is ``IS (KL(p_x | q) - I)``.

    Attributes:
        value: IS, from 1 to the number of classes, higher is better; of equal weights it is `inception_score`
            with one split. Too high for few images; compare equal numbers.
        weights: shape (n,), sum 1.

    Example:
        >>> made = InceptionInfluence.fit([[0.9, 0.1], [0.8, 0.2]])
        >>> same, other = made.influence([[0.9, 0.1], [0.1, 0.9]])
        >>> bool(same < other)  # a sharp image of the missing class adds more
        True
    """

    value: float
    weights: Vector = field(repr=False)
    _rows: Matrix = field(repr=False)

    @classmethod
    def fit(cls, probabilities: ArrayLike, *, weights: ArrayLike | None = None) -> InceptionInfluence:
        """Of the current set.

        Args:
            probabilities: shape (n, classes), rows that sum to 1 (within 0.001), one row or more.
            weights: shape (n,), from 0 on, scaled to sum to 1; equal ones if None.

        Raises:
            ValueError: not probabilities, or (InfluenceError) no row or weights that do not fit.
        """
        rows = _probabilities(probabilities)
        shares = check_weights(weights, len(rows), of="images")
        information = _entropy(shares @ rows) - shares @ _entropy(rows)
        return cls(float(np.exp(information)), shares, rows)

    def influence(self, probabilities: ArrayLike) -> Vector:
        """The derivative of IS towards each image, shape (n,): higher is better; at least ``-IS log IS``.

        Infinite for an image of a class that has no probability at all in the set; `added` is finite there.
        The weighted mean over the set's own images is 0.

        Args:
            probabilities: shape (n, classes).

        Raises:
            ValueError: not probabilities of as many classes.
        """
        from scipy.special import rel_entr

        p = self._checked(probabilities)
        divergence = rel_entr(p, self.weights @ self._rows).sum(axis=1)
        return self.value * (divergence - np.log(self.value))

    def added(self, probabilities: ArrayLike, *, weight: float) -> Vector:
        """IS with each image added to the set in turn, less IS, shape (n,), exact.

        Args:
            probabilities: shape (n, classes).
            weight: the image's share of the new set, in (0, 1).

        Raises:
            ValueError: not probabilities, or (InfluenceError) a weight outside (0, 1).
        """
        if not 0 < weight < 1:
            raise InfluenceError("is not between 0 and 1", key="weight", value=weight)
        p = self._checked(probabilities)
        return self._moved(p, np.full(len(p), weight))

    def leave_one_out(self) -> Vector:
        """IS without each image in turn, less IS, shape (n,), exact: below 0, the image helps.

        The others keep their proportions. To first order ``-w_i / (1 - w_i)`` times the influence.

        Raises:
            InfluenceError: one image has all the weight.
        """
        if self.weights.max() >= 1:
            raise InfluenceError("one image has all the weight; nothing is left without it", key="weights")
        return self._moved(self._rows, -self.weights / (1 - self.weights))

    def _moved(self, p: Matrix, step: Vector) -> Vector:
        """IS at (1 - e) w + e delta, less IS; a negative e takes the image away."""
        noise, mean = float(self.weights @ _entropy(self._rows)), self.weights @ self._rows
        # what rounding leaves below zero is zero
        moved = np.maximum((1 - step)[:, None] * mean + step[:, None] * p, 0.0)
        information = _entropy(moved) - ((1 - step) * noise + step * _entropy(p))
        return np.exp(np.maximum(information, 0.0)) - self.value

    def _checked(self, probabilities: ArrayLike) -> Matrix:
        return check_width(_probabilities(probabilities), self._rows.shape[1])


def _probabilities(probabilities: ArrayLike) -> Matrix:
    p = check_features(probabilities, "probabilities")
    check_probabilities(p)
    return p / p.sum(axis=1, keepdims=True)


def _entropy(p: Matrix) -> Vector:
    from scipy.special import entr

    return np.asarray(entr(p).sum(axis=-1))
