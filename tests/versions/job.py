"""Training and a study with other versions of the libraries, from the command line.

Run by name alone, by `scripts/test --oldest` and `--newest`: the whole run has longer tests of the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file

from tests.versions import record

STUDY = Path(__file__).resolve().parents[2] / "studies" / "files" / "quickstart-polyps.yaml"


def test_two_steps_of_training_give_an_adapter_and_a_pipeline_that_load(tmp_path: Path) -> None:
    promptopt("data", "prepare", "phantom", "data", "--images", 30, "--size", 64, cwd=tmp_path)
    few = {"training.steps": 2, "training.batch_size": 4, "vae_training.steps": 0, "tracker": "none"}
    sets = [word for key, value in few.items() for word in ("--set", f"{key}={value}")]
    train = ("train", "sd", "--init", "embedded", "--data", "data", "--device", "cpu", *sets)
    promptopt(*train, "--out", "sd", "--set", "training.train_text_encoder=true", cwd=tmp_path)
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
