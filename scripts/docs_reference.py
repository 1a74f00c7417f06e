"""Writes the reference pages as the site is built: the study file by its schema, commands by their help.

Those of Python name what the packages export; mkdocstrings reads its docstrings without importing anything.

A hook of mkdocs (see mkdocs.yml). Run alone it prints the pages.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from promptopt.config.study_file import json_schema

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

_HEAD = """# The study file

One YAML file says what is searched, on which data, with which networks. Unknown keys are refused, with the
line and the nearest known key; so are wrong values. Relative paths start from the file's folder. `promptopt
study schema` prints the JSON schema for editors, and `--set KEY=VALUE` of `promptopt study run` changes a
key, such as `--set search.trials=80`.

A smallest file:

```yaml
name: mine
aim: single
category: polyps
data: {phantom: {images: 1500}}
```
"""
PYTHON = {
    "promptopt": "Studies, their results, and what you give them.",
    "promptopt.space": "The [prompt language](../prompt-language.md): a template becomes a space of prompts.",
    "promptopt.samplers": "The model over slots for [Optuna studies of your own](../optuna.md).",
    "generators": "Generators, the requests they answer, and the store of their images.",
    "evaluation": "Encoders and metrics for [any two sets of images](../evaluation.md).",
    "studies.phantom": "The drawn scenes whose truth is known, and the hospitals they come from.",
}
_LAST_IN_SEARCH = "---\nsearch: {boost: 0.3}\n---\n\n"
TESTING = ("generators", "encoders", "metrics", "samplers", "engines")
_LIMITS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages."""
    from mkdocs.structure.files import File

    pages = {"study-file": study_file(), "commands": commands(), "promptopt.testing": testing()}
    pages |= {package: python(package) for package in PYTHON}
    for name, content in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=content))
    return files


def commands() -> str:
    """Markdown of every command's help, by typer."""
    command = [sys.executable, "-m", "typer", "promptopt.cli.main", "utils", "docs", "--name", "promptopt"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return re.sub(r"^# `promptopt`", "# Commands", text, count=1)


def python(package: str) -> str:
    """Markdown that has mkdocstrings show every name that the package exports, classes first."""
    names = [name for name in importlib.import_module(package).__all__ if not name.startswith("_")]
    names.sort(key=lambda name: (name.isupper(), name[0].islower(), name.lower()))
    parts = [f"{_LAST_IN_SEARCH}# {package}\n", f"{PYTHON[package]}\n"]
    for name in names:
        # the arguments of an error are those of `PromptoptError`
        signature = "    options: {show_signature: false}\n" if name.endswith("Error") else ""
        parts.append(f"::: {package}.{name}\n{signature}")
    return "\n".join(parts)


def testing() -> str:
    """Markdown that has mkdocstrings show the conformance suites, without their tests."""
    parts = [f"{_LAST_IN_SEARCH}# promptopt.testing\n"]
    parts.append("::: promptopt.testing\n    options: {members: false, show_root_heading: false}\n")
    shown = "    options: {filters: ['Suite$'], show_root_full_path: true}\n"
    return "\n".join([*parts, *(f"::: promptopt.testing.{name}\n{shown}" for name in TESTING)])


def study_file() -> str:
    """Markdown of every key: type, default, limits, meaning."""
    schema = json_schema()
    top = {name: field for name, field in schema["properties"].items() if _section(field, schema) is None}
    parts = [_HEAD, "## At the top\n", _table(top, schema["required"], schema, "")]
    for name, field in schema["properties"].items():
        section = _section(field, schema)
        if section is not None:
            parts += [f"## {name}\n", f"{section['description']}\n"]
            parts.append(_table(section["properties"], section.get("required", ()), schema, f"{name}."))
    phantom = schema["$defs"]["PhantomSettings"]
    parts += ["## data: {phantom: {...}}\n", f"{phantom['description']}\n"]
    parts.append(_table(phantom["properties"], (), schema, "data.phantom."))
    return "\n".join(parts)


def keys() -> Iterator[tuple[str, dict[str, Any]]]:
    """Dotted name and schema of every key that holds a value."""
    schema = json_schema()
    for name, field in schema["properties"].items():
        section = _section(field, schema)
        if section is None:
            yield name, field
        else:
            yield from ((f"{name}.{key}", value) for key, value in section["properties"].items())
    for key, value in schema["$defs"]["PhantomSettings"]["properties"].items():
        yield f"data.phantom.{key}", value


def _section(field: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any] | None:
    optional = next((one["$ref"] for one in field.get("anyOf", ()) if "$ref" in one), None)
    reference = field.get("$ref", optional)
    return None if reference is None else schema["$defs"][reference.rpartition("/")[2]]


def _table(fields: dict[str, Any], required: Any, schema: dict[str, Any], prefix: str) -> str:
    lines = ["| key | values | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in fields.items():
        default = "required" if name in required else f"`{_value(field.get('default'))}`"
        meaning = field.get("description", "").replace("|", "\\|")
        lines.append(f"| `{prefix}{name}` | {_type(field)} | {default} | {meaning} |")
    return "\n".join(lines) + "\n"


def _type(field: dict[str, Any]) -> str:
    if "anyOf" in field or "oneOf" in field:
        return " or ".join(_type(one) for one in field.get("anyOf", field.get("oneOf", ())))
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "$ref" in field:
        return "mapping"
    kind = {"integer": "whole number", "object": "mapping", "array": "list", "boolean": "true, false"}
    name = kind.get(field["type"], field["type"])
    limits = [
        f"{sign} {field[key]:,}" for key, sign in _LIMITS.items() if key in field and field[key] < 2**62
    ]
    return f"{name} {', '.join(limits)}".strip()


def _value(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    print(study_file())
    print(commands())
