"""`promptopt export submission --edition gi-2025`, with a script of the organizers' shape."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from generators.loading import EMBEDDED
from promptopt.challenge.submission.details import read_details
from promptopt.challenge.submission.script import REWRITTEN, literal
from promptopt.challenge.submission.template import split
from promptopt.cli.main import main
from promptopt.run.errors import ExportError
from promptopt.run.prompts import Network
from tests.promptopt.challenge.organizers import INFO, PROMPTS, TEMPLATE, Machine, pixels, read_json
from tests.promptopt.export.runs import SETTINGS, prompt_list, write_run


def call(command: str, *words: object) -> tuple[int, str]:
    """Exit code, and what was said on one line."""
    done = CliRunner().invoke(main, ["export", command, *map(str, words)])
    return done.exit_code, " ".join(done.output.split())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """With a run, the template and the info."""
    write_run(tmp_path, stored=False)
    (tmp_path / "template.py").write_bytes(TEMPLATE.encode())
    (tmp_path / "info.yaml").write_text(INFO)
    return tmp_path


def submit(place: Path, *words: object) -> tuple[int, str]:
    """With the usual options."""
    common = ["--edition", "gi-2025", "--out", place / "out", "--template", place / "template.py"]
    common += ["--info", place / "info.yaml"]
    return call("submission", place / "runs" / "polyps-study", *common, *words)


def check(place: Path) -> tuple[int, str]:
    """Against the template."""
    return call("check", place / "out", "--template", place / "template.py", "--write-checksums")


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_only_the_two_sections_change(place: Path, ends: bytes) -> None:
    original = TEMPLATE.encode().replace(b"\n", ends)
    (place / "template.py").write_bytes(original)
    code, said = submit(place, "--repo", "me/model")
    assert code == 0, said
    script = (place / "out" / "submission_task2.py").read_bytes()
    old, new = original.split(ends), script.split(ends)
    marks = [b"EDIT SECTION 1", b"END WHO", b"EDIT SECTION 2", b"END DRAW"]

    def at(lines: list[bytes]) -> list[int]:
        return [next(i for i, line in enumerate(lines) if mark in line) for mark in marks]

    (a, b, c, d), (e, f, g, h) = at(old), at(new)
    assert new[: e + 1] == old[: a + 1]
    assert new[f : g + 1] == old[b : c + 1]
    assert new[h:] == old[d:]
    assert script.count(b"\r") == (script.count(b"\n") if ends == b"\r\n" else 0)
    info = split(script, "script").info()
    assert info == yaml.safe_load(INFO)
    assert list(info) == list(split(original, "template").info())
    assert check(place)[0] == 0
    assert read_details(place / "out").model.uri == "."  # type: ignore[union-attr]
    packages = (place / "out" / "requirements.txt").read_text().split()
    assert "diffusers>=0.36" in packages


def test_the_packages_are_those_that_the_project_needs(place: Path) -> None:
    import tomllib

    own = tomllib.loads(Path("pyproject.toml").read_text())["project"]["dependencies"]
    from promptopt.challenge.submission.script import MORE, PACKAGES, PEFT

    assert {package for package in (*PACKAGES, *MORE, PEFT) if ">=" in package} <= set(own)


def _with_adapter(place: Path) -> str:
    """A run of the embedded model with a random adapter at half scale; returns the generator's address."""
    from diffusers import UNet2DConditionModel
    from peft import LoraConfig

    from generators.adapters.lora import LoraAddress, find_adapter
    from generators.adapters.lora import fingerprint as with_adapters
    from generators.folder import fingerprint
    from generators.training.lora_export import save_lora

    unet = UNet2DConditionModel.from_pretrained(EMBEDDED / "unet")
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    save_lora(place / "lora", unet=unet, card="# An adapter\n")
    uri = f"embedded+lora:{place / 'lora'}@0.5"
    found = with_adapters(fingerprint(EMBEDDED), [find_adapter(LoraAddress(str(place / "lora"), 0.5))])
    shutil.rmtree(place / "runs")
    write_run(place, stored=False, generator=Network(uri=uri, fingerprint=found))
    return uri


@pytest.mark.slow
def test_the_script_draws_what_synthesize_draws(place: Path) -> None:
    uri = _with_adapter(place)
    code, said = submit(place, "--repo", "me/model", "--seed", 3, "--batch-size", 4)
    assert code == 0, said
    assert read_details(place / "out").model.uri == ".+lora:lora-1@0.5"  # type: ignore[union-attr]
    assert "peft>=" in (place / "out" / "requirements.txt").read_text()
    assert check(place)[0] == 0
    machine = Machine(place / "machine")
    snapshot = machine.upload(place / "out", "me/model")
    done = machine.python("submission_task2.py", cwd=snapshot)
    assert done.returncode == 0, done.stderr
    assert read_json(snapshot / "predictions_2.json") == yaml.safe_load(INFO)
    (place / "p.txt").write_text("\n".join(PROMPTS))
    words = ["synthesize", "--prompts", place / "p.txt", "--generator", uri, "--out", place / "made"]
    words += ["--edition", "gi-2025", "--seed", 3, "--steps", SETTINGS["steps"], "--guidance", 3.0]
    assert CliRunner().invoke(main, [*map(str, words), "--scheduler", "dpmpp_2m"]).exit_code == 0
    made = sorted((place / "made" / "images").iterdir())
    drawn = sorted((snapshot / "generated").iterdir())
    assert [path.name for path in drawn] == [path.name for path in made]
    assert len(made) == 20
    for one, other in zip(drawn, made, strict=True):
        # diffusers' own pipeline in other batches, the adapter beside the weights: one level of rounding
        gap = np.asarray(pixels(one)).astype(int) - np.asarray(pixels(other)).astype(int)
        assert np.abs(gap).max() <= 1
    assert call("check", place / "made", "--edition", "gi-2025")[0] == 0
    for one, other in zip(drawn, made, strict=True):
        other.unlink()
        shutil.copy(one, other)
    assert "does not say that it is synthetic" not in call("check", place / "made")[1]


def test_a_reference_needs_no_repository_of_its_own(place: Path) -> None:
    assert submit(place, "--generator", "hf:me/base@abc+lora:hf:me/lora/sub/w.safetensors@2")[0] == 0
    assert not list((place / "out").rglob("*.safetensors"))
    script = (place / "out" / "submission_task2.py").read_text()
    assert "from_pretrained('me/base', revision='abc', use_safetensors=True, " in script
    assert "load_lora_weights('me/lora', subfolder='sub', weight_name='w.safetensors'" in script
    assert "set_adapters(['lora_1'], [2.0])" in script
    assert check(place)[0] == 0


def test_settings_that_the_study_varied_are_those_of_its_main_prompt(place: Path) -> None:
    entries = prompt_list().prompts
    entries[0] = entries[0].model_copy(
        update={"generation_parameters": {"guidance": 5.5}, "negative_prompt": "a 'blur'"}
    )
    entries[1] = entries[1].model_copy(update={"generation_parameters": {"guidance": 2.0}})
    shutil.rmtree(place / "runs")
    write_run(place, stored=False, prompts=entries)
    assert submit(place, "--repo", "me/model")[0] == 0
    script = (place / "out" / "submission_task2.py").read_text()
    assert "guidance_scale=5.5" in script
    assert "- Guidance: 5.5\n" in (place / "out" / "README.md").read_text()
    assert "negative_prompt=[\"a 'blur'\"]" in script


def test_what_does_not_fit_is_refused_and_nothing_is_left(place: Path) -> None:
    def said(*words: object) -> str:
        code, text = submit(place, *words)
        assert code == 2
        assert not (place / "out").exists()
        return text

    assert "--repo is missing" in said()
    assert "write owner/name" in said("--repo", "model")
    for text, problem in (
        ("Team_Name: x\n", "Participant_Names is missing or empty"),
        (INFO.replace("a.person@example.org", "nobody"), "Contact_emails: 'nobody' is no address"),
        (INFO.replace("[a.person@example.org]", "a.person@example.org"), "Contact_emails must be a list"),
        (INFO + "Shoe_size: '43'\n", "Shoe_size is unknown"),
        (INFO.replace("Team's \\name", "Sample team"), "Team_Name is still the organizers' example"),
    ):
        (place / "info.yaml").write_text(text)
        assert problem in said("--repo", "me/model")
    (place / "info.yaml").write_text(INFO)
    for old, new, problem in (
        ("EDIT SECTION 2", "EDIT HERE", "has 1 markers"),
        ("END WHO", "STOP", "1 that end one"),
        ("num_per_prompt", "n", "does not define num_per_prompt"),
        ("SUBMISSION_INFO = {", "INFO = {", "SUBMISSION_INFO is missing"),
    ):
        (place / "template.py").write_text(TEMPLATE.replace(old, new))
        assert problem in said("--repo", "me/model")
    swapped = TEMPLATE.replace("SECTION 1", "SECTION 0").replace("SECTION 2", "SECTION 1")
    (place / "template.py").write_text(swapped.replace("SECTION 0", "SECTION 2"))
    assert "not in order" in said("--repo", "me/model")
    (place / "template.py").unlink()
    assert "cannot be read" in said("--repo", "me/model")
    (place / "template.py").write_text(TEMPLATE)
    other = write_run(place, "landmarks", stored=False, settings={"generator": SETTINGS | {"steps": 9}})
    assert "differ in steps" in said("--repo", "me/model", other)
    cut = write_run(place, "instruments", stored=False, settings={})
    assert "does not say negative_prompt" in said("--repo", "me/model", cut)


def _script(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "submission_task2.py"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "file", "problem"),
    [
        (_script("# not to be changed", "# changed"), "submission_task2.py", "first at '# changed'"),
        (_script("import torch\n", ""), "submission_task2.py", "outside of the two sections"),
        (_script("SECTION 2", "PART 2"), "submission_task2.py", "1 markers"),
        (_script("SUBMISSION_INFO = {", "SUBMISSION_INFO = {{"), "submission_task2.py", "is no Python"),
        (_script("'Country': 'Norway',", ""), "submission_task2.py", "SUBMISSION_INFO: Country is missing"),
        (
            _script("import hashlib", 'import hashlib\nsplit = "validation"'),
            "submission_task2.py, section 1",
            "replaces or removes",
        ),
        (_script("label = ", "jsons__ = 1\nlabel = "), "submission_task2.py, section 2", "'jsons__'"),
        (lambda f: (f / "submission_task2.py").unlink(), "submission_task2.py", "is missing"),
        (lambda f: (f / "requirements.txt").unlink(), "requirements.txt", "is missing"),
        (
            lambda f: (f / "requirements.txt").write_text("torch\n./local\n"),
            "requirements.txt, line 2",
            "is no package",
        ),
        (lambda f: (f / "unet" / "config.json").write_text("{}"), "model_index.json", "another one"),
        (lambda f: (f / "vae" / "config.json").unlink(), "model_index.json", "is missing"),
        (lambda f: (f / "model.ckpt").touch(), "model.ckpt", "is a pickle"),
        (lambda f: (f / "README.md").write_text(""), "README.md", "is empty"),
    ],
)
def test_the_check_finds(place: Path, change: Callable[[Path], object], file: str, problem: str) -> None:
    assert submit(place, "--repo", "me/model")[0] == 0
    change(place / "out")
    done = CliRunner().invoke(
        main,
        [
            "export",
            "check",
            str(place / "out"),
            "--template",
            str(place / "template.py"),
            "--write-checksums",
        ],
    )
    lines = done.output.splitlines()
    assert done.exit_code == 1
    assert any(line.startswith(f"Error: {file}: ") and problem in line for line in lines), lines


def test_without_the_organizers_script_the_check_says_so(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("promptopt.challenge.check.gi2025.installed", lambda: None)
    monkeypatch.setattr("promptopt.challenge.submission.template.installed", lambda: None)
    assert submit(place, "--repo", "me/model")[0] == 0
    code, said = call("check", place / "out")
    assert code == 0
    assert "could not be compared with the organizers' script" in said
    words = [place / "runs" / "polyps-study", "--edition", "gi-2025", "--out", place / "other"]
    code, said = call("submission", *words, "--info", place / "info.yaml", "--repo", "me/model")
    assert code == 2
    assert "pip install medvqa" in said


@given(st.one_of(st.text(), st.lists(st.text(), max_size=3), st.sampled_from(REWRITTEN)), st.text(max_size=5))
def test_a_literal_is_the_value_and_nothing_rewrites_it(value: object, more: str) -> None:
    text = literal(value if not isinstance(value, str) else f"{more}'{value}{more}")
    assert ast.literal_eval(text) == (value if not isinstance(value, str) else f"{more}'{value}{more}")
    assert not any(reserved in text for reserved in REWRITTEN)
    assert len(text.splitlines()) == 1


def test_a_script_that_is_no_template_is_named() -> None:
    with pytest.raises(ExportError, match="x: has 0 markers `EDIT SECTION` and 0 that end one"):
        split(b"print(1)\n", "x")
