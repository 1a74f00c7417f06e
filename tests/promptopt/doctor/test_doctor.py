"""doctor: what is broken is named with a remedy."""

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from promptopt.cli.main import main
from promptopt.doctor import checks, embedded, machine
from promptopt.doctor.checks import examine
from promptopt.doctor.weights import WeightsError, describe_folder, hub_cache, safetensors_parameters


def test_the_embedded_weights_are_those_that_were_shipped():
    assert embedded.faults() == []  # rebuilt weights need their new sha256 in promptopt/doctor/embedded.py
    shipped = {
        path.relative_to(embedded.ROOT).as_posix()
        for package in ("generators", "evaluation")
        for path in (embedded.ROOT / package / "embedded").rglob("*.safetensors")
    }
    assert set(embedded.WEIGHTS) == shipped


def test_a_damaged_a_missing_and_a_pointer_file_are_found(tmp_path):
    for package in ("generators", "evaluation"):
        shutil.copytree(embedded.ROOT / package / "embedded", tmp_path / package / "embedded")
    damaged, missing, pointer = list(embedded.WEIGHTS)[:3]
    content = bytearray((tmp_path / damaged).read_bytes())
    content[-1] ^= 1
    (tmp_path / damaged).write_bytes(content)
    (tmp_path / missing).unlink()
    (tmp_path / pointer).write_text("version https://git-lfs.github.com/spec/v1\n")
    faults = embedded.faults(root=tmp_path)
    assert len(faults) == 3
    for name, word in ((damaged, "another content"), (missing, "No such file"), (pointer, "git-lfs")):
        assert any(fault.startswith(name) and word in fault for fault in faults)


def test_headers_of_weights_are_read_and_cut_files_found(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": np.zeros((3, 4), np.float32), "b": np.zeros(5, np.float16)}, path)
    assert safetensors_parameters(path) == 17
    assert "0.0 M parameters" in describe_folder(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(WeightsError, match="cut short, 4 of"):
        describe_folder(tmp_path)
    for content in (b"", b"<html>not found</html>", struct.pack("<Q", 10) + b"not json!!"):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="not a safetensors file"):
            safetensors_parameters(path)
    path.unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(WeightsError, match="a pickle"):
        describe_folder(tmp_path)
    with pytest.raises(WeightsError, match="no such folder"):
        describe_folder(tmp_path / "nowhere")


def test_a_pipeline_that_lacks_a_part_is_named(tmp_path):
    folder = Path(shutil.copytree(embedded.ROOT / "generators" / "embedded" / "sd", tmp_path / "sd"))
    assert "StableDiffusionPipeline, 6.8 M parameters" in describe_folder(folder)
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(WeightsError, match="vae"):
        describe_folder(folder)


def test_the_hub_cache_is_listed_with_broken_off_downloads(tmp_path, monkeypatch):
    from huggingface_hub import constants

    repo = tmp_path / "models--owner--name"
    commit = "a" * 40
    for folder in ("blobs", f"snapshots/{commit}", "refs"):
        (repo / folder).mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    (repo / "blobs" / "b1").write_bytes(b"x" * 1000)
    (repo / "blobs" / "b2.incomplete").write_bytes(b"x")
    (repo / "snapshots" / commit / "model.safetensors").symlink_to("../../blobs/b1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    _, cached = hub_cache()
    assert [(row.name, row.size, row.incomplete) for row in cached] == [("owner/name", 1000, 1)]
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "nowhere"))
    assert hub_cache()[1] == []


def test_a_missing_package_a_full_disk_and_a_broken_network_are_named(monkeypatch, tmp_path):
    def version(name):
        return None if name == "peft" else "0.1" if name == "diffusers" else "99.0"

    monkeypatch.setattr(checks, "_version", version)
    monkeypatch.setattr(checks, "_declared", lambda: {"diffusers": ">=0.36"})
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(1e12, 1e12, 1e6))

    def broken():
        raise RuntimeError("no kernel image\nand more")

    monkeypatch.setattr(checks.machine, "gpus", broken)
    report = examine(folder=tmp_path / "not" / "yet", given=[tmp_path / "nowhere"], load=False)
    assert not report.ok
    found = {check.name: check for check in report.checks if check.status == "broken"}
    assert found["peft"].remedy == "pip install 'peft'"
    assert found["diffusers"].remedy == "pip install 'diffusers>=0.36'"
    assert found[str(tmp_path)].text.startswith("1.0 MB free, about 2 images")
    assert found["torch's devices"].text == "RuntimeError: no kernel image"
    assert found[str(tmp_path / "nowhere")].text == "no such folder or safetensors file"
    assert set(found) == {"peft", "diffusers", str(tmp_path), "torch's devices", str(tmp_path / "nowhere")}
    assert all(check.remedy for check in found.values())


@pytest.mark.slow
def test_the_command_prints_json_and_exits_by_what_is_broken(monkeypatch, tmp_path):
    whole = CliRunner().invoke(main, ["doctor", "--json"])
    content = json.loads(whole.stdout)
    assert whole.exit_code == (0 if content["ok"] else 1)
    names = {check["name"]: check["status"] for check in content["checks"]}
    assert names["embedded generator"] == names["embedded CLIP"] == names["embedded judge"] == "ok"
    shown = CliRunner().invoke(main, ["doctor", "--weights", str(tmp_path / "nowhere")])
    assert shown.exit_code == 1
    assert "BAD" in shown.stdout
    assert "-> Check the path." in shown.stdout


def test_a_gpu_is_named_with_what_is_free_and_its_absence_is_a_note(monkeypatch, tmp_path):
    monkeypatch.setattr(checks.machine, "gpus", lambda: [machine.Gpu("cuda:0 A100", 24e9, 100.0)])
    found = {check.name: check for check in examine(folder=tmp_path, load=False).checks}
    assert found["GPU"].text == "cuda:0 A100: 24.0 GB free, 100 TFLOP/s float16"
    monkeypatch.setattr(checks.machine, "gpus", list)
    found = {check.name: check for check in examine(folder=tmp_path, load=False).checks}
    assert found["GPU"].status == "note"
    assert "CUDA" in found["GPU"].remedy
