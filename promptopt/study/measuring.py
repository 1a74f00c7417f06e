"""From prompts to numbers: images through the store, features, constraints, and the objectives of a study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from evaluation.classifier.probe import fit_probe
from evaluation.encoders.base import Encoder, TextEncoder
from evaluation.encoders.thumbnail import ThumbnailEncoder, ThumbnailViewsEncoder
from evaluation.estimate import Estimate
from evaluation.features.feature_store import FeatureStore
from evaluation.metrics import alignment
from evaluation.metrics.diversity import diversity
from evaluation.metrics.memorization import memorization
from generators.fetching import fetch
from generators.store import StoredImage
from generators.stores.opening import open_store
from promptopt.base.files import file_digest, new_file
from promptopt.base.images import read_image
from promptopt.config.study_file import ConstraintSettings
from promptopt.run.trials import GAIN
from promptopt.scoring.objective import ImageMetric, Measurement, Objective, RealPool, Score, study_bandwidth
from promptopt.search.engine import Pull, Scored
from promptopt.space import Candidate
from promptopt.study.setup import Setup


@dataclass(frozen=True)
class Objectives:
    """The same measure for the search, for the confirmation, and as another encoder sees it (or None)."""

    searching: Objective
    confirming: Objective
    second: Objective | None


class Measuring:
    """Makes and measures the images of one study.

    Args:
        on_image: called for each image with whether it was made now.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        store: Path,
        metrics: tuple[ImageMetric, ...] = (),
        on_image: Callable[[bool], None] | None = None,
    ) -> None:
        self.setup = setup
        self.metrics = metrics
        self._store = store
        self.images = open_store(store / "images")
        self.features = FeatureStore(store / "features")
        self.generated = 0
        self.reused = 0
        self._on_image = on_image

    def fetch(self, wanted: Sequence[tuple[Candidate, Sequence[int]]]) -> list[list[StoredImage]]:
        """The images of each prompt for its seeds, from the store where they exist."""
        requests = [[self.setup.request(candidate, seed) for seed in seeds] for candidate, seeds in wanted]
        flat = [request for row in requests for request in row]
        features: dict[str, list[tuple[StoredImage, np.ndarray]]] = {}

        def computed(image: StoredImage, rows: Mapping[str, np.ndarray]) -> None:
            for address, row in rows.items():
                features.setdefault(address, []).append((image, row))

        try:
            images = fetch(
                self.images, self.setup.generator, flat, on_image=self._count, on_features=computed
            )
        finally:
            self._keep(features)
        found = iter(images)
        return [[next(found) for _ in row] for row in requests]

    def _keep(self, features: Mapping[str, Sequence[tuple[StoredImage, np.ndarray]]]) -> None:
        """Features that came with images, of the encoder of the search."""
        for rows in features.values():
            self.features.keep(
                self.setup.encoder, [image for image, _ in rows], np.stack([r for _, r in rows])
            )

    def _count(self, _image: StoredImage, new: bool) -> None:
        self.generated += new
        self.reused += not new
        if self._on_image is not None:
            self._on_image(new)

    def real(self, pool: str, encoder: Encoder) -> RealPool:
        """Features of the real images of a pool."""
        parts = (part.where(pool=pool) for part in (self.setup.positives, self.setup.negatives))
        return RealPool(*(self.features.features(encoder, part.paths()) for part in parts))

    def as_seen(self, paths: Sequence[Path]) -> list[Path]:
        """Real images as distances see them: themselves, or as the generator's autoencoder gives them back.

        The latter lie in the store, by the generator and the image.
        """
        generator = self.setup.generator
        if self.setup.config.closeness.through == "nothing":
            return list(paths)
        folder = self._store / "autoencoder" / generator.fingerprint[:32]
        found = {path: folder / f"{file_digest(path)}.png" for path in paths}
        for path, target in found.items():
            if not target.exists():
                [picture] = generator.reconstruct([read_image(path)])  # type: ignore[attr-defined]
                target.parent.mkdir(parents=True, exist_ok=True)
                with new_file(target) as partial:
                    picture.save(partial, "png")
        return [found[path] for path in paths]

    def objectives(self, baseline: Sequence[StoredImage]) -> Objectives:
        """The measures of the study; the kernel's width takes the baseline's images into account."""
        setup = self.setup
        searching = self._objective(setup.encoder, baseline)
        if setup.config.data is None:
            second = None if setup.second is None else self._objective(setup.second, baseline)
            if second is not None:
                second = replace(second, judge=None, metrics=(), opinion=None)
            return Objectives(searching, searching, second)
        test = self.real("test", setup.encoder)
        confirming = replace(searching, distance_to=test.positives, held_out=test)
        if setup.second is None:
            return Objectives(searching, confirming, None)
        second = self._objective(setup.second, baseline)
        test = self.real("test", setup.second)
        return Objectives(
            searching,
            confirming,
            replace(second, distance_to=test.positives, held_out=test, judge=None, metrics=(), opinion=None),
        )

    def _objective(self, encoder: Encoder, baseline: Sequence[StoredImage]) -> Objective:
        setup = self.setup
        own = self.features.features(encoder, baseline)
        if setup.config.data is None:
            reference = validation = RealPool(own[:0], own[:0])
        else:
            reference, validation = self.real("reference", encoder), self.real("validation", encoder)
        known = len(reference.positives) > 0
        return Objective(
            encoder=encoder,
            features=self.features,
            class_weights=alignment.class_weights(encoder, setup.texts)
            if isinstance(encoder, TextEncoder)
            else None,
            target=setup.category.name,
            probe=fit_probe(reference.features, reference.labels, seed=setup.panel.metrics)
            if known
            else None,
            distance_to=reference.positives,
            bandwidth=study_bandwidth(reference.positives, own) if known else 1.0,
            training_negatives=reference.negatives,
            held_out=validation,
            weights=setup.config.single_score,
            seed=setup.panel.metrics,
            judge=setup.judge,
            judge_target=setup.category.name,
            metrics=self.metrics,
            opinion=setup.opinion,
            opinion_weight=setup.config.preference.weight if setup.config.preference else 0.0,
        )

    def copies(self, images: Sequence[StoredImage]) -> Estimate:
        """Share of images that copy a real one of the reference pool; cropped and mirrored views count."""
        known, strange, groups = self._views
        made = self.features.features(ThumbnailEncoder(), images)
        return memorization(made, known, strange, groups=groups).share

    @cached_property
    def _views(self) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Views of what the generator may have been trained on, and of other images with their groups."""
        encoder, data = ThumbnailViewsEncoder(), self.setup.data
        seen, strange = data.where(pool="reference"), data.where(pool="validation")
        views = [encoder.unfold(self.features.features(encoder, part.paths())) for part in (seen, strange)]
        return views[0], views[1], [record.group for record in strange]


class Scoring:
    """The scorer of a search: images of the panel's first seeds, compared with the baseline's."""

    def __init__(self, measuring: Measuring, objective: Objective, baseline: Measurement) -> None:
        self._measuring = measuring
        self._objective = objective
        self._baseline = baseline
        self._real_diversity = diversity(objective.distance_to).value if objective.has_real else None

    def __call__(self, wanted: Sequence[Pull]) -> list[Scored]:
        """One result a pull; all images are asked for at once."""
        panel = self._measuring.setup.panel.search
        fetched = self._measuring.fetch([(pull.candidate, panel[: pull.images]) for pull in wanted])
        found = []
        for pull, images in zip(wanted, fetched, strict=True):
            measurement = self._objective.measure(pull.candidate, images, choice=pull.choice)
            score = self._objective.score(measurement, self._baseline)
            constraints = self._measuring.setup.config.constraints
            estimates = dict(measurement.estimates)
            if constraints.copies is not None:
                estimates["copies"] = self._measuring.copies(images)
            found.append(
                Scored(
                    score.estimate,
                    per_image_columns(measurement, score),
                    estimates,
                    violations(constraints, estimates, real_diversity=self._real_diversity),
                )
            )
        return found


def per_image_columns(measurement: Measurement, score: Score) -> dict[str, tuple[float, ...]]:
    """What a row keeps of every image: the terms as measured, the score, and the gain in each term."""
    gains = {GAIN + name: values for name, values in score.gains.items()}
    columns = {**measurement.per_image, "score": score.per_image, **gains}
    return {name: tuple(float(v) for v in values) for name, values in columns.items()}


def violations(
    constraints: ConstraintSettings, own: Mapping[str, Estimate], *, real_diversity: float | None
) -> tuple[str, ...]:
    """The constraints that the images are shown to break, not by chance alone."""
    found = []
    if constraints.diversity is not None and real_diversity is not None:
        floor, high = constraints.diversity * real_diversity, own["diversity"].high
        if high is not None and high < floor:
            found.append(f"diversity at most {high:.3g}, below the floor of {floor:.3g}")
    repeated = own["duplicates"].value if "duplicates" in own else None
    # An image is a duplicate by chance in 1 of 100, so the share itself tells; its interval cannot, as images
    # that are all alike are no more than one.
    if constraints.duplicates is not None and repeated is not None and repeated > constraints.duplicates:
        found.append(f"share of duplicates {repeated:.3g}, over {constraints.duplicates:g}")
    copied = own["copies"].low if constraints.copies is not None else None
    if constraints.copies is not None and copied is not None and copied > constraints.copies:
        found.append(f"share of copies of real images at least {copied:.3g}, over {constraints.copies:g}")
    return tuple(found)
