"""Against the organizers' own `medvqa` package, as far as it goes without a network.

Its command line, template, validation, submission, patch for the final evaluation and the function by which
its server takes a file run as they are. Stubs are what asks the hub, the downloads of prompts, `datasets` and
the way to the server (`organizers.Machine`); BiomedCLIP is a tiny ViT of random weights.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfApi

from promptopt.challenge.check.run import check_submission
from promptopt.challenge.submission.gi2025 import SAMPLE, write_gi2025
from promptopt.challenge.submission.team import read_team
from promptopt.challenge.submission.template import installed, read_template, split
from promptopt.run.finished import read_runs
from tests.promptopt.challenge.organizers import INFO, Machine, read_json
from tests.promptopt.export.runs import write_run

pytestmark = pytest.mark.skipif(
    installed() is None,
    reason="the organizers' package is not installed (pip install medvqa), so there is no template to test",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A submission from the package's own template."""
    (tmp_path / "info.yaml").write_text(INFO)
    write_gi2025(
        read_runs([write_run(tmp_path, stored=False)]),
        tmp_path / "out",
        template=None,
        repository="me/model",
        team=read_team(tmp_path / "info.yaml"),
    )
    return tmp_path / "out"


def test_the_template_is_filled_and_nothing_else_of_it_changes(folder: Path) -> None:
    template, script = read_template(None), split((folder / "submission_task2.py").read_bytes(), "script")
    place = installed()
    assert place is not None
    first, second = template.sections
    assert template.fixed[0] + first + template.fixed[1] + second + template.fixed[2] == place.read_bytes()
    assert script.fixed == template.fixed
    assert script.info() == yaml.safe_load(INFO)
    assert list(script.info()) == list(template.info()) == list(SAMPLE)
    findings = check_submission(folder)
    assert findings.errors == 0, [str(finding) for finding in findings]
    assert "could not be compared" not in "".join(map(str, findings))


def test_the_script_of_another_task_is_refused() -> None:
    place = installed()
    assert place is not None
    other = place.with_name("submission_task1.py")
    with pytest.raises(ValueError, match=r"give submission_task2\.py of gi-2025"):
        split(other.read_bytes(), other)


@pytest.mark.slow
def test_what_is_submitted_is_taken_by_the_organizers_server(folder: Path, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    machine.upload(folder, "me/model")
    machine.upload_encoder("ikim-uk-essen/BiomedCLIP_ViT_patch16_224")
    if hasattr(HfApi, "update_repo_visibility"):
        words = ["-c", "from medvqa.cli import main; main()", "validate_and_submit", "--competition=gi-2025"]
        done = machine.python(*words, "--task=2", "--repo_id=me/model", cwd=tmp_path)
    else:  # theirs would end in an AttributeError; the folder's README.md names this command
        command = "promptopt.challenge.submission.organizers_command"
        assert f"python -m {command} --repo_id=me/model" in (folder / "README.md").read_text()
        done = machine.python("-m", command, "--repo_id=me/model", cwd=tmp_path)
    said = done.stdout + done.stderr
    assert "submission script ran successfully" in done.stdout, said
    assert "Submissions registered successfully" in done.stdout, said
    assert done.returncode == 0, said
    (file,) = machine.received
    assert re.fullmatch(r"tester-_-_-\d+-_-_-task2\.json", file.name)
    taken = read_json(file)
    assert taken["repo_id"] == "me/model"
    assert taken["submission_info"] == yaml.safe_load(INFO)
    settings = [keywords for name, _, keywords in machine.hub_calls if name == "update_repo_settings"]
    assert {"private": False} in settings
    assert {"gated": "manual"} in settings
    assert {words[0] for name, words, _ in machine.hub_calls} == {"me/model"}
    assert sum(name == "grant_access" for name, _, _ in machine.hub_calls) == 3


@pytest.mark.slow
@pytest.mark.parametrize("command", ["validate", "challenge_evaluate"])
def test_its_command_line_runs_the_submission(folder: Path, tmp_path: Path, command: str) -> None:
    machine = Machine(tmp_path / "machine")
    snapshot = machine.upload(folder, "me/model")
    machine.upload_encoder("ikim-uk-essen/BiomedCLIP_ViT_patch16_224")
    words = ["-c", "from medvqa.cli import main; main()", command]
    done = machine.python(*words, "--competition=gi-2025", "--task=2", "--repo_id=me/model", cwd=tmp_path)
    said = done.stdout + done.stderr
    assert "submission script ran successfully" in done.stdout, said
    found = read_json(snapshot / "predictions_2.json")
    assert found["submission_info"] == yaml.safe_load(INFO)
    scores = found["public_scores"]
    assert isinstance(scores, dict)
    assert set(scores) == {"fidelity", "agreement", "diversity", "FBD"}
    features = json.loads(str(found["predictions"]))
    assert [len(rows) for rows in features.values()] == [10, 10]
    (images,) = snapshot.glob("generated_images_*")
    assert len(list(images.glob("prompt000[12]_img00*.png"))) == 20
    if command == "challenge_evaluate":  # its patch left our sections alone
        (result,) = tmp_path.glob("task2_*.json")
        assert read_json(result)["submission_info"] == yaml.safe_load(INFO)
