"""Settings that people write, in YAML, JSON or as `--set KEY=VALUE`, and what is wrong in them."""

from __future__ import annotations

import difflib
import math
import re
import typing
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import yaml
from yaml.composer import ComposerError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from promptopt.base.errors import PromptoptError

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    Model = TypeVar("Model", bound=BaseModel)

_NODES, _DEPTH, _PROBLEMS, _SHOWN = 100_000, 50, 10, 80
_FLOAT = "tag:yaml.org,2002:float"

Place = tuple[Any, ...]


class SettingsError(PromptoptError, ValueError):
    """Settings that cannot be read or mean nothing."""


@dataclass(frozen=True)
class Settings:
    """The mapping that a YAML file holds.

    Attributes:
        content: plain values.
        source: the file, for messages.
        lines: path of keys -> line of the file, from 1.
    """

    content: dict[str, Any]
    source: str = "settings"
    lines: Mapping[Place, int] = field(default_factory=dict)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 3e-4 as a text; people who write settings mean a number."""

    _level = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """Give up at once on what is nested too deep: the composer calls itself."""
        if self._level > _DEPTH:
            mark = self.peek_event().start_mark
            raise ComposerError(None, None, f"nested more than {_DEPTH} deep", mark)
        self._level += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._level -= 1


_Loader.add_implicit_resolver(
    _FLOAT, re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_yaml(
    path: str | Path, *, error: type[PromptoptError] = SettingsError, remedy: str = "Correct the file."
) -> Settings:
    """Read a file that holds one mapping, by the rules of YAML 1.1 with numbers such as 3e-4.

    Args:
        path: a text in UTF-8.
        error: the class to raise.
        remedy: how a right file looks, or where to get one.

    Raises:
        SettingsError: (or `error`) it cannot be read, is not YAML, has a key twice, is nested more than 50
            deep, holds more than 100,000 values with its aliases written out, NaN, infinity or half a
            surrogate pair, or is not a mapping.
    """

    def refuse(problem: str, *, line: int | None = None, remedy: str = remedy) -> PromptoptError:
        return error(problem, file=path, line=line, remedy=remedy)

    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as fault:
        raise refuse("there is no such file") from fault
    except UnicodeDecodeError as fault:
        raise refuse(f"not UTF-8 at byte {fault.start}", remedy="Save the file as UTF-8.") from fault
    except OSError as fault:
        raise refuse(f"cannot be read ({fault.strerror or fault})") from fault
    try:
        content, lines = _parsed(text, refuse)
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        column = f", column {mark.column + 1}" if mark else ""
        problem = f"not valid YAML{column}: {fault.problem or fault.context}"
        raise refuse(problem, line=mark.line + 1 if mark else None, remedy="Correct it there.") from fault
    except (yaml.YAMLError, RecursionError, ValueError) as fault:
        if isinstance(fault, PromptoptError):
            raise
        raise refuse(f"not valid YAML: {fault}") from fault
    if not isinstance(content, dict):
        kind = "nothing" if content is None else f"a {type(content).__name__}"
        raise refuse(f"holds {kind}, not a mapping of keys")
    return Settings(content, str(path), lines)


def parse_changes(texts: Sequence[str], *, error: type[PromptoptError] = SettingsError) -> dict[str, Any]:
    """`KEY=VALUE` as given to `--set`, the values by the rules of YAML.

    Raises:
        SettingsError: (or `error`) no `=`, no key, or a value that is not YAML or that `read_yaml` refuses.

    Example:
        >>> parse_changes(["search.trials=80", "training.learning_rate=3e-4"])
        {'search.trials': 80, 'training.learning_rate': 0.0003}
    """
    changes: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise error(f"--set {text!r}: write KEY=VALUE, such as generator.steps=20")
        shown = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."

        def refuse(problem: str, *, shown: str = shown, **_: object) -> PromptoptError:
            return error(f"--set {shown!r}: the value {problem}")

        try:
            changes[key.strip()], _ = _parsed(value, refuse)
        except (yaml.YAMLError, RecursionError, ValueError) as fault:
            if isinstance(fault, PromptoptError):
                raise
            raise error(f"--set {shown!r}: the value is not YAML ({fault})") from fault
    return changes


def override(
    settings: Settings, changes: Mapping[str, Any], *, error: type[PromptoptError] = SettingsError
) -> Settings:
    """A copy with the values of dotted keys replaced; sections that are missing or null are made.

    Raises:
        SettingsError: (or `error`) what stands above a key is not a section.

    Example:
        >>> override(Settings({"seed": 1, "search": {"trials": 9}}), {"search.trials": 80}).content
        {'seed': 1, 'search': {'trials': 80}}
    """
    content = dict(settings.content)
    for dotted, value in changes.items():
        *parents, last = dotted.split(".")
        section = content
        for parent in parents:
            below = section.get(parent)
            if below is not None and not isinstance(below, Mapping):
                raise error(f"--set {dotted}: {parent!r} is not a mapping, so it has no key below it")
            section[parent] = dict(below or {})
            section = section[parent]
        section[last] = value
    changed = [tuple(dotted.split(".")) for dotted in changes]
    lines = {k: n for k, n in settings.lines.items() if not any(k[: len(own)] == own for own in changed)}
    return Settings(content, settings.source, lines)


def validate(
    model: Any,
    settings: Settings,
    *,
    error: type[PromptoptError] = SettingsError,
    renamed: Mapping[str, str] | None = None,
) -> Any:
    """The settings as a pydantic model, or as a union of some; `renamed` are keys of earlier versions.

    Raises:
        SettingsError: (or `error`) every fault with its line, key, value and remedy.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(model).validate_python(settings.content)
    except ValidationError as fault:
        raise explain(
            fault, settings.source, error=error, model=model, settings=settings, renamed=renamed or {}
        ) from fault


def read_json(
    model: type[Model],
    path: str | Path,
    *,
    error: type[PromptoptError] = SettingsError,
    remedy: str,
    summed: bool = False,
) -> Model:
    """A JSON file as a pydantic model.

    Args:
        model: the model.
        path: the file.
        error: the class to raise.
        remedy: how to get a right file.
        summed: the file carries a checksum of its content (see `base.checksums`), which is compared.

    Raises:
        SettingsError: (or `error`) it cannot be read, is not JSON, not of that form, or not what its
            checksum says.
    """
    from pydantic import ValidationError

    from promptopt.base.checksums import without_sum

    try:
        content = without_sum(path, error=error, remedy=remedy) if summed else None
        return model.model_validate_json(Path(path).read_bytes() if content is None else content)
    except OSError as fault:
        raise error(f"cannot be read ({fault.strerror or fault})", file=path, remedy=remedy) from fault
    except ValidationError as fault:
        raise explain(fault, str(path), error=error, model=model, remedy=remedy) from fault


def explain(
    fault: ValidationError,
    source: str | Path,
    *,
    error: type[PromptoptError] = SettingsError,
    model: Any = None,
    settings: Settings | None = None,
    remedy: str | None = None,
    renamed: Mapping[str, str] = {},
) -> PromptoptError:
    """What pydantic found wrong, as an error for people: one line a fault, the first ten of them.

    Args:
        fault: of pydantic.
        source: the file, or what the values are of.
        error: the class of the result.
        model: that was validated against, to tell the keys there are.
        settings: that were validated, to tell the lines.
        remedy: stands at the end.
        renamed: dotted keys of earlier versions -> those of now.
    """
    problems = fault.errors(include_url=False)
    # Of a file of another version all else may be other too.
    problems = [one for one in problems if one["loc"] == ("version",)] or problems
    told = [_problem(problem, str(source), model, settings, renamed) for problem in problems[:_PROBLEMS]]
    if len(problems) == 1:
        return error(**{**told[0], **({} if remedy is None else {"remedy": remedy})})
    lines = [str(PromptoptError(**one)) for one in told]
    if len(problems) > _PROBLEMS:
        lines.append(f"and {len(problems) - _PROBLEMS} more")
    combined = error("\n".join([*lines, *([] if remedy is None else [remedy])]))
    combined.file = str(source)
    return combined


_REMEDIES = {
    "string_type": "Write text; put quotes around a word such as no, yes, 1 or 5:30.",
    "string_too_short": "Write text that is not empty.",
    "list_type": "Write a list.",
    "dict_type": "Write names, each with its values.",
    "missing": "Add it.",
}


def _problem(
    problem: Any, source: str, model: Any, settings: Settings | None, renamed: Mapping[str, str]
) -> dict[str, Any]:
    place, models = _located(problem, model, settings)
    kind, value = problem["type"], problem["input"]
    lines = {} if settings is None else settings.lines
    said: dict[str, Any] = {
        "file": source,
        "line": next((lines[p] for p in (place, place[:-1]) if p and p in lines), None),
        "key": ".".join(map(str, place)) or None,
        "remedy": _REMEDIES.get(kind),
    }
    if kind == "extra_forbidden" and said["key"] in renamed:
        return {**said, "problem": f"is now called {renamed[said['key']]}", "remedy": "Rename it."}
    if kind == "extra_forbidden":
        known = list(dict.fromkeys(name for one in models for name in one.model_fields))
        near = difflib.get_close_matches(str(place[-1]), known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return {
            **said,
            "problem": f"unknown key{hint}",
            "remedy": f"Known here: {', '.join(known)}." if known else None,
        }
    if kind == "missing":
        return {**said, "problem": "missing"}
    if kind == "literal_error" and place == ("version",):
        reads = problem["ctx"]["expected"]
        text = f"is of another version of promptopt, and this one reads {reads}"
        return {**said, "value": value, "problem": text}
    message = problem["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if isinstance(value, str | bytes | int | float) and place:
        shown = value if len(repr(value)) <= 80 else f"{value!r:.77}..."
        return {
            **said,
            "value": shown,
            "problem": "is not allowed" + ("" if said["remedy"] else f": {message}"),
        }
    return {**said, "problem": message}


def _located(problem: Any, model: Any, settings: Settings | None) -> tuple[Place, list[type[BaseModel]]]:
    """The path of keys in the file, without pydantic's names of alternatives, and the models it ends in."""
    loc: Place = problem["loc"]
    place: Place = ()
    models = _models(model)
    value: Any = None if settings is None else settings.content
    for index, part in enumerate(loc):
        last = index == len(loc) - 1
        if part == "[key]":
            continue
        if settings is not None:
            absent = last and problem["type"] == "missing"
            if isinstance(value, Mapping) and (part in value or absent):
                value = value.get(part)
            elif isinstance(value, list) and isinstance(part, int):
                value = value[part]
            else:
                models = [m for m in models if _named(m, part)] or models
                continue
        place = (*place, part)
        if not last:
            fields = [m.model_fields[part] for m in models if part in m.model_fields]
            models = [m for one in fields for m in _models(one.annotation)] or models
    return place, models


def _models(annotation: Any) -> list[type[BaseModel]]:
    from pydantic import BaseModel

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in _models(part)]


def _named(model: type[BaseModel], tag: object) -> bool:
    literals = (
        f.annotation for f in model.model_fields.values() if typing.get_origin(f.annotation) is Literal
    )
    return any(tag in typing.get_args(one) for one in literals)


def _parsed(text: str, refuse: Callable[..., PromptoptError]) -> tuple[Any, dict[Place, int]]:
    """What a YAML text holds, and the lines of its keys."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, {}
        lines = dict(_lines(node, loader, refuse))
        return loader.construct_document(node), lines
    finally:
        loader.dispose()


def _lines(root: Node, loader: _Loader, refuse: Callable[..., PromptoptError]) -> Iterator[tuple[Place, int]]:
    """(path of keys, line) of every node, with what aliases stand for written out."""
    waiting: list[tuple[Place, int, Node]] = [((), root.start_mark.line + 1, root)]
    count = 0
    while waiting:
        place, line, node = waiting.pop()
        count += 1
        if len(place) > _DEPTH or count > _NODES:
            what = (
                f"nested more than {_DEPTH} deep" if len(place) > _DEPTH else f"more than {_NODES:,} values"
            )
            raise refuse(f"holds too much ({what}, with its aliases written out)", line=line)
        yield place, line
        if isinstance(node, ScalarNode):
            _check_scalar(node, line, refuse)
        elif isinstance(node, MappingNode):
            seen: set[Hashable] = set()
            for key_node, below in node.value:
                merge = key_node.tag == "tag:yaml.org,2002:merge"
                key = key_node.value if merge else loader.construct_object(key_node, deep=True)
                at = key_node.start_mark.line + 1
                if not isinstance(key, Hashable):
                    raise refuse("a key is a list or a mapping", line=at, remedy="Write text.")
                if key in seen:
                    dotted = ".".join(map(str, (*place, key)))
                    raise refuse(f"{dotted}: written twice", line=at, remedy="Keep one.")
                seen.add(key)
                if isinstance(key_node, ScalarNode):
                    _check_scalar(key_node, at, refuse)
                waiting.append(((*place, key), at, below))
        elif isinstance(node, SequenceNode):
            for index, below in enumerate(node.value):
                waiting.append(((*place, index), below.start_mark.line + 1, below))


def _check_scalar(node: ScalarNode, line: int, refuse: Callable[..., PromptoptError]) -> None:
    text = str(node.value)
    if node.tag == _FLOAT and not _finite(text):
        raise refuse(f"holds {text}, which is no number", line=line, remedy="Write a finite number.")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise refuse(
            "holds half a surrogate pair (\\ud800 to \\udfff), which is no character",
            line=line,
            remedy="Write the character itself.",
        )


def _finite(text: str) -> bool:
    """Whether a float of YAML is a finite number; those in base 60 are."""
    if re.fullmatch(r"[-+]?\.(inf|nan)", text, re.IGNORECASE):
        return False
    try:
        return math.isfinite(float(text.replace("_", "")))
    except ValueError:
        return True
