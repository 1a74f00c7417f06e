"""Fine-tuning a network of torchvision or timm, from scratch or from a file of weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from evaluation.classifier.fitting import balanced, fit_one_cycle
from evaluation.classifier.images import ClassifierError
from evaluation.classifier.learners import OnStep, Predict
from evaluation.encoders.backbones import InputPolicy, build_network, input_policy, read_weights
from promptopt.base.devices import resolve_device
from promptopt.base.errors import ArgumentError
from promptopt.base.images import read_image


@dataclass(frozen=True, kw_only=True)
class NetworkLearner:
    """A network under cross-entropy, AdamW and a one-cycle learning rate, all layers trained.

    A batch draws its classes evenly and then images within the class, so that a rare class counts as much as
    a frequent one, and an arm with more images gets more variety but no more training: `steps` batches of
    `batch_size` in every arm. Color jitter, soft focus and noise are drawn for each image
    (`evaluation.classifier.pictures.augment`); never a flip, which would turn left into right.

    Args:
        architecture: a classifier of torchvision (``resnet18``, ``convnext_tiny``), or ``timm:NAME``. Pixels
            are scaled as its published weights expect.
        steps: optimizer steps.
        batch_size: images a step, 2 or more.
        learning_rate: the highest of the cycle; weight_decay: AdamW's.
        augmentation: strength, 0 for none.
        weights: a safetensors file with the tensors of the architecture; a last layer in it is not used, as
            its classes are others. None: random weights, drawn from the seed.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ClassifierError: an unknown architecture, or a file that is missing, damaged or of another network.
        ValueError: settings out of range.

    Example:
        >>> learner = NetworkLearner(steps=100, batch_size=16)
        >>> learner.name, learner.settings()["steps"]
        ('resnet18', 100)
    """

    architecture: str = "resnet18"
    steps: int = 300
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    augmentation: float = 1.0
    weights: str | Path | None = None
    device: str = "auto"

    uses_seed = True

    @property
    def name(self) -> str:
        """The architecture."""
        return self.architecture

    def __post_init__(self) -> None:
        for key, least in (("steps", 1), ("batch_size", 2), ("weight_decay", 0), ("augmentation", 0)):
            if not getattr(self, key) >= least:
                raise ArgumentError(f"{key} is {getattr(self, key)}; expected {least} or more")
        if not 0 < self.learning_rate < math.inf:
            raise ArgumentError(
                f"learning_rate is {self.learning_rate}; expected a number above 0, say 0.001"
            )
        with torch.device("meta"):
            build_network(self.architecture, 2, error=ClassifierError)
        _ = self._start  # read now, so that a fault shows before any training

    @cached_property
    def _start(self) -> tuple[Mapping[str, Tensor], str] | None:
        """The starting weights and their sha256."""
        if self.weights is None:
            return None
        return read_weights(Path(self.weights), self.architecture, error=ClassifierError)

    @cached_property
    def _seen(self) -> InputPolicy:
        return input_policy(self.architecture)

    def settings(self) -> Mapping[str, Any]:
        """The hyperparameters, and the sha256 of the starting weights."""
        keys = ("steps", "batch_size", "learning_rate", "weight_decay", "augmentation")
        return {
            **{key: getattr(self, key) for key in keys},
            "weights_sha256": self._start[1] if self._start else None,
        }

    def augmented(self) -> NetworkLearner | None:
        """The same network with `augmentation` 1; None where every training of it has some already."""
        return None if self.augmentation else replace(self, augmentation=1.0)

    def fit(
        self, inputs: NDArray[Any], truth: NDArray[np.int64], *, classes: int, seed: int, on_step: OnStep
    ) -> Predict:
        """Train on pixels (n, h, w, 3), uint8.

        Raises:
            ClassifierError: features in place of pixels, or a loss that is not finite.
        """
        _check_pixels(inputs)
        from evaluation.classifier.pictures import augment

        device = resolve_device(self.device)
        network = self._network(classes, seed).to(device)
        self._check_size(network, inputs.shape[1:3], device)
        network.train()
        rng = np.random.default_rng([seed, 2])
        members = [np.flatnonzero(truth == c) for c in range(classes)]

        def loss() -> Tensor:
            rows = balanced(members, self.batch_size, rng)
            pixels = augment(_unit(inputs[rows], device), rng, self.augmentation)
            return F.cross_entropy(network(self._normal(pixels)), torch.from_numpy(truth[rows]).to(device))

        with _reproducible():
            fit_one_cycle(
                network,
                loss,
                steps=self.steps,
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
                on_step=on_step,
            )

        def predict(images: NDArray[Any]) -> NDArray[np.float64]:
            _check_pixels(images)
            parts = [np.zeros((0, classes))]
            with torch.inference_mode(), _reproducible():
                for start in range(0, len(images), 64):
                    logits = network(self._normal(_unit(images[start : start + 64], device)))
                    parts.append(logits.double().softmax(dim=1).cpu().numpy())
            return np.concatenate(parts)

        return predict

    def _normal(self, images: Tensor) -> Tensor:
        shape = (1, 3, 1, 1)
        mean, std = (
            torch.tensor(v, device=images.device).view(shape) for v in (self._seen.mean, self._seen.std)
        )
        return (images - mean) / std

    def _network(self, classes: int, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):  # layers draw their start from torch's global stream
            torch.manual_seed(seed)
            network = build_network(self.architecture, classes, error=ClassifierError)
        if self._start is not None:
            network.load_state_dict(dict(self._start[0]), strict=False)
        return network

    def _check_size(self, network: nn.Module, size: tuple[int, ...], device: torch.device) -> None:
        network.eval()
        try:
            with torch.inference_mode():
                network(torch.zeros(1, 3, *size, device=device))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise ClassifierError(
                f"{self.architecture} does not read images of {size[0]} x {size[1]} pixels ({error}); choose "
                "another image size"
            ) from error


def read_pixels(paths: Sequence[str | Path], size: int) -> NDArray[np.uint8]:
    """Images as uint8 (n, size, size, 3): RGB, resized with Pillow's antialiased bicubic, aspect not kept.

    All are held in memory: 12 kB each at 64 pixels, 150 kB at 224.

    Raises:
        ClassifierError: an image that is missing or broken, or a size under 16.
    """
    if size < 16:
        raise ClassifierError(f"size is {size} pixels; the network needs 16 or more")
    pixels = np.empty((len(paths), size, size, 3), dtype=np.uint8)
    for row, path in enumerate(paths):
        picture = read_image(path, error=ClassifierError)
        if picture.size != (size, size):
            picture = picture.resize((size, size), Image.Resampling.BICUBIC)
        pixels[row] = np.asarray(picture)
    return pixels


def _check_pixels(inputs: NDArray[Any]) -> None:
    if inputs.ndim != 4 or inputs.shape[3] != 3 or inputs.dtype != np.uint8:
        raise ClassifierError(
            f"inputs are {inputs.dtype} of shape {inputs.shape}; a network is trained on uint8 pixels "
            "(n, height, width, 3), see read_pixels"
        )


def _unit(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(0, 3, 1, 2).float() / 255


def _reproducible() -> Any:
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
