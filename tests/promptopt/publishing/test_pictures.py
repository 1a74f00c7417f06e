"""What a team's dashboard shows of the contact sheets, from a folder or an object store."""

import io
import json
import re
import shutil
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import numpy as np
import pytest
from PIL import Image

from promptopt.formatting.pictures import image_grid
from promptopt.publishing.pictures import FsspecArtifactStore, artifact_store
from promptopt.publishing.publisher import Publisher
from promptopt.publishing.target import PublishError, Target
from promptopt.run.prompt_sets import read_sets
from promptopt.run.trials import latest
from promptopt.study.run import show
from promptopt.study.sets.run import SetResult
from tests.promptopt.small_run import SmallRun

pytestmark = pytest.mark.slow


class Dashboard:
    """optuna-dashboard's pages, asked without a server."""

    def __init__(self, target: Target, place: str) -> None:
        dashboard = pytest.importorskip("optuna_dashboard")
        self._app: Any = dashboard.wsgi(target.address, artifact_store=artifact_store(place))

    def get(self, path: str) -> bytes:
        environ: dict[str, Any] = {"PATH_INFO": path}
        setup_testing_defaults(environ)
        answer: list[str] = []
        body = b"".join(self._app(environ, lambda status, *_: answer.append(status)))
        assert answer == ["200 OK"], (path, answer, body)
        return body

    def study(self, name: str) -> dict[str, Any]:
        studies = json.loads(self.get("/api/studies"))["study_summaries"]
        (number,) = (one["study_id"] for one in studies if one["study_name"] == name)
        return {"id": number, **json.loads(self.get(f"/api/studies/{number}"))}


def links(note: str) -> dict[str, str]:
    """Address -> what stands there of the prompt, and behind it."""
    found = re.findall(r"^- \[(.*)\]\((/artifacts/\S+)\), (.*)$", note, re.MULTILINE)
    return {address: f"{text} {said}".replace("\\", "") for text, address, said in found}


@pytest.mark.parametrize("place", ["{}/sheets", "file://{}/sheets", "memory://sheets-of-a-team"])
def test_the_dashboard_shows_every_prompts_images_and_the_note_links_to_the_best(
    place: str, shared_run: SmallRun, tmp_path: Path
) -> None:
    run, place = shared_run.copied(tmp_path), place.format(tmp_path)
    target = Target.parse(f"sqlite:///{tmp_path}/team.db")
    with Publisher(target, user="anna", artifacts=place, store=run.store) as publisher:
        publisher.update(run.folder)
    dashboard = Dashboard(target, place)
    shown = dashboard.study(f"anna/{run.folder.name}")
    rows = latest(show(run.folder).trials)
    for trial, row in zip(shown["trials"], rows, strict=True):
        assert {"key": "prompt", "value": row.candidate.label} in trial["user_attrs"]
        (artifact,) = trial["artifacts"]
        address = f"/artifacts/{shown['id']}/{trial['trial_id']}/{artifact['artifact_id']}"
        with Image.open(io.BytesIO(dashboard.get(address))) as picture:
            own = run.images.present(row.candidate, stage="search", count=min(row.images, 16))
            expected = image_grid([image.load() for image in own])
            assert np.array_equal(np.asarray(picture), np.asarray(expected))
    linked = links(shown["note"]["body"])
    assert all(dashboard.get(address).startswith(b"\x89PNG") for address in linked)
    best = sorted(rows, key=lambda row: -row.value)
    assert list(linked.values()) == [f"{row.candidate.label} {row.value:+.2f}" for row in best[:8]]
    with Publisher(target) as publisher:  # one without artifacts takes none of it away
        assert publisher.update(run.folder).changed == 0
    assert dashboard.study(f"anna/{run.folder.name}")["note"] == shown["note"]


def test_the_note_of_a_set_links_to_its_prompts_with_their_weights(
    shared_sets: SetResult, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(shared_sets.folder, tmp_path / "squares"))
    store, place = shared_sets.folder.parent.parent / "store", str(tmp_path / "sheets")
    target = Target.parse(f"sqlite:///{tmp_path}/team.db")
    with Publisher(target, user="anna", artifacts=place, store=store) as publisher:
        publisher.update(run)
    dashboard = Dashboard(target, place)
    for entry in read_sets(run / "prompts.json").classes:
        note = dashboard.study(f"anna/squares/{entry.label}")["note"]["body"]
        assert "Images of the set's prompts" in note
        linked = links(note)
        own = {f"{one.candidate.label} {one.weight:.0%}" for one in entry.set.prompts}
        assert linked
        assert set(linked.values()) <= own  # a set may name prompts that the search did not draw
        assert all(dashboard.get(address).startswith(b"\x89PNG") for address in linked)


def test_a_store_that_fails_is_named_and_no_trial_is_lost(
    shared_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shared_run.copied(tmp_path)
    target = Target.parse(f"sqlite:///{tmp_path}/team.db")

    def gone(*_: object) -> None:
        raise RuntimeError("the bucket is gone")

    with Publisher(target, user="anna", artifacts="memory://gone", store=run.store) as publisher:
        with monkeypatch.context() as patch:
            patch.setattr(FsspecArtifactStore, "write", gone)
            with pytest.raises(PublishError, match=r"--artifacts: .*the bucket is gone"):
                publisher.update(run.folder)
        assert publisher.update(run.folder).added == len(latest(show(run.folder).trials))
