"""push_folder with a hub client that only takes notes; what must not leave the machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from typer.testing import CliRunner

from generators import GeneratorError
from generators.training.push import files_to_push, push_folder
from promptopt.cli.main import main


class Hub:
    """Stands for `huggingface_hub.HfApi`."""

    def __init__(self, *, public: bool = False, error: Exception | None = None) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.public, self.error = public, error

    def __call__(self) -> Hub:
        return self

    def create_repo(self, repository: str, **settings: Any) -> None:
        if self.error:
            raise self.error
        self.calls.append(("create_repo", {"repository": repository, **settings}))

    def create_branch(self, repository: str, **settings: Any) -> None:
        self.calls.append(("create_branch", {"repository": repository, **settings}))

    def repo_info(self, repository: str) -> SimpleNamespace:
        return SimpleNamespace(private=not self.public)

    def upload_folder(self, **settings: Any) -> SimpleNamespace:
        self.calls.append(("upload_folder", settings))
        return SimpleNamespace(commit_url="https://hub/owner/name/commit/1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "lora"
    (root / "unet").mkdir(parents=True)
    save_file({"x": np.zeros(4, np.float32)}, root / "unet" / "adapter_model.safetensors")
    (root / "unet" / "adapter_config.json").write_text("{}")
    (root / "README.md").write_text("# A card")
    return root


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    client = Hub()
    monkeypatch.setattr("huggingface_hub.HfApi", client)
    return client


def test_a_folder_goes_to_a_private_repository(folder: Path, hub: Hub) -> None:
    pushed = push_folder(folder, "owner/name")
    assert pushed.url == "https://hub/owner/name/commit/1"
    assert pushed.files == ("README.md", "unet/adapter_config.json", "unet/adapter_model.safetensors")
    assert pushed.size == sum(path.stat().st_size for path in folder.rglob("*.*"))
    (_, created), (_, uploaded) = hub.calls
    assert created == {"repository": "owner/name", "private": True, "exist_ok": True}
    assert uploaded["repo_id"] == "owner/name"
    assert uploaded["folder_path"] == folder
    assert uploaded["allow_patterns"] == list(pushed.files)


def test_a_branch_is_made_and_used(folder: Path, hub: Hub) -> None:
    push_folder(folder, "owner/name", revision="v2", private=False)
    names = [name for name, _ in hub.calls]
    assert names == ["create_repo", "create_branch", "upload_folder"]
    assert (hub.calls[1][1]["branch"], hub.calls[2][1]["revision"]) == ("v2", "v2")
    assert hub.calls[0][1]["private"] is False


def test_a_public_repository_is_not_taken_for_a_private_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(public=True)
    monkeypatch.setattr("huggingface_hub.HfApi", hub)
    with pytest.raises(GeneratorError, match=r"exists and is public.*private on the hub"):
        push_folder(folder, "owner/name")
    assert "upload_folder" not in [name for name, _ in hub.calls]
    push_folder(folder, "owner/name", private=False)
    assert hub.calls[-1][0] == "upload_folder"


def test_the_hubs_refusal_says_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi", Hub(error=RuntimeError("401 Unauthorized\nmore")))
    with pytest.raises(GeneratorError, match=r"refused \(401 Unauthorized\).*hf auth login"):
        push_folder(folder, "owner/name")


def _picture(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (4, 4)).save(path)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "card": (lambda f: (f / "README.md").unlink(), r"README\.md: the model card is missing"),
    "empty-card": (lambda f: (f / "README.md").write_text(" \n"), "missing or empty"),
    "image": (lambda f: _picture(f / "previews" / "step.PNG"), r"previews/step\.PNG are images"),
    "pickle": (lambda f: (f / "optimizer.pt").write_bytes(b"x"), r"optimizer\.pt are pickles"),
    "hidden-pickle": (lambda f: (f / ".old.bin").write_bytes(b"x"), r"\.old\.bin are pickles"),
    "data": (lambda f: (f / "metadata.jsonl").write_text("{}"), r"metadata\.jsonl are of no kind"),
    "archive": (lambda f: (f / "images.zip").write_bytes(b"PK"), "of no kind that a model needs"),
    "disguise": (lambda f: (f / "notes.txt").write_bytes(b"\x89PNG\r\n\x1a\n"), r"notes\.txt are no UTF-8"),
    "weights": (lambda f: (f / "x.safetensors").write_bytes(b"cos\n"), "no whole safetensors"),
    "link": (lambda f: (f / "data.json").symlink_to("/etc/hostname"), "lead out of the folder"),
    "nothing": (lambda f: (f / "unet" / "adapter_model.safetensors").unlink(), "nothing to push"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_an_unfit_folder_is_refused_before_anything_is_sent(folder: Path, hub: Hub, name: str) -> None:
    fault, said = FAULTS[name]
    fault(folder)
    with pytest.raises(GeneratorError, match=said):
        push_folder(folder, "owner/name", private=False)
    assert hub.calls == []


@pytest.mark.parametrize("name", ["name", "a/b/c", "../name", "owner/", "https://hub/owner/name"])
def test_a_wrong_name_is_refused(folder: Path, hub: Hub, name: str) -> None:
    with pytest.raises(GeneratorError, match="write owner/name"):
        push_folder(folder, name)
    assert hub.calls == []


def test_images_go_when_told(folder: Path) -> None:
    _picture(folder / "sheet.png")
    assert "sheet.png" in files_to_push(folder, images=True)


def test_names_that_look_like_patterns_are_taken_as_they_are(folder: Path, hub: Hub) -> None:
    (folder / "v[1].json").write_text("{}")
    push_folder(folder, "owner/name")
    from huggingface_hub.utils import filter_repo_objects

    patterns = hub.calls[-1][1]["allow_patterns"]
    assert "v[1].json" in list(filter_repo_objects(["v[1].json", "v1.json"], allow_patterns=patterns))


def test_the_command_lists_what_went(folder: Path, hub: Hub) -> None:
    result = CliRunner().invoke(main, ["push", str(folder), "owner/name", "--public"])
    assert result.exit_code == 0, result.output
    assert "unet/adapter_model.safetensors" in result.output
    assert "3 files, 0.0 MB, public: https://hub/owner/name/commit/1" in result.output
    assert hub.calls[0][1]["private"] is False
    (folder / "x.ckpt").write_bytes(b"x")
    refused = CliRunner().invoke(main, ["push", str(folder), "owner/name"])
    assert refused.exit_code == 2
    assert "x.ckpt" in refused.output
