"""The sweep file: a base study, and what to vary in it."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from promptopt.base.errors import PromptoptError
from promptopt.base.settings import read_yaml, validate
from promptopt.config.study_file import StudyConfig, StudyError, load_study, study_from_mapping

_MOST = 1000  # runs


class SweepError(PromptoptError, ValueError):
    """A sweep that cannot be run as its file says."""


class SweepFile(BaseModel):
    """What a sweep file holds."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,49}$", description="what the names of all its runs begin with"
    )
    study: str | dict[str, Any] = Field(
        description="the base: a study file, by its path from this one's folder, or its content"
    )
    over: dict[str, list[Any] | dict[str, dict[str, Any]]] = Field(
        min_length=1,
        description="a dotted key of the study -> its values; or any name -> {label: {dotted key: value}}, "
        "for keys that change together",
    )


@dataclass(frozen=True)
class Variant:
    """One study of a sweep.

    Attributes:
        values: what is varied -> its value here, as people read it.
    """

    values: Mapping[str, str]
    config: StudyConfig

    @property
    def name(self) -> str:
        """Of the run."""
        return self.config.name

    @property
    def digest(self) -> str:
        """Changes with every setting of the study, paths included."""
        text = json.dumps(self.config.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Sweep:
    """A checked sweep: its studies, in an order that keeps those with the same networks together."""

    name: str
    variants: tuple[Variant, ...]


def load_sweep(path: str | Path, *, changes: Mapping[str, Any] | None = None) -> Sweep:
    """Read a sweep file and check all of its studies; relative paths of values start at the study's folder.

    Args:
        changes: dotted keys of the base study -> their values, for all runs.

    Raises:
        SweepError: not readable, an unknown key, a key that cannot be varied or that is varied and also among
            `changes`, or two runs of one name.
        StudyError: a study that a combination makes is none; says which combination.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "sweep.yaml"
        >>> _ = file.write_text(
        ...     "name: two\\nstudy: {name: base, category: polyps, data: {phantom: {}}}\\nover: {seed: [0]}"
        ... )
        >>> [variant.name for variant in load_sweep(file).variants]
        ['two-seed0']
    """
    remedy = "A sweep has the keys name, study and over."
    file = Path(path)
    content: SweepFile = validate(
        SweepFile, read_yaml(file, error=SweepError, remedy=remedy), error=SweepError
    )
    base = file.resolve().parent
    if isinstance(content.study, str):
        study = load_study(base / content.study)
    else:
        study = study_from_mapping(content.study, base=base)
    axes = {key: dict(_axis(key, values, file)) for key, values in content.over.items()}
    study = _changed(study, changes or {}, axes=axes, file=file)
    size = 1
    for key, axis in axes.items():
        if not axis:
            raise SweepError("has no values", file=file, key=f"over.{key}", remedy="Give one or more.")
        size *= len(axis)
    if size > _MOST:
        raise SweepError(f"makes {size:,} runs", file=file, key="over", remedy=f"At most {_MOST:,}.")
    variants = []
    for labels in itertools.product(*axes.values()):
        values = dict(zip(axes, labels, strict=True))
        changes = {k: v for axis, label in values.items() for k, v in axes[axis][label].items()}
        parts = [_part(axis, label) for axis, label in values.items()]
        name = "-".join([content.name, *parts])
        try:
            config = study.override({**changes, "name": name})
        except StudyError as error:
            raise StudyError(f"{file}: the run {name}: {error}") from error
        variants.append(Variant(values, config))
    names = [variant.name for variant in variants]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SweepError(
            f"two runs would have the name {twice[0]}",
            file=file,
            key="over",
            remedy="Write the values as label: {key: value}, with labels that differ.",
        )
    order = list(dict.fromkeys(networks(variant.config) for variant in variants))
    return Sweep(content.name, tuple(sorted(variants, key=lambda one: order.index(networks(one.config)))))


def _changed(
    study: StudyConfig, changes: Mapping[str, Any], *, axes: Mapping[str, Mapping[str, Any]], file: Path
) -> StudyConfig:
    """The base study with a value for all runs in place of its own."""
    varied = {"name", *(key for axis in axes.values() for own in axis.values() for key in own)}
    for key in changes:
        if key in varied:
            raise SweepError(
                "cannot be set for all runs, which differ in it", file=file, key=key, remedy="Leave it out."
            )
    return study.override(changes) if changes else study


def networks(config: StudyConfig) -> str:
    """What has to be the same for two studies to have their images made by the same workers."""
    return json.dumps([config.generator.model_dump(mode="json"), config.encoder], sort_keys=True)


def _axis(key: str, values: Any, file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(label, dotted keys with their values) of each value."""
    pairs = list(values.items()) if isinstance(values, Mapping) else []
    if not pairs:
        plain = all(isinstance(one, str | int | float) for one in values)
        labels = [str(one) if plain else str(number) for number, one in enumerate(values, start=1)]
        if len(set(labels)) < len(labels):
            raise SweepError("has a value twice", file=file, key=f"over.{key}", remedy="Keep one.")
        pairs = [(label, {key: one}) for label, one in zip(labels, values, strict=True)]
    for label, changes in pairs:
        if "name" in changes:
            raise SweepError(
                "cannot be varied: runs are named after their values", file=file, key=f"over.{key}"
            )
        yield label, changes


def _part(axis: str, label: str) -> str:
    """What stands in a run's name for a value; a number is told by its key."""
    word = re.sub(r"[^A-Za-z0-9._]+", "-", label).strip("-.") or "value"
    return f"{axis.rpartition('.')[2]}{word}" if re.fullmatch(r"[0-9.e-]+", word) else word
