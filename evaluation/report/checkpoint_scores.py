"""What a generator's images are worth while it is still being trained: distance, alignment, memorization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evaluation.encoders.base import TextEncoder
from evaluation.encoders.load import load_encoder
from evaluation.encoders.thumbnail import ThumbnailEncoder
from evaluation.features.feature_store import FeatureStore
from evaluation.metrics.frechet import frechet_distance
from evaluation.metrics.memorization import memorization
from evaluation.metrics.mmd import median_bandwidth, mmd
from promptopt.base.errors import ArgumentError
from promptopt.base.training.score import Score

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from studies.dataset import Dataset

_LEAST = 4


class ValidationJudge:
    """Scores validation images against real ones that the generator is not trained on.

    ``mmd`` and ``frechet`` are distances to the pool ``validation`` in the encoder's space; ``clip_score`` is
    100 times the mean cosine of image and prompt; ``memorization`` is the median over images of the distance
    to the nearest training picture over that to the nearest held-out one (below 1: nearer to the training
    pictures than unrelated pictures are), on thumbnails.

    Args:
        encoder: address of an encoder (`evaluation.encoders`); without texts there is no ``clip_score``.
        data: a prepared set with pictures in the pools ``reference`` and ``validation``.
        store: file of the feature store, so that real pictures are encoded once.

    Raises:
        ValueError: the pool ``validation`` has fewer than 4 pictures.
    """

    def __init__(self, encoder: str, data: Dataset, *, store: Path, device: str = "auto") -> None:
        unseen, seen = data.where(pool="validation"), data.where(pool="reference")
        if len(unseen) < _LEAST:
            raise ArgumentError(
                f"{data.root}: the pool 'validation' has {len(unseen)} images, {_LEAST} are needed to "
                "score images while training; prepare the data with that pool, or set validation.every to 0"
            )
        self._encoder, self._thumbnails = load_encoder(encoder, device=device), ThumbnailEncoder()
        features = FeatureStore(store)
        self._real = features.features(self._encoder, unseen.paths())
        self._bandwidth = median_bandwidth(self._real)
        self._training = features.features(self._thumbnails, seen.paths())
        self._held_out = features.features(self._thumbnails, unseen.paths())
        self._groups = [record.group for record in unseen]

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Mapping[str, Score]:
        """The scores of images, each with the prompt it was drawn from."""
        made = self._encoder.encode_images(images)
        scores: dict[str, Score] = {}
        distances = {
            "mmd": mmd(made, self._real, bandwidth=self._bandwidth),
            "frechet": frechet_distance(made, self._real, level=None),
        }
        for name, distance in distances.items():
            if distance.value is not None:
                scores[name] = Score(distance.value, lower_is_better=True)
        if isinstance(self._encoder, TextEncoder):
            texts = self._encoder.encode_texts(prompts)
            cosines = np.sum(_unit(made) * _unit(texts), axis=1)
            scores["clip_score"] = Score(100 * float(cosines.mean()), lower_is_better=False)
        small = self._thumbnails.encode_images(images)
        near = memorization(small, self._training, self._held_out, groups=self._groups)
        scores["memorization"] = Score(float(np.median(near.ratio)), lower_is_better=False)
        return scores


def _unit(features: NDArray[np.float32]) -> NDArray[np.float64]:
    return features / np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
