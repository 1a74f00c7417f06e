"""Opens what an augmentation set needs: real images, encoder and judge of a study, generators by address."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from generators.family import load_members
from generators.making.makers import Makers
from promptopt.augmentation.filters import JUDGE, Reference, members
from promptopt.augmentation.pictures import OPENER
from promptopt.augmentation.sources import AugmentationError, ClassSource
from promptopt.study.encoders import compare_encoder
from studies.dataset import Dataset, DatasetError, read_dataset, share_out

if TYPE_CHECKING:
    from evaluation.encoders.base import Encoder
    from generators.base import Generator


def open_reference(
    sources: Sequence[ClassSource],
    *,
    data: str | Path | None,
    store: Path,
    filters: Sequence[str],
    device: str = "auto",
    allow_weak_encoder: bool = False,
) -> Reference:
    """Real images, and the networks of the filter `judge`, as the first study names them.

    Args:
        data: folder of a prepared data set; None: the studies' own, which must then be one and the same.
        allow_weak_encoder: go on where the probe's encoder does worse than thumbnails on the real images.

    Raises:
        AugmentationError: studies of different data or judges, a network that cannot be loaded, or an encoder
            that does worse than thumbnails.
    """
    from evaluation.classifier.judge import JudgeError, load_judge
    from evaluation.encoders.base import EncoderError
    from evaluation.encoders.load import load_encoder
    from evaluation.features.feature_store import FeatureStore

    configs = [source.config for source in sources]
    first = configs[0]
    for what, values in (
        ("data", [] if data is not None else [config.data for config in configs]),
        ("judge", [config.judge for config in configs]),
        ("encoder", [config.encoder for config in configs]),
    ):
        for source, value in zip(sources, values, strict=False):
            if value != values[0]:
                raise AugmentationError(
                    f"the studies {sources[0].study} and {source.study} have different {what} "
                    f"({values[0]} and {value}); "
                    + ("say --data" if what == "data" else "make a set of each, or leave out --filters judge")
                )
    try:
        judge = encoder = None
        if JUDGE in filters:
            encoder = load_encoder(first.encoder, device=device)
            if first.judge is not None:
                judge = load_judge(first.judge, device=device)
    except (EncoderError, JudgeError, OSError) as error:
        raise AugmentationError(f"{first.source}: {error}; or leave 'judge' out of --filters") from error
    reference = Reference(
        data=open_data(sources[0], data=data, store=store),
        features=FeatureStore(store / "features"),
        encoder=encoder,
        address=first.encoder,
        judge=judge,
    )
    known = () if judge is None else judge.names["category"]
    probed = [source for source in sources if source.name not in known]
    if encoder is None or not probed:
        return reference
    notices = _compared(encoder, probed, reference, allow_weak=allow_weak_encoder)
    return replace(reference, notices=notices)


def _compared(
    encoder: Encoder, sources: Sequence[ClassSource], reference: Reference, *, allow_weak: bool
) -> tuple[str, ...]:
    """What is to be said of the encoder of the probes."""
    from evaluation.report.encoder_check import MOST_IMAGES

    classes = {source.name: members(reference.data, source.positives)[0] for source in sources}
    seen = reference.data.where(pool="reference")
    found = compare_encoder(encoder, classes, seen, features=reference.features, most=MOST_IMAGES)
    config = sources[0].config
    said = found.sentence(config.as_written(config.encoder))
    if found.verdict == "worse" and not (allow_weak or config.allow_weak_encoder):
        raise AugmentationError(
            f"{config.source}: encoder: {said} Leave 'judge' out of --filters, run the studies with another "
            "encoder, or give --allow-weak-encoder"
        )
    return () if found.verdict == "better" else (said,)


def open_data(source: ClassSource, *, data: str | Path | None, store: Path) -> Dataset:
    """The prepared data set given, or the study's own.

    Raises:
        AugmentationError: it cannot be read.
    """
    from promptopt.study.opening import phantom_data

    own = source.config.data
    try:
        if data is not None:
            return share_out(read_dataset(data))
        if isinstance(own, str):
            return read_dataset(own)
        if own is None:
            raise AugmentationError(f"{source.name}: its study has no real images; give --data")
        return phantom_data(own.phantom, store)
    except DatasetError as error:
        raise AugmentationError(f"{error}\n(--data names another folder of real images)") from error


def image_counts(
    sources: Sequence[ClassSource], *, per_class: int | None, ratio: float | None, data: Dataset
) -> dict[str, int]:
    """Images of each class: a number, or a ratio to its real images in the pool `reference`.

    Raises:
        AugmentationError: both or neither given, or a ratio that leaves a class without an image.
    """
    if (per_class is None) == (ratio is None):
        raise AugmentationError("give --per-class N or --ratio R, one of them")
    if per_class is not None:
        return {source.name: per_class for source in sources}
    counts = {}
    for source in sources:
        real = len(members(data, source.positives)[0].where(pool="reference"))
        assert ratio is not None  # for the type checker
        counts[source.name] = round(ratio * real)
        if counts[source.name] < 1:
            raise AugmentationError(
                f"class {source.name}: {ratio} times {real} real images in the pool 'reference' of "
                f"{data.root} is none; give a larger ratio, or --per-class"
            )
    return counts


def generator_opener(
    *,
    device: str,
    batch_size: int | None,
    on: str = "here",
    store: Path | None = None,
    open_things: ExitStack | None = None,
    encoders: tuple[Sequence[str], Sequence[str]] = ((), ()),
) -> Callable[[ClassSource], Generator]:
    """Loads each address once.

    Args:
        on: where images are made; see `generators.making.place.Place`.
        store: folder that the makers share.
        open_things: ends at its end what makes images elsewhere than here.
        encoders: whose features are to come with images made elsewhere; see `filters.looks`.
    """
    loaded: dict[str, Generator] = {}
    makers: dict[int | None, Makers] = {}

    def open_generator(source: ClassSource) -> Generator:
        def once(uri: str) -> Generator:
            if uri not in loaded:
                size = source.config.generator.batch_size if batch_size is None else batch_size
                if size not in makers:
                    makers[size] = Makers(
                        on,
                        device=device,
                        batch_size=size,
                        scratch=store,
                        encoders=encoders[0],
                        plain_encoders=encoders[1],
                        features=OPENER,
                    )
                    if open_things is not None:
                        open_things.enter_context(makers[size])
                loaded[uri] = makers[size].load(uri)
            return loaded[uri]

        return load_members(source.generators, once)

    return open_generator


def hand_classes(texts: Sequence[str]) -> Mapping[str, list[str]]:
    """`NAME=PROMPT` texts, prompts of one name together.

    Raises:
        AugmentationError: a text without '='.
    """
    classes: dict[str, list[str]] = {}
    for text in texts:
        name, sign, prompt = text.partition("=")
        if not sign or not name.strip() or not prompt.strip():
            raise AugmentationError(f'--class {text!r}: write NAME=PROMPT, say normal="a colonoscopy image"')
        classes.setdefault(name.strip(), []).append(prompt.strip())
    return classes
