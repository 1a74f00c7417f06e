"""The addresses of all generators that a study draws with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from promptopt.config.study_file import StudyConfig, StudyError

if TYPE_CHECKING:
    from generators.family import Member


def varied_members(config: StudyConfig, parameters: Mapping[str, Sequence[Any]]) -> dict[Member, str]:
    """Addresses of all generators that a study draws with, the main one first; only that one, as a rule."""
    from generators.errors import GeneratorError
    from generators.family import MAIN, member_uris

    own = config.generator
    if MAIN in own.named:
        raise StudyError(
            f"{config.source}: generator.named: {MAIN!r} is the one of generator.uri; rename it."
        )
    try:
        return member_uris({MAIN: own.uri, **own.named}, parameters)
    except GeneratorError as error:
        raise StudyError(
            f"{config.source}: generation_parameters: {error}. `generator` takes names of generator.named."
        ) from error
