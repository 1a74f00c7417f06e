"""Gaussian classes with prompts whose images lie near or far from where they belong."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Planted:
    real: np.ndarray
    real_labels: np.ndarray
    validation: np.ndarray
    validation_labels: np.ndarray
    prompts: list[np.ndarray]  # images of class 0

    def arguments(self) -> tuple[Any, ...]:
        return self.real, self.real_labels, self.validation, self.validation_labels


def planted(
    seed: int, *, classes: int = 2, d: int = 6, real: int = 8, validation: int = 40, prompts: int = 40
) -> Planted:
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(classes, d)) * 1.6 / np.sqrt(d)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(classes), count)
        return centers[labels] + rng.normal(size=(len(labels), d)), labels

    offsets = rng.normal(size=(prompts, d)) * rng.uniform(0, 3 / np.sqrt(d), size=(prompts, 1))
    images = [centers[0] + offset + 0.5 * rng.normal(size=(6, d)) for offset in offsets]
    return Planted(*draw(real), *draw(validation), images)
