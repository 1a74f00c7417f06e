"""A small network trained on pixels, without and with classical augmentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from evaluation.classifier.fitting import balanced, fit_one_cycle
from evaluation.classifier.images import ClassifierError
from evaluation.classifier.learners import OnStep, Predict

_WIDTHS = (16, 32, 64)
_GROUPS = 8


@dataclass(frozen=True, kw_only=True)
class SmallNetwork:
    """Three strided convolutions with group normalization, mean and maximum over places, one linear layer.

    Trained from scratch under cross-entropy by AdamW with a one-cycle learning rate. A batch draws its
    classes evenly and then images within the class; every training makes `steps` steps, whatever the
    number of images, and none is stopped or chosen by its score. Group normalization, since the statistics
    of a batch that mixes real and synthetic images would be neither's.

    Args:
        steps: optimizer steps; batch_size: images a step.
        learning_rate: the highest of the cycle; weight_decay: AdamW's.
        classical: augment each drawn image by torchvision: mirrored either way, turned, moved and
            enlarged a little, its colors jittered. Not for labels that tell left from right.
    """

    steps: int = 150
    batch_size: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    classical: bool = False

    name = "network"
    uses_seed = True

    def settings(self) -> Mapping[str, Any]:
        """All that decides the result."""
        keys = ("steps", "batch_size", "learning_rate", "weight_decay", "classical")
        return {"widths": list(_WIDTHS), **{key: getattr(self, key) for key in keys}}

    def augmented(self) -> SmallNetwork:
        """The same network with `classical` augmentation."""
        return replace(self, classical=True)

    def fit(
        self, inputs: NDArray[Any], truth: NDArray[np.int64], *, classes: int, seed: int, on_step: OnStep
    ) -> Predict:
        """Train on uint8 pixels (n, h, w, 3).

        Raises:
            ClassifierError: other inputs, or a loss that is not finite.
        """
        if inputs.ndim != 4 or inputs.dtype != np.uint8:
            raise ClassifierError(f"inputs are {inputs.dtype} of shape {inputs.shape}; expected uint8 pixels")
        rng = np.random.default_rng([seed, 2])
        members = [np.flatnonzero(truth == index) for index in range(classes)]
        with torch.random.fork_rng(devices=[]):  # layers and transforms draw from torch's global stream
            torch.manual_seed(seed)
            network = _network(classes)
            change = _classical() if self.classical else None

            def loss() -> Tensor:
                rows = balanced(members, self.batch_size, rng)
                pixels = _tensor(inputs[rows])
                if change is not None:
                    pixels = torch.stack([change(picture) for picture in pixels])
                return F.cross_entropy(network(pixels * 4 - 2), torch.from_numpy(truth[rows]))

            fit_one_cycle(
                network,
                loss,
                steps=self.steps,
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
                on_step=on_step,
            )

        def predict(images: NDArray[Any]) -> NDArray[np.float64]:
            parts = [np.zeros((0, classes))]
            with torch.inference_mode():
                for start in range(0, len(images), 256):
                    logits = network(_tensor(images[start : start + 256]) * 4 - 2)
                    parts.append(logits.double().softmax(dim=1).numpy())
            return np.concatenate(parts)

        return predict


class _Pool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)


def _network(classes: int) -> nn.Module:
    layers: list[nn.Module] = []
    before = 3
    for width in _WIDTHS:
        layers += [
            nn.Conv2d(before, width, 3, stride=2, padding=1),
            nn.GroupNorm(_GROUPS, width),
            nn.ReLU(),
        ]
        before = width
    return nn.Sequential(*layers, _Pool(), nn.Linear(2 * before, classes))


def _classical() -> Any:
    from torchvision.transforms import v2

    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(),
            v2.RandomAffine(degrees=20, translate=(0.08, 0.08), scale=(1.0, 1.25)),
            v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2),
        ]
    )


def _tensor(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255
