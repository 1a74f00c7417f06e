"""The confirmation's yardstick for another generator: the same networks, texts, probe and real images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.feature_store import FeatureStore
from evaluation.metrics import alignment
from evaluation.probe import fit_probe
from promptopt.objective import Objective, RealPool, study_bandwidth
from promptopt.setup import Setup

if TYPE_CHECKING:
    from generators.store import StoredImage


def confirming_objective(setup: Setup, *, store: Path, baseline: Sequence[StoredImage]) -> Objective:
    """Measures prompts against the test pool, as a study's confirmation does.

    The kernel's width is that of `study_bandwidth` for the given images of the baseline prompt: a generator
    whose images lie further from the real ones is measured with a wider kernel.

    Args:
        store: folder of images and features.
        baseline: images of the baseline prompt by the generator that is measured.
    """
    features = FeatureStore(store / "features.sqlite")

    def real(pool: str) -> RealPool:
        parts = (part.where(pool=pool) for part in (setup.positives, setup.negatives))
        return RealPool(*(features.features(setup.encoder, part.paths()) for part in parts))

    reference, test = real("reference"), real("test")
    own = features.features(setup.encoder, [image.path for image in baseline])
    return Objective(
        encoder=setup.encoder,
        features=features,
        class_weights=alignment.class_weights(setup.encoder, setup.texts),
        target=setup.category.name,
        probe=fit_probe(reference.features, reference.labels, seed=setup.panel.metrics),
        distance_to=test.positives,
        bandwidth=study_bandwidth(reference.positives, own),
        training_negatives=reference.negatives,
        held_out=test,
        weights=setup.config.score,
        seed=setup.panel.metrics,
        judge=setup.judge,
        judge_target=setup.category.name,
    )
