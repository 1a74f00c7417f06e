"""The reference pages hold every key and every command there is."""

from types import ModuleType

import typer.main

from promptopt.cli.main import main
from promptopt.config.study_file import StudyConfig


def test_every_key_of_the_study_file_is_there_and_says_what_it_means(reference: ModuleType):
    keys = dict(reference.keys())
    page = reference.study_file()
    for name, field in StudyConfig.model_fields.items():
        inner = getattr(field.annotation, "model_fields", {})
        wanted = {f"{name}.{key}" for key in inner} or {name}
        assert wanted <= keys.keys() or any(key.startswith(f"{name}.") for key in keys), name
    for key, field in keys.items():
        assert f"| `{key}` |" in page, key
        assert field.get("description"), f"{key} has no description"
    assert "| `search.trials` | whole number >= 1, <= 100,000 | `40` |" in page


def test_every_command_and_option_is_there(reference: ModuleType):
    page = reference.commands()

    def walk(command: typer.core.TyperGroup, name: str) -> None:
        assert name == "promptopt" or f"# `{name}`" in page
        for inner, one in getattr(command, "commands", {}).items():
            walk(one, f"{name} {inner}")
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert parameter.opts[-1] in page, f"{name} {parameter.opts}"

    walk(typer.main.get_command(main), "promptopt")
