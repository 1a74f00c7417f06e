"""`--set KEY=VALUE`: keys of a study file changed on the command line."""

from typing import Any

import typer


def parse_changes(texts: list[str]) -> dict[str, Any]:
    """The given KEY=VALUE pairs; values are YAML, as in the study file."""
    import yaml

    changes: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise typer.BadParameter(f"{text!r}: write KEY=VALUE, such as generator.steps=20")
        try:
            changes[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise typer.BadParameter(f"{text!r}: the value is not YAML ({error})") from error
    return changes
