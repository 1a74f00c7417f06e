"""The same results with every version of the libraries that pyproject.toml allows, to a stated tolerance.

`scripts/test --oldest` and `--newest` run these. The record is of the versions that it names; another torch
adds up in another order, so that a pixel may differ by a level or two of 255, a feature in its last digits.
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from tests.versions import record

LEVELS = 2  # of 255: the most that any channel of any pixel may differ
FEATURES = 2e-4  # the most that a feature may differ, of a length of about 10
STUDY = Path(__file__).resolve().parents[2] / "studies" / "files" / "quickstart-polyps.yaml"


@pytest.fixture(scope="module")
def recorded() -> Any:
    return json.loads(record.RECORDED.read_text(encoding="utf-8"))


def test_pictures_are_those_on_record(recorded: Any) -> None:
    fingerprint, images = record.pictures()
    assert fingerprint == recorded["generator"]
    for row, image in enumerate(images):
        kept = np.asarray(Image.open(record.picture(row)).convert("RGB"), dtype=int)
        assert np.abs(np.asarray(image, dtype=int) - kept).max() <= LEVELS, record.PROMPTS[row]
        assert kept.std() > 20  # a picture, not one gray


def test_features_and_the_judges_reading_are_those_on_record(recorded: Any) -> None:
    now = record.measures()
    assert now["fingerprints"] == recorded["fingerprints"]
    for name in ("image_features", "text_features", "judge_colors"):
        np.testing.assert_allclose(now[name], recorded[name], atol=FEATURES, err_msg=name)


def test_peft_reads_the_text_encoders_adapter_of_another_version(recorded: Any) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Found missing adapter keys")
        np.testing.assert_allclose(record.adapted_states(), recorded["adapted_states"], atol=1e-4)


def test_an_adapter_of_another_version_changes_the_pictures(recorded: Any) -> None:
    plain, whole = record.pictures()[1], record.pictures(f"embedded+lora:{record.ADAPTER}")[1]
    for one, other in zip(plain, whole, strict=True):
        assert np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max() > 20


def test_two_steps_of_training_give_an_adapter_and_a_pipeline_that_load(tmp_path: Path) -> None:
    promptopt("data", "prepare", "phantom", "data", "--images", 30, "--size", 64, cwd=tmp_path)
    few = {"training.steps": 2, "training.batch_size": 4, "vae_training.steps": 0, "tracker": "none"}
    sets = [word for key, value in few.items() for word in ("--set", f"{key}={value}")]
    train = ("train", "sd", "--init", "embedded", "--data", "data", "--device", "cpu", *sets)
    promptopt(*train, "--out", "sd", "--set", "training.train_text_encoder=true", cwd=tmp_path)
    names = load_file(tmp_path / "sd/pipeline/text_encoder/model.safetensors").keys()
    assert all(name.startswith("text_model.") for name in names)
    lora = ("--set", "lora.rank=2", "--set", "training.train_text_encoder=true")
    promptopt(*train, *lora, "--out", "lora", cwd=tmp_path)
    for uri in (tmp_path / "sd/pipeline", f"embedded+lora:{tmp_path / 'lora/lora'}"):
        assert len(record.pictures(str(uri))[1]) == len(record.PROMPTS)
    assert peft_reads(tmp_path / "lora/lora/text_encoder")


def peft_reads(folder: Path) -> bool:
    """Whether PEFT has every matrix from the file, none at random."""
    from peft import PeftModel
    from transformers import CLIPTextModel

    from generators.loading import EMBEDDED

    adapted = PeftModel.from_pretrained(CLIPTextModel.from_pretrained(EMBEDDED / "text_encoder"), str(folder))
    kept = load_file(folder / "adapter_model.safetensors")
    matrices = {n.replace(".default.", "."): w for n, w in adapted.named_parameters() if "lora_" in n}
    return bool(matrices) and all(
        torch.equal(kept[name], weight.float()) for name, weight in matrices.items()
    )


def test_a_study_from_its_file_to_its_report(tmp_path: Path) -> None:
    study = yaml.safe_load(STUDY.read_text(encoding="utf-8"))
    study["data"]["phantom"]["images"] = 120
    study["generator"]["steps"] = 2
    study |= {"search": {"trials": 2, "images": 4}, "confirm": {"top": 1, "images": 4}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    promptopt("study", "run", "study.yaml", cwd=tmp_path)
    result = json.loads((tmp_path / "runs" / study["name"] / "prompts.json").read_text(encoding="utf-8"))
    assert result["prompts"][0]["confirmation"]["score"]["n"] == 4
    assert (tmp_path / "runs" / study["name"] / "report.html").stat().st_size > 10_000


def promptopt(*arguments: object, cwd: Path) -> None:
    command = [sys.executable, "-m", "promptopt", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
