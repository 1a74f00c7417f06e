"""The command line: what a person at a terminal sees, and what a script gets as exit code."""

import errno
import json
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer.main
from PIL import Image
from typer.testing import CliRunner

from promptopt.base.errors import ArgumentError
from promptopt.cli.main import main
from tests.generators.micro import build_micro_pipeline

runner = CliRunner()
HEAVY = (
    "torch",
    "pandas",
    "plotly",
    "optuna",
    "diffusers",
    "transformers",
    "open_clip",
    "sklearn",
    "rich",
    "numpy",
)


def run(*arguments: object):
    return runner.invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A prepared data set of 8 grey pictures, two categories."""
    folder = tmp_path / "set"
    (folder / "images").mkdir(parents=True)
    lines = []
    for index in range(8):
        name = f"images/{index}.png"
        Image.fromarray(np.full((20, 30, 3), index * 20, np.uint8)).save(folder / name)
        lines.append(
            {
                "file_name": name,
                "text": f"picture {index}",
                "category": "polyps" if index % 2 else "normal",
                "label": "polyp" if index % 2 else "normal",
                "center": "north",
                "group": f"g{index}",
                "pool": ("reference", "validation", "test")[index % 3],
            }
        )
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from promptopt.cli.main import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit:\n    pass\n"
        f"print('LOADED', [name for name in {HEAVY} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage:" in result.stdout
    assert result.stdout.strip().splitlines()[-1] == "LOADED []"


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group of the app with its path, the app itself first."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


COMMANDS = list(commands(typer.main.get_command(main)))


@pytest.mark.parametrize(
    ("path", "command"), [pytest.param(*one, id=" ".join(one[0]) or "promptopt") for one in COMMANDS]
)
def test_every_command_has_help(path: tuple[str, ...], command: Any):
    result = run(*path, "--help")
    assert result.exit_code == 0, result.output
    usage = result.output.split("\n\n")[0].split()
    assert usage[0] == "Usage:"
    assert usage[2 : 2 + len(path)] == list(path)
    assert " ".join(command.help.split()) in " ".join(result.output.split())
    for name, inner in getattr(command, "commands", {}).items():  # on a line each, none cut
        assert inner.get_short_help_str() in result.output
        assert not inner.get_short_help_str().endswith("...")
        assert any(line.split()[:1] == [name] for line in result.output.splitlines())
    assert max(map(len, result.output.splitlines())) <= 80
    for parameter in command.params:
        assert parameter.help, f"{parameter.name} is not explained"
        assert parameter.param_type_name == "argument" or parameter.opts[0] in result.output


def test_version():
    from promptopt import __version__

    assert run("--version").output == f"promptopt {__version__}\n"


def test_template_count_and_sample_agree():
    counted = run("template", "count", "a {red|pink} {big|small|} polyp")
    assert counted.output.splitlines() == [
        "slot1 (2): red | pink",
        "slot2 (3): big | small | (nothing)",
        "6 combinations",
    ]
    sampled = run("template", "sample", "a {red|pink} {big|small|} polyp", "-n", 20, "--seed", 3)
    prompts = sampled.output.splitlines()
    assert len(prompts) == 20
    assert set(prompts) <= {f"a {c}{s} polyp" for c in ("red", "pink") for s in (" big", " small", "")}
    again = run("template", "sample", "a {red|pink} {big|small|} polyp", "-n", 20, "--seed", 3)
    assert again.output == sampled.output


def test_template_check_shows_slots_samples_and_lengths(monkeypatch):
    from tests.promptopt.fakes import SquareGenerator

    model = SquareGenerator(max_tokens=6)
    monkeypatch.setattr("generators.loading.load", lambda uri, **_: model)
    fits = run("template", "check", "a {3::red|pale __color__} polyp", "--category", "polyps", "--samples", 3)
    assert fits.exit_code == 0, fits.output
    lines = fits.output.splitlines()
    assert lines[:3] == ["slot1 (7 options)", "   75.00%  red", "   12.50%  pale"]
    assert "7 combinations, 7 of them different" in lines
    assert "tokens: min 5, median 5, max 5 of these 3; the longest prompt has 6; limit 6" in lines
    long = run("template", "check", "a {red|very very big} polyp", "--samples", 4)
    assert long.exit_code == 1
    assert "TOO LONG" in long.stdout
    assert "1 of 2 prompts would be cut off:\n  7 tokens: a very very big [lost: polyp]" in long.stderr


def test_template_check_goes_through_what_stands_beside_the_words(tmp_path, monkeypatch):
    import yaml

    from tests.promptopt.fakes import SquareGenerator, category

    model = SquareGenerator(max_tokens=12)
    monkeypatch.setattr("generators.loading.load", lambda uri, **_: model)
    file = tmp_path / "own.yaml"
    own = {"negative_template": "{dark|" + "so " * 12 + "dim}", "generation_parameters": {"guidance": [2, 5]}}
    file.write_text(yaml.safe_dump({**category(), **own}), encoding="utf-8")
    result = run("template", "check", file, "--samples", 2)
    assert result.exit_code == 1
    assert re.search(r"\[guidance [25]\]", result.stdout)
    assert "1 of 2 negative prompts would be cut off:" in result.stderr
    assert "[lost: so so dim]" in result.stderr


def test_template_check_needs_no_model_and_points_at_a_fault():
    result = run("template", "check", "${c=!{a|b}} ${c} {x ${c}|y}", "--generator", "none", "--samples", 1)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[:4] == [
        "c (2 options)",
        "   50.00%  a",
        "   50.00%  b",
        "slot1 (2 options)",
    ]
    faulty = run("template", "check", "a __colr__", "--category", "polyps", "--generator", "none")
    assert faulty.exit_code == 2
    assert faulty.stderr.splitlines()[1:3] == ["  a __colr__", "    ^"]
    assert "Did you mean 'color'?" in faulty.stderr


def test_template_from_a_file(tmp_path):
    file = tmp_path / "template.txt"
    file.write_text("a {red|pink}\npolyp\n")
    assert run("template", "count", file).output.splitlines()[-1] == "2 combinations"


@pytest.mark.parametrize("category", ["polyps", "landmarks", "instruments"])
def test_template_of_a_category_that_ships(category):
    result = run("template", "count", category)
    assert result.exit_code == 0, result.output
    assert int(result.output.split()[-2].replace(",", "")) > 100


def test_errors_go_to_stderr_with_exit_code_2_and_no_traceback():
    result = run("template", "count", "a {b|{c")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(
        "Error: template, line 1, column 6: the brace that opens here is never closed"
    )
    assert "Traceback" not in result.stderr


def test_debug_shows_the_traceback(monkeypatch):
    from promptopt.space import TemplateError

    assert isinstance(run("--debug", "template", "count", "}").exception, TemplateError)
    monkeypatch.setenv("PROMPTOPT_DEBUG", "1")
    assert isinstance(run("template", "count", "}").exception, TemplateError)
    monkeypatch.setenv("PROMPTOPT_DEBUG", "0")
    assert run("template", "count", "}").exit_code == 2


@pytest.mark.parametrize("kind", [KeyError, ValueError, RuntimeError])
def test_a_fault_of_the_program_keeps_its_traceback_and_says_how_to_report_it(monkeypatch, kind):
    def broken(*_: object) -> None:
        raise kind("a bug")

    monkeypatch.setattr("promptopt.space.compile_template", broken)
    fault = run("template", "count", "a").exception
    assert isinstance(fault, kind)
    assert "fault of promptopt" in "".join(traceback.format_exception(fault))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a.png"), "the disk is full. Free some space"),
        (PermissionError(errno.EACCES, "Permission denied", "a"), "denied: a. Give yourself permission"),
        (OSError("no connection"), "Error: no connection"),
        (ArgumentError("is no number", file="s.yaml", line=3, key="seed"), "s.yaml, line 3: seed: is no num"),
    ],
)
def test_errors_of_the_machine_and_of_the_user_are_one_message(monkeypatch, fault, said):
    def broken(*_: object) -> None:
        raise fault

    monkeypatch.setattr("promptopt.space.compile_template", broken)
    result = run("template", "count", "a")
    assert result.exit_code == 2
    assert said in result.stderr
    assert "fault of promptopt" not in result.stderr


def test_interruption_says_how_to_go_on(monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("promptopt.space.compile_template", interrupted)
    monkeypatch.setattr(sys, "argv", ["promptopt", "template", "count", "two words"])
    result = run("template", "count", "two words")
    assert result.exit_code == 130
    assert "run again: promptopt template count 'two words'" in result.stderr


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (["template", "count", "nowhere.txt"], "nowhere.txt"),
        (["template", "count", "nowhere.yaml"], "nowhere.yaml"),
        (["data", "check", "nowhere"], "nowhere"),
        (["data", "sheet", "nowhere", "x.png"], "nowhere"),
        (["data", "prepare", "medvqa-gi-2024", "nowhere", "out"], "nowhere"),
        (["study", "run", "nowhere.yaml"], "nowhere.yaml"),
        (["study", "show", "nowhere"], "nowhere"),
        (["generate", "nowhere", "a polyp", "--out", "out"], "nowhere"),
        (["train", "sd", "--data", "nowhere", "--out", "out"], "nowhere"),
        (["train", "sd", "--data", ".", "--out", "out", "--recipe", "no-such"], "no-such"),
        (["train", "clip", "--data", "nowhere", "--out", "out"], "nowhere"),
        (["train", "judge", "--data", "nowhere", "--out", "out"], "nowhere"),
        (["train", "judge", "--data", ".", "--out", "out", "--recipe", "tiny-clip"], "promptopt train clip"),
        (["train", "clip", "--data", ".", "--out", "out", "--set", "stepz=1"], "stepz"),
        (["train", "clip", "--data", ".", "--out", "out", "--recipe", "judge"], "promptopt train judge"),
    ],
)
def test_what_is_missing_is_named(command, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*command)
    assert result.exit_code == 2, result.output
    assert named in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_data_check_counts(dataset):
    result = run("data", "check", dataset)
    assert result.exit_code == 0, result.output
    assert "No faults found." in result.output
    assert "polyp 4" in result.output
    assert "north 8" in result.output


def test_data_check_finds_a_truncated_picture(dataset):
    file = dataset / "images" / "3.png"
    file.write_bytes(file.read_bytes()[:60])
    result = run("data", "check", dataset)
    assert result.exit_code == 2
    assert "3.png" in result.stderr


def test_data_sheet_shows_every_category(dataset, tmp_path):
    out = tmp_path / "new" / "sheet.png"
    result = run("data", "sheet", dataset, out, "--per-category", 3, "--tile", 40)
    assert result.exit_code == 0, result.output
    with Image.open(out) as image:
        pixels = np.asarray(image.convert("RGB"))
    # grey values 20 * index: even indices are normal, odd ones polyps; 3 tiles of each, 40 wide
    shown = {int(v) for v in np.unique(pixels[..., 0]) if (pixels[..., 0] == v).sum() > 40 * 20} - {255}
    assert len({v for v in shown if v % 40 == 0}) == 3
    assert len({v for v in shown if v % 40 == 20}) == 3
    assert list(out.parent.iterdir()) == [out]


def test_data_sheet_refuses_an_unknown_pool(dataset, tmp_path):
    result = run("data", "sheet", dataset, tmp_path / "s.png", "--pool", "train")
    assert result.exit_code == 2
    assert "'train'" in result.stderr


def test_data_prepare_phantom(tmp_path):
    result = run("data", "prepare", "phantom", tmp_path / "phantom", "--images", 12, "--size", 32)
    assert result.exit_code == 0, result.output
    assert len((tmp_path / "phantom" / "metadata.jsonl").read_text().splitlines()) == 12
    assert run("data", "check", tmp_path / "phantom").exit_code == 0


def test_schema_is_json():
    schema = json.loads(run("study", "schema").output)
    assert schema["additionalProperties"] is False
    assert "search" in schema["properties"]


def test_output_into_a_closed_pipe_is_no_error(tmp_path):
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    command = f"{sys.executable} -m promptopt.cli.main template sample '{{a|b}} c' -n 20000 | head -1"
    result = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert result.stdout.strip() in ("a c", "b c")
    assert result.stderr == ""


def test_data_prepare_the_challenge_layout(tmp_path):
    source = tmp_path / "source"
    (source / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = ["Prompt;Filename"]
    for index in range(12):
        pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        name = f"picture{index}.jpg"
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(source / "images" / name)
        lines.append(f"Generate an image containing a polyp.;{name}")
    lines.append("Generate an image containing a polyp.;gone.jpg")
    (source / "prompt-gt.csv").write_text("\n".join(lines) + "\n")
    result = run("data", "prepare", "medvqa-gi-2024", source, tmp_path / "out", "--center", "north")
    assert result.exit_code == 0, result.output
    rows = {
        line.strip("│ ").rsplit("│", 1)[0].strip(): line for line in result.output.splitlines() if "│" in line
    }
    assert "12" in rows["images"]
    assert "1" in rows["left out: captions' files that do not exist"]
    assert "12" in rows["center: north"]
    assert run("data", "check", tmp_path / "out").exit_code == 0
    (source / "prompt-gt.csv").write_text("\n".join(lines).replace(";", ",") + "\n")
    wrong = run("data", "prepare", "medvqa-gi-2024", source, tmp_path / "again")
    assert wrong.exit_code == 2
    assert "prompt-gt.csv" in wrong.stderr


def test_generate_goes_through_the_store(tmp_path):
    from tests.generators.micro import build_micro_pipeline

    model = build_micro_pipeline(tmp_path / "model")
    out = tmp_path / "out"
    first = run("generate", model, "a polyp", "--out", out, "--count", 2, "--steps", 2, "--seed", 5)
    assert first.exit_code == 0, first.output
    assert "2 generated, 0 from the store" in first.stdout
    assert "seed 5: " in first.stdout
    assert "seed 6: " in first.stdout
    more = run("generate", model, "a polyp", "--out", out, "--count", 3, "--steps", 2, "--seed", 5)
    assert "1 generated, 2 from the store" in more.stdout
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width > 3 * 128
    too_long = run("generate", model, "x" * 500, "--out", tmp_path / "never")
    assert too_long.exit_code == 2
    assert "limit of 77" in too_long.stderr
    assert not (tmp_path / "never").exists()


@pytest.mark.slow
def test_adapters_are_trained_judged_and_drawn_with(tmp_path):
    data, base = tmp_path / "data", str(build_micro_pipeline(tmp_path / "base"))
    assert run("data", "prepare", "phantom", data, "--images", 60, "--size", 32).exit_code == 0
    changes = [
        *(
            "size=32",
            "tracker=none",
            "training.steps=2",
            "training.batch_size=4",
            "training.precision=float32",
        ),
        *("dreambooth.per=category", "dreambooth.class_images=2", "dreambooth.class_steps=1"),
        *(
            "validation.every=2",
            "validation.images=4",
            "validation.steps=1",
            "training.gradient_accumulation=1",
        ),
    ]
    sets = [part for change in changes for part in ("--set", change)]
    command = ("train", "dreambooth-lora", "--init", base, "--data", data, "--store", tmp_path / "store")
    result = run(*command, "--out", tmp_path / "out", *sets)
    assert result.exit_code == 0, result.output
    adapter = tmp_path / "out" / "lora"
    assert f"{base}+lora:{adapter}" in result.stdout.replace("\n", "")
    events = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    judged = next(event for event in events if event["event"] == "validation")
    assert {"mmd", "frechet", "clip_score", "memorization"} <= judged.keys()
    drawn = run("generate", f"{base}+lora:{adapter}@0.5", "a polyp", "--out", tmp_path / "g", "--count", 1)
    assert drawn.exit_code == 0, drawn.output
    refused = run("train", "dreambooth-lora", "--init", base, "--data", data, "--out", tmp_path / "o",
                  "--set", "lora=null")  # fmt: skip
    assert refused.exit_code == 2
    assert "lora: is missing" in refused.stderr


def test_train_judge_from_a_recipe_with_changes(tmp_path):
    assert run("data", "prepare", "phantom", tmp_path / "data", "--images", 60, "--size", 32).exit_code == 0
    changes = ("steps=2", "batch_size=4", "image_size=32", "widths=[4,4,4,4]", "hidden=8")
    arguments = [part for change in changes for part in ("--set", change)]
    result = run("train", "judge", "--data", tmp_path / "data", "--out", tmp_path / "judge", *arguments)
    assert result.exit_code == 0, result.output
    from evaluation.classifier.judge import load_judge

    reading = load_judge(tmp_path / "judge").read([Image.new("RGB", (32, 32))])
    assert reading.category_probabilities.sum() == pytest.approx(1)
    tiny = torch.tensor([1e-40])
    assert (tiny * 1).item() > 0, "training must leave the process's denormal numbers as they were"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--recipe", "clip-finetune"], "give the encoder to start from"),
        (["--init", "no-such-folder"], "no-such-folder"),
        (["--tokenizer", "no-tokenizer"], "no-tokenizer"),
    ],
)
def test_train_clip_says_what_it_cannot_start_from(options, said, tmp_path):
    assert run("data", "prepare", "phantom", tmp_path / "data", "--images", 60, "--size", 32).exit_code == 0
    result = run("train", "clip", "--data", tmp_path / "data", "--out", tmp_path / "clip", *options)
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert "Traceback" not in result.stderr
