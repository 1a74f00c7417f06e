"""Sets and runs to a hub client that only takes notes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from generators import GeneratorError
from generators.png import write_png
from promptopt.augmentation.push import push_data
from promptopt.augmentation.setfolder import write_checksums
from promptopt.augmentation.sources import AugmentationError
from promptopt.augmentation.writers import Piece, texts
from promptopt.base.files import file_digest
from promptopt.cli.main import main
from promptopt.study.sets.run import SetResult
from tests.promptopt.fakes import SquareGenerator
from tests.promptopt.small_run import SmallRun


class Hub:
    """Stands for `huggingface_hub.HfApi`."""

    def __init__(self) -> None:
        self.sent: dict[str, Any] = {}
        self.kinds: set[str] = set()

    def __call__(self) -> Hub:
        return self

    def create_repo(self, repository: str, **settings: Any) -> None:
        self.kinds.add(settings["repo_type"])
        self.sent["private"] = settings["private"]

    def repo_info(self, repository: str, *, repo_type: str) -> SimpleNamespace:
        return SimpleNamespace(private=True)

    def upload_file(self, *, path_or_fileobj: bytes, path_in_repo: str, repo_type: str, **_: Any) -> None:
        self.sent[path_in_repo] = path_or_fileobj.decode("utf-8")

    def upload_folder(self, *, allow_patterns: list[str], repo_type: str, **_: Any) -> SimpleNamespace:
        self.sent["files"] = allow_patterns
        return SimpleNamespace(commit_url="https://hub/commit/1")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    client = Hub()
    monkeypatch.setattr("huggingface_hub.HfApi", client)
    return client


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A set of one class as `promptopt augment` leaves it."""
    folder = tmp_path / "set"
    (folder / "polyp").mkdir(parents=True)
    request = SquareGenerator().request("a red square", 1)
    picture = next(iter(SquareGenerator().generate([request])))
    name = "polyp/polyp-000001.png"
    (folder / name).write_bytes(write_png(picture, texts(request, {"synthetic": True})))
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": name}) + "\n")
    piece = Piece(name, 0, (folder / name).stat().st_size, file_digest(folder / name))
    seal = write_checksums(folder, [piece], shards=False)
    document = {
        "format": "promptopt-augmentation",
        "classes": [{"label": "polyp", "kept": 1}],
        "settings": {"format": "imagefolder"},
        "checksums": seal,
    }
    (folder / "augmentation.json").write_text(json.dumps(document))
    return folder


def test_a_set_goes_with_its_lists_and_a_card(images: Path, hub: Hub) -> None:
    (images / "patient.png").write_bytes(b"x")  # of other origin
    pushed = push_data(images, "owner/set")
    assert hub.kinds == {"dataset"}
    assert hub.sent["private"] is True
    assert sorted(hub.sent["files"]) == sorted(
        ["polyp/polyp-000001.png", "metadata.jsonl", "augmentation.json", "checksums.sha256"]
    )
    assert sorted(pushed.files) == sorted(hub.sent["files"])
    card = hub.sent["README.md"]
    assert card.startswith("---\n")
    assert "| polyp | 1 |" in card
    assert "- synthetic" in card


def test_an_image_that_is_not_marked_or_was_changed_stays(images: Path, hub: Hub) -> None:
    name = "polyp/polyp-000001.png"
    Image.new("RGB", (8, 8)).save(images / name)
    with pytest.raises(AugmentationError, match="not as it was written"):
        push_data(images, "owner/set")
    piece = Piece(name, 0, (images / name).stat().st_size, file_digest(images / name))
    summary = json.loads((images / "augmentation.json").read_text())
    summary["checksums"] = write_checksums(images, [piece], shards=False)
    (images / "augmentation.json").write_text(json.dumps(summary))
    with pytest.raises(AugmentationError, match="not marked as synthetic"):
        push_data(images, "owner/set")
    assert hub.sent == {}


@pytest.mark.slow
def test_a_run_goes_without_report_and_study_file(shared_sets: SetResult, hub: Hub) -> None:
    done = CliRunner().invoke(main, ["push", str(shared_sets.folder), "owner/run"])
    assert done.exit_code == 0, done.output
    assert "prompts.json" in hub.sent["files"]
    assert not [name for name in hub.sent["files"] if not name.endswith((".json", ".csv"))]
    assert not {"settings.json", "pictures.json"} & set(hub.sent["files"])
    for entry in shared_sets.sets.classes:
        for one in entry.set.prompts:
            assert one.prompt in hub.sent["README.md"]


@pytest.mark.slow
def test_a_run_of_single_prompts_and_a_wrong_name(shared_run: SmallRun, hub: Hub) -> None:
    push_data(shared_run.folder, "owner/run")
    assert "| rank | prompt |" in hub.sent["README.md"]
    with pytest.raises(GeneratorError, match="owner/name"):
        push_data(shared_run.folder, "run")
