"""What images and prompts are worth to a classifier trained on synthetic images alone (TSTR, CAS)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from evaluation.arrays import check_features
from evaluation.influence._checks import InfluenceError, check_labels
from evaluation.influence.probe_gain import ProbeGain


def synthetic_probe(
    synthetic_features: ArrayLike,
    synthetic_labels: ArrayLike,
    validation_features: ArrayLike,
    validation_labels: ArrayLike,
    *,
    synthetic_weights: ArrayLike | None = None,
    synthetic_weight: float | None = None,
    validation_groups: ArrayLike | None = None,
    l2: float | None = None,
) -> ProbeGain:
    """A `ProbeGain` without real training images: trained on synthetic, judged on real ones.

    Accuracy changes in steps of one validation image and has derivative 0 almost everywhere, so the gains
    are of the validation log loss, which is smooth and falls as the accuracy rises; `balanced_accuracy` of
    the result is the accuracy itself, and `leave_prompts_out` says how both change for real.

    Args:
        synthetic_features: shape (k, d), images of every class.
        synthetic_labels: shape (k,).
        validation_features: shape (v, d), real; standardization rests on them alone.
        validation_labels: shape (v,).
        synthetic_weights, synthetic_weight, validation_groups, l2: as `ProbeGain.fit`.

    Raises:
        ValueError: as `ProbeGain.fit`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> y = np.repeat([0, 1], 30)
        >>> x = rng.normal(size=(60, 3)) + 2.0 * y[:, None]
        >>> probe = synthetic_probe(x[::2], y[::2], x[1::2], y[1::2])
        >>> probe.balanced_accuracy > 0.8
        True
    """
    dim = check_features(validation_features, "validation_features").shape[1]
    return ProbeGain.fit(
        np.empty((0, dim)),
        np.empty(0),
        validation_features,
        validation_labels,
        synthetic_features=synthetic_features,
        synthetic_labels=synthetic_labels,
        synthetic_weights=synthetic_weights,
        synthetic_weight=synthetic_weight,
        validation_groups=validation_groups,
        l2=l2,
    )


@dataclass(frozen=True)
class LeftOut:
    """How the validation results change when a prompt's images leave the synthetic set.

    Attributes:
        prompt: its name.
        loss: validation loss without it less the loss with it, in nats: above 0, the prompt helps.
        predicted: the same by the images' influence, to first order.
        balanced_accuracy: likewise; below 0, the prompt helps. From -1 to 1.
    """

    prompt: Any
    loss: float
    predicted: float
    balanced_accuracy: float


def leave_prompts_out(probe: ProbeGain, prompts: ArrayLike) -> list[LeftOut]:
    """Train the probe again without each prompt of its synthetic set in turn: exact.

    Whether the rest takes over the prompt's weight follows `ProbeGain.without`. Real training images, if the
    probe has any, stay.

    Args:
        probe: of `synthetic_probe` or `ProbeGain.fit`.
        prompts: shape (k,), the prompt of each synthetic image.

    Returns:
        one a prompt, in the order in which they first occur.

    Raises:
        InfluenceError: a wrong shape, no synthetic image, or a prompt that alone shows a class.

    Example:
        >>> rng = np.random.default_rng(1)
        >>> y = np.repeat([0, 1], 30)
        >>> x = rng.normal(size=(60, 3)) + 2.0 * y[:, None]
        >>> probe = synthetic_probe(x[::2], y[::2], x[1::2], y[1::2])
        >>> [one.prompt for one in leave_prompts_out(probe, np.tile(["a", "b"], 15))]
        ['a', 'b']
    """
    names = check_labels(prompts, len(probe.weights), "prompts")
    if not len(names):
        raise InfluenceError("the probe has no synthetic image", remedy="Give some to its fit.")
    changes = []
    for name in dict.fromkeys(names.tolist()):
        mask = names == name
        try:
            after = probe.without(mask)
        except InfluenceError as error:
            raise InfluenceError(f"without prompt {name!r}: {error}") from error
        moved = -probe.weights
        moved[~mask] += after.weights
        changes.append(
            LeftOut(
                name,
                after.loss - probe.loss,
                -float(moved @ probe.own_gains),
                after.balanced_accuracy - probe.balanced_accuracy,
            )
        )
    return changes
