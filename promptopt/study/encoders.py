"""Whether encoders may judge the user's images: compared with thumbnails before anything is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from promptopt.config.study_file import StudyConfig, StudyError
from promptopt.run.prompts import EncoderCheckEntry
from studies.dataset import Dataset

if TYPE_CHECKING:
    from evaluation.encoders.base import Encoder
    from evaluation.features.feature_store import FeatureStore
    from evaluation.report.encoder_check import EncoderCheck

OTHERS = "others"
REMEDY = (
    "Name another encoder, say timm:NAME, transformers:ADDRESS or a CLIP trained on your images (promptopt "
    "train clip)"
)
_POOLS = ("reference", "validation")  # the test pool is left to the confirmation
_SECOND_IMAGES = 300  # for the second encoder, which sees few real images otherwise


@dataclass(frozen=True)
class EncoderChecks:
    """What was found of the search's encoder and of the second one; None: not asked."""

    encoder: EncoderCheck | None = None
    second: EncoderCheck | None = None

    def notices(self, config: StudyConfig) -> list[str]:
        """What is to be said at the start, in sentences: of each encoder that is not shown to be better."""
        return [one.sentence for one in self.entries(config) if one.verdict != "better"]

    def entries(self, config: StudyConfig) -> list[EncoderCheckEntry]:
        """For prompts.json."""
        named = ((self.encoder, config.encoder), (self.second, config.confirm.second_encoder or ""))
        images = "your real images" if isinstance(config.data, str) else "the phantom's images"
        return [
            EncoderCheckEntry.of(check, config.as_written(uri), images=images)
            for check, uri in named
            if check is not None
        ]


def compare_encoders(
    config: StudyConfig,
    classes: Mapping[str, Dataset],
    data: Dataset,
    encoder: Encoder,
    second: Encoder | None,
    *,
    store: Path,
) -> EncoderChecks:
    """Probes on features of the real images of the pools reference and validation, against thumbnails.

    Args:
        classes: name -> its images; all others of the data together are one class more.

    Raises:
        StudyError: the search's encoder does clearly worse, and `allow_weak_encoder` is not set.
    """
    from evaluation.features.feature_store import FeatureStore
    from evaluation.report.encoder_check import MOST_IMAGES

    features = FeatureStore(store / "features")
    seen = data.where(pool=_POOLS)
    first = compare_encoder(encoder, classes, seen, features=features, most=MOST_IMAGES)
    if first.verdict == "worse" and not config.allow_weak_encoder:
        raise StudyError(
            f"{config.source}: encoder: {first.sentence(config.as_written(config.encoder))} {REMEDY}, or set "
            "allow_weak_encoder: true to go on with this one."
        )
    if second is None:
        return EncoderChecks(first)
    few = compare_encoder(second, classes, seen, features=features, most=_SECOND_IMAGES)
    return EncoderChecks(first, few)


def compare_encoder(
    encoder: Encoder, classes: Mapping[str, Dataset], seen: Dataset, *, features: FeatureStore, most: int
) -> EncoderCheck:
    """One encoder against thumbnails.

    Args:
        classes: name -> its images; all others of `seen` together are one class more.
        seen: the real images to use.
        most: of them.
    """
    from evaluation.report.encoder_check import check_encoder

    label_of = {record.file_name: name for name, own in classes.items() for record in own}
    labels = [label_of.get(record.file_name, OTHERS) for record in seen]
    groups = [record.group for record in seen]
    return check_encoder(encoder, seen.paths(), labels, groups=groups, store=features, most=most)


def check_image_encoder(config: StudyConfig) -> None:
    """Refuse what needs texts, with an encoder that reads images alone.

    Raises:
        StudyError: the key that asks for it.
    """
    where = f"{config.source}: encoder: {config.as_written(config.encoder)!r} reads images alone"
    if config.aim == "set":
        if config.set_score.inception_score > 0:
            raise StudyError(
                f"{where}, so score.inception_score has no texts to read classes by. Set it to 0, or choose "
                "an encoder that reads texts."
            )
        return
    score = config.single_score
    if score.utility + score.distance == 0:
        raise StudyError(
            f"{where}, so there is no alignment, and score.utility and score.distance are 0. Raise one, or "
            "choose an encoder that reads texts."
        )
    if config.mode == "pareto" and score.alignment > 0:
        raise StudyError(
            f"{where}, so there is no alignment for mode: pareto. Set score.alignment to 0, or choose an "
            "encoder that reads texts."
        )
