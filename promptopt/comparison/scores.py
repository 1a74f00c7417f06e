"""The numbers of one generator: distance, Inception score, alignment and share of copies, in every table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluation.encoders.base import Encoder, TextEncoder
from evaluation.encoders.thumbnail import ThumbnailEncoder, ThumbnailViewsEncoder
from evaluation.estimate import Estimate
from evaluation.features.feature_store import FeatureStore
from evaluation.features.image_set import ImageSet
from evaluation.metrics.inception_score import inception_score
from evaluation.metrics.memorization import Memorization, memorization
from evaluation.report.evaluate import Texts, evaluate
from evaluation.report.measures import encoder_label
from promptopt.comparison.scopes import Scope
from studies.dataset import Dataset

if TYPE_CHECKING:
    pass

METRICS = ("fd", "is", "alignment", "memorization")
_VIEWS_UP_TO = 5000
"""Training images up to which all 38 views of each are compared; of more, the image and its mirror image."""

Told = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Score:
    """One number of a table.

    Attributes:
        generator: its name, or `REAL`.
        scope: title of the table.
        metric: of `METRICS`.
        name: what it is called, with its space (``FD (embedded)``).
        better: ``lower`` or ``higher``.
        main: whether it stands in the tables and charts; the others are in the CSV and the JSON.
        n_real, n_generated: images behind it.
    """

    generator: str
    scope: str
    metric: str
    name: str
    better: str
    main: bool
    n_real: int
    n_generated: int
    estimate: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Probabilities:
    """A classifier over the real set's categories in an encoder's space, for the Inception score."""

    label: str
    encoder: Encoder
    of: Callable[[NDArray[np.float32]], NDArray[np.float64]]


@dataclass
class Scorer:
    """What all generators are measured against.

    Attributes:
        real: the real images, `center` as the tables name it.
        training, held_out: the real images for the search for copies: trained on, and never seen.
        texts: category -> class -> texts.
    """

    real: ImageSet
    training: Dataset
    held_out: Dataset
    encoders: Sequence[Encoder]
    store: FeatureStore
    scopes: Sequence[Scope]
    texts: Texts
    seed: int
    allow_uncalibrated: bool
    allow_weak_encoder: bool
    on_progress: Told | None = None
    notes: list[str] = field(default_factory=list)
    cards: list[Mapping[str, Any]] = field(default_factory=list)

    def score(self, name: str, made: ImageSet) -> tuple[list[Score], Memorization | None]:
        """Every number of one generator's images, and the search for copies over all of them."""
        copies, found = self._copies(name, made)
        return [
            *self._distances(name, made),
            *self._inception(name, made),
            *self._alignment(name, made),
            *copies,
        ], found

    def score_real(self, name: str, training: ImageSet) -> list[Score]:
        """The same of real images: some that were trained on, for the Inception score those measured against.

        (The classifier behind it may have been fitted on the former.)
        """
        return [
            *self._distances(name, training),
            *self._inception(name, self.real),
            *self._alignment(name, training),
        ]

    def _own_scopes(self, made: ImageSet) -> list[Scope]:
        """Those in which the images differ; images of no center are the same in all of them."""
        return [scope for scope in self.scopes if scope.part == "all" or "center" in made.columns]

    def _rows(self, made: ImageSet, scope: Scope) -> NDArray[np.intp]:
        if scope.part == "all":
            return np.arange(len(made))
        return made.rows("center", scope.part.removeprefix("center="))

    def _measure(
        self, name: str, made: ImageSet, encoders: Sequence[Encoder], metric: str, scopes: Sequence[Scope]
    ) -> list[Score]:
        result = evaluate(
            self.real,
            made,
            encoders,
            store=self.store,
            metrics=[metric],
            by=["center"] if len(self.scopes) > 1 else [],
            texts=self.texts,
            allow_uncalibrated=self.allow_uncalibrated,
            allow_weak_encoder=self.allow_weak_encoder,
            seed=self.seed,
            on_progress=self.on_progress,
        )
        self.cards.append(result.card)
        titles = {scope.part: scope.title for scope in scopes}
        return [
            Score(
                name,
                titles[row.part],
                metric,
                row.name,
                row.better,
                row.name.startswith(("FD", "FID", "IS", "alignment")),
                row.n_real,
                row.n_generated,
                row.estimate,
            )
            for row in result.rows
            if row.part in titles and row.better
        ]

    def _distances(self, name: str, made: ImageSet) -> list[Score]:
        return self._measure(name, made, self.encoders, "fd", self.scopes)

    def _inception(self, name: str, made: ImageSet) -> list[Score]:
        scopes = self._own_scopes(made)
        able = [encoder for encoder in self.encoders if getattr(encoder, "probabilities", None)]
        if able:
            return self._measure(name, made, able, "is", scopes)
        classifier = self._classifier
        if classifier is None:
            return []
        rows = self.store.features(classifier.encoder, made.paths)
        shares = classifier.of(rows)
        return [
            Score(
                name,
                scope.title,
                "is",
                f"IS ({classifier.label})",
                "higher",
                True,
                len(self.training),
                len(chosen),
                inception_score(shares[chosen], seed=self.seed),
            )
            for scope in scopes
            for chosen in [self._rows(made, scope)]
        ]

    @cached_property
    def _classifier(self) -> Probabilities | None:
        """A probe for the categories, fitted on the training images in the first encoder's space."""
        from evaluation.classifier.probe import NotConvergedError, fit_standardized

        categories = [record.category for record in self.training]
        if len(set(categories)) < 2:
            self._note(
                f"no Inception score: the training images show {', '.join(set(categories)) or 'nothing'} "
                "alone, and a classifier needs two categories (--encoder inception has its own)"
            )
            return None
        encoder = self.encoders[0]
        rows = self.store.features(encoder, self.training.paths()).astype(np.float64)
        try:
            model, mean, scale = fit_standardized(rows, np.asarray(categories), seed=self.seed, strength=1.0)
        except NotConvergedError as error:
            self._note(f"no Inception score: {error}")
            return None
        label = f"probe on {encoder_label(encoder, self.encoders)}"
        self._note(
            f"Inception score: of a linear probe for {len(set(categories))} categories, fitted on the real "
            f"training images ({label}); it cannot exceed {len(set(categories))} and is no published IS"
        )
        return Probabilities(label, encoder, lambda x: model.predict_proba((x - mean) / scale))

    def _alignment(self, name: str, made: ImageSet) -> list[Score]:
        able = [encoder for encoder in self.encoders if isinstance(encoder, TextEncoder)]
        categories = made.columns.get("category")
        if not able:
            return []
        if categories is None:
            self._note("no alignment: the prompts do not say which category they ask for (--category)")
            return []
        kept = [i for i, category in enumerate(categories) if category in self.texts]
        without = sorted(set(categories) - set(self.texts))
        if without:
            known = ", ".join(sorted(set(categories) & set(self.texts))) or "nothing"
            self._note(
                f"alignment rests on the images of {known}: there are no texts for "
                f"{', '.join(without)} (--texts)"
            )
        if not kept:
            return []
        shown = replace(
            made,
            paths=tuple(made.paths[i] for i in kept),
            columns={key: tuple(column[i] for i in kept) for key, column in made.columns.items()},
        )
        return self._measure(name, shown, able, "alignment", self._own_scopes(made))

    def _copies(self, name: str, made: ImageSet) -> tuple[list[Score], Memorization | None]:
        what = "memorized"
        scopes = self._own_scopes(made)
        groups = [record.group for record in self.held_out]
        if not len(self.training) or len(set(groups)) < 2:
            reason = (
                f"{len(self.training)} training images, {len(set(groups))} held-out groups: nothing to search"
            )
            none = Estimate.undefined(len(made), reason)
            return [
                Score(name, s.title, "memorization", what, "lower", True, 0, len(made), none) for s in scopes
            ], None
        views = ThumbnailViewsEncoder(crops=(0.9, 0.8) if len(self.training) <= _VIEWS_UP_TO else ())
        own = ThumbnailEncoder()
        queries = self.store.features(own, made.paths, on_progress=self._told(f"{name}: copies", len(made)))
        known, real = (
            self._seen(views, data, title)
            for data, title in ((self.training, "training images"), (self.held_out, "held-out images"))
        )
        scores, whole = [], None
        for scope in scopes:
            chosen = self._rows(made, scope)
            found = memorization(queries[chosen], known, real, groups=groups)
            if scope.part == "all":
                whole = found
            scores.append(
                Score(
                    name,
                    scope.title,
                    "memorization",
                    what,
                    "lower",
                    True,
                    known.shape[1],
                    len(chosen),
                    found.share,
                )
            )
        return scores, whole

    def _seen(self, views: ThumbnailViewsEncoder, data: Dataset, title: str) -> NDArray[np.float32]:
        """(views, images, dim)."""
        return views.unfold(
            self.store.features(views, data.paths(), on_progress=self._told(title, len(data)))
        )

    def _told(self, what: str, total: int) -> Callable[[int], None] | None:
        told = self.on_progress
        return None if told is None else lambda done: told(what, done, total)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def image_set(root: Path, dataset: Dataset, names: Mapping[str, str]) -> ImageSet:
    """Records as a set to be measured, their centers as the tables name them."""
    return ImageSet(
        root,
        tuple(dataset.paths()),
        {
            "category": tuple(record.category for record in dataset),
            "center": tuple(names.get(record.center, record.center) for record in dataset),
        },
        dataset.fingerprint,
    )
