"""Opening what a study names: data, networks, experts' choices. A failure is a StudyError with its key."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import promptopt
from evaluation.features.elsewhere import OPENER
from generators.making.makers import Makers
from generators.making.place import Place
from promptopt.base.files import new_folder, write_text
from promptopt.base.locks import hold
from promptopt.config.generator_uris import varied_members
from promptopt.config.study_file import PhantomSettings, StudyConfig, StudyError
from promptopt.portfolio.weigh import check_sentence_model
from studies.dataset import Dataset, DatasetError, read_dataset, share_out

if TYPE_CHECKING:
    from evaluation.classifier.judge import Judge
    from evaluation.encoders.base import Encoder
    from generators.base import Generator
    from promptopt.review.preferences import PreferenceMetric
    from studies.category import Category

logger = logging.getLogger(__name__)

_NOT_IN_JOBS = (
    "--on slurm is for images in bulk: a study asks for a few at a time, and its jobs would wait idle for "
    "most of theirs. Run the study inside one job (sbatch --gres=gpu:4 --wrap 'promptopt study run "
    "STUDY.yaml --on processes:4'), or on a Ray cluster (--on 'ray:ADDRESS?gpus=8')"
)


@dataclass(frozen=True, kw_only=True)
class Networks:
    """What a study runs, and what experts said of its prompts; see `Setup`."""

    generator: Generator
    encoder: Encoder
    second: Encoder | None
    judge: Judge | None
    opinion: PreferenceMetric | None


def open_networks(
    config: StudyConfig,
    category: Category,
    *,
    device: str,
    generator: Generator | None = None,
    encoder: Encoder | None = None,
    judge: Judge | None = None,
    makers: Makers | None = None,
) -> Networks:
    """The second pass over a study: every network that it names, or the object given in its place."""
    check_sentence_model(config)
    if generator is None:
        makers = makers or Makers(device=device, batch_size=config.generator.batch_size)
        generator = open_generator(config, category.generation_parameters, makers)
    else:
        check_given(config, category.generation_parameters, generator)
    encoder = encoder or open_encoder(config, device)
    return Networks(
        generator=generator,
        encoder=encoder,
        second=open_second(config, encoder, device),
        judge=judge or open_judge(config, device),
        opinion=open_opinion(config, category),
    )


def open_data(config: StudyConfig, store: Path) -> Dataset:
    """The prepared data set, or the phantom in the store; an empty one where the study names none."""
    if config.data is None:
        return Dataset(Path(), (), "none")
    try:
        if isinstance(config.data, str):
            return share_out(read_dataset(config.data))
        return phantom_data(config.data.phantom, store)
    except DatasetError as error:
        raise StudyError(f"{config.source}: data: {error}") from error


def picture_digests(config: StudyConfig, data: Dataset, store: Path) -> dict[str, str]:
    """File name -> sha256 of every picture; the store remembers them by size and times."""
    try:
        return data.digests(_cache(store, data))
    except OSError as error:
        raise StudyError(f"{config.source}: data: {error.filename}: {error.strerror}. Restore it.") from error


def _cache(store: Path, data: Dataset) -> Path:
    parent = store / "data"
    parent.mkdir(parents=True, exist_ok=True)
    place = hashlib.sha256(str(data.root.absolute()).encode()).hexdigest()[:16]
    return parent / f"digests-{place}.json"


def phantom_data(settings: PhantomSettings, store: Path) -> Dataset:
    """The phantom data set in the store, written on first use; whole or not at all.

    One whose labels or pictures are not as they were written is made again.
    """
    version = promptopt.__version__
    where = f"{settings.hospital}-{settings.test}-" if settings.hospital is not None else ""
    name = f"phantom-{where}{settings.images}-{settings.seed}-{settings.size}-{version}"
    parent = store / "data"
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / name
    seal = parent / f"{name}.sha256"
    with hold(parent / f"{name}.lock", wait=-1):
        if folder.exists():
            with contextlib.suppress(DatasetError, OSError):
                data = read_dataset(folder)
                if seal.read_text(encoding="ascii") == _sealed(data, store):
                    return data
            logger.warning("%s: not as it was written; it is made again", folder)
        from studies.phantom import write_phantom

        with new_folder(folder) as partial:
            write_phantom(partial, **settings.model_dump())
        data = read_dataset(folder)
        write_text(seal, _sealed(data, store))
        return data


def _sealed(data: Dataset, store: Path) -> str:
    found = json.dumps([data.fingerprint, data.digests(_cache(store, data))], sort_keys=True)
    return hashlib.sha256(found.encode()).hexdigest()


def check_place(on: str) -> None:
    """Whether a study can have its images made there.

    Raises:
        StudyError: a place that makes images in bulk alone.
        GeneratorError: no such place.
    """
    if Place.parse(on).kind == "slurm":
        raise StudyError(_NOT_IN_JOBS)


def makers_of(
    config: StudyConfig, on: str, *, device: str, store: Path, features: bool = False, bulk: bool = False
) -> Makers:
    """Who makes a study's images.

    Args:
        on: the place, as `generators.making.place.Place.parse` reads it.
        features: whether those of the study's encoder are to come with the images.
        bulk: whether they are all asked for at once, and not a few at a time.

    Raises:
        StudyError: no such place, or one that makes images in bulk alone.
    """
    from generators.errors import GeneratorError

    try:
        if not bulk:
            check_place(on)
        return Makers(
            on,
            device=device,
            batch_size=config.generator.batch_size,
            digests=store / "weights.json",
            encoders=[config.encoder] if features else [],
            features=OPENER,
        )
    except GeneratorError as error:
        raise StudyError(str(error)) from error


def open_generator(config: StudyConfig, parameters: Mapping[str, Sequence[Any]], makers: Makers) -> Generator:
    """The generator that the study names; all of them where it varies generators or adapters' scales."""
    from generators.errors import GeneratorError
    from generators.family import load_members

    uris = varied_members(config, parameters)

    def open_one(uri: str) -> Generator:
        try:
            return makers.load(uri)
        except (GeneratorError, OSError) as error:
            key = "generator.uri" if uri == config.generator.uri else "generator.named"
            what = f"{key}: {config.as_written(uri)!r}"
            raise StudyError(f"{config.source}: {what} cannot be loaded: {error}") from error

    return load_members(uris, open_one)


def check_given(config: StudyConfig, parameters: Mapping[str, Sequence[Any]], generator: Generator) -> None:
    """Refuse an object where generators or scales are varied, which only addresses can say."""
    from generators.family import GeneratorFamily

    varied = [name for name in ("generator", "lora_scale") if name in parameters]
    if varied and not isinstance(generator, GeneratorFamily):
        raise StudyError(
            f"{config.source}: generation_parameters: {' and '.join(varied)} cannot be varied with a "
            "generator given as an object. Give addresses in the study (generator.uri, generator.named), or "
            "a GeneratorFamily."
        )


def open_encoder(config: StudyConfig, device: str) -> Encoder:
    """The search's encoder."""
    from evaluation.encoders.base import EncoderError
    from evaluation.encoders.load import load_encoder

    try:
        return load_encoder(config.encoder, device=device)
    except (EncoderError, OSError) as error:
        raise StudyError(
            f"{config.source}: encoder: {config.as_written(config.encoder)!r} cannot be loaded: {error}"
        ) from error


def open_second(config: StudyConfig, first: Encoder, device: str) -> Encoder | None:
    """An encoder for the confirmation alone, or None; it may not be the first one."""
    from evaluation.encoders.base import EncoderError
    from evaluation.encoders.load import load_encoder

    uri = config.confirm.second_encoder
    if uri is None:
        return None
    try:
        found = load_encoder(uri, device=device)
    except (EncoderError, OSError) as error:
        raise StudyError(
            f"{config.source}: confirm.second_encoder: {config.as_written(uri)!r} cannot be loaded: {error}"
        ) from error
    if found.fingerprint == first.fingerprint:
        raise StudyError(
            f"{config.source}: confirm.second_encoder: {config.as_written(uri)!r} is the encoder of the "
            "search, so it can confirm nothing. Name another one, or remove the key."
        )
    return found


def open_judge(config: StudyConfig, device: str) -> Judge | None:
    """The judge, or None."""
    if config.judge is None:
        return None
    from evaluation.classifier.judge import JudgeError, load_judge

    try:
        return load_judge(config.judge, device=device)
    except (JudgeError, OSError) as error:
        raise StudyError(
            f"{config.source}: judge: {config.as_written(config.judge)!r} cannot be loaded: {error}"
        ) from error


def open_opinion(config: StudyConfig, category: Category) -> PreferenceMetric | None:
    """What experts chose in a review, or None."""
    if config.preference is None:
        return None
    from promptopt.review.preferences import PreferenceMetric
    from promptopt.review.records import ReviewError

    where = f"{config.source}: preference.source"
    try:
        found = PreferenceMetric.read(config.preference.source)
    except ReviewError as error:
        raise StudyError(f"{where}: {error}") from error
    if found.reference != category.baseline:
        raise StudyError(
            f"{where}: its prompts were compared with the baseline {found.reference!r}, this study's is "
            f"{category.baseline!r}. Use the same baseline, or leave `preference` out."
        )
    return found
