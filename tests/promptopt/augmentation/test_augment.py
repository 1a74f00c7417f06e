"""Augmentation sets: shares, filters, provenance, resuming, bad input."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import promptopt.augmentation.run as run_module
import promptopt.augmentation.writers as writers
from evaluation.encoders.thumbnail import ThumbnailEncoder
from evaluation.metrics.duplicates import duplicates
from generators.request import ImageRequest
from promptopt.augmentation.filters import FILTERS
from promptopt.augmentation.opening import hand_classes, image_counts
from promptopt.augmentation.proof.sets import prompts_of
from promptopt.augmentation.results import AugmentationSet
from promptopt.augmentation.run import augment
from promptopt.augmentation.sources import AugmentationError, by_hand, check_classes, read_run
from promptopt.augmentation.writers import FolderWriter
from promptopt.run.errors import ExportError
from promptopt.space import Candidate
from studies.dataset import read_dataset
from tests.promptopt.augmentation.planted import (
    PORTFOLIO,
    SETTINGS,
    WildGenerator,
    content,
    pixels,
    planted,
    rows,
    write_run,
)
from tests.promptopt.fakes import ColorEncoder, SquareGenerator, write_squares


def make(folder: Path, out: Path, **changes: Any) -> AugmentationSet:
    sources, reference = planted(folder)
    generator = changes.pop("generator", None) or WildGenerator()
    settings = {"counts": {"red": 30, "other": 20}, "filters": FILTERS, **changes}
    return augment(sources, out, reference=reference, open_generator=lambda _: generator, **settings)


def test_shares_filters_and_provenance(tmp_path: Path) -> None:
    made = make(tmp_path, tmp_path / "set")
    assert made.images == 50
    assert made.short == 0
    listed = rows(tmp_path / "set")
    assert Counter(row["text"] for row in listed if row["category"] == "red") == {
        prompt: round(30 * weight) for prompt, weight in PORTFOLIO.items()
    }
    assert Counter(row["text"] for row in listed if row["category"] == "other") == {
        "a green square": 10,
        "a blue square": 10,
    }
    for row in listed:
        facts = row["attributes"]
        assert facts["synthetic"] is True
        assert row["center"] == "synthetic"
        assert facts["negative_prompt"] == "text"
        assert (facts["steps"], facts["guidance"]) == (4, 2.0)
        assert facts["scores"]["judge"] > 0
        with Image.open(tmp_path / "set" / row["file_name"]) as image:
            assert image.text["synthetic"] == "true"
            request = ImageRequest.from_json(image.text["request"])
            provenance = json.loads(image.text["provenance"])
        assert (request.prompt, request.seed) == (row["text"], facts["seed"])
        assert provenance == facts
        # what the provenance says makes the image again
        again = next(WildGenerator().generate([request]))
        assert np.array_equal(np.asarray(again), pixels(tmp_path / "set" / row["file_name"]))
    for one in made.classes:
        assert one.tried == one.kept + sum(one.removed.values())
    removed = Counter[str]()
    for one in made.classes:
        removed.update(one.removed)
    assert removed["black"] > 0
    assert removed["duplicates"] > 0


def test_nothing_in_the_set_is_black_or_near_another(tmp_path: Path) -> None:
    make(tmp_path, tmp_path / "set")
    data = read_dataset(tmp_path / "data")
    encoder = ThumbnailEncoder()
    for name, count in (("red", 30), ("other", 20)):
        files = [row["file_name"] for row in rows(tmp_path / "set") if row["category"] == name]
        images = [Image.open(tmp_path / "set" / file).convert("RGB") for file in files]
        assert all(np.asarray(image).max() > 3 for image in images)
        real = [Image.open(p).convert("RGB") for p in data.where(pool="reference", category=name).paths()]
        found = duplicates(encoder.encode_images(images), encoder.encode_images(real), quantile=0.01)
        assert len(images) == count
        # 16-bit features and the cap on the share of real pairs move the radius by a hair at most
        assert found.exact.value == 0
        assert found.radius is None or found.share.value <= 2 / count


def test_copies_of_training_images_are_refused(tmp_path: Path) -> None:
    sources, reference = planted(tmp_path)
    paths = reference.data.where(pool="reference", category="red").paths()

    class Copier(SquareGenerator):
        def generate(self, requests: Any) -> Any:
            for request in requests:
                if request.seed % 2 and "red" in request.prompt:
                    yield Image.open(paths[request.seed % len(paths)]).convert("RGB")
                else:
                    yield from super().generate([request])

    made = augment(
        sources,
        tmp_path / "set",
        counts={"red": 20, "other": 4},
        reference=reference,
        filters=("memorization",),
        open_generator=lambda _: Copier(),
    )
    known = {Image.open(path).convert("RGB").tobytes() for path in paths}
    assert made.classes[0].removed["memorization"] > 5
    for row in rows(tmp_path / "set"):
        assert pixels(tmp_path / "set" / row["file_name"]).tobytes() not in known


def test_the_judge_refuses_other_classes(tmp_path: Path) -> None:
    class Liar(SquareGenerator):
        def generate(self, requests: Any) -> Any:
            for request in requests:
                lie = request.seed % 3 == 0
                yield from super().generate(
                    [ImageRequest(**{**vars(request), "prompt": "a big blue square"})] if lie else [request]
                )

    made = make(tmp_path, tmp_path / "set", generator=Liar(), filters=("judge",))
    assert made.classes[0].removed["judge"] >= 5
    middles = [
        pixels(tmp_path / "set" / row["file_name"])[7:9, 7:9].mean(axis=(0, 1))
        for row in rows(tmp_path / "set")
        if row["category"] == "red"
    ]
    assert all(middle[0] > middle[2] for middle in middles)


def test_a_shortfall_is_said(tmp_path: Path) -> None:
    class Stuck(SquareGenerator):
        def generate(self, requests: Any) -> Any:
            for request in requests:
                yield from super().generate([ImageRequest(**{**vars(request), "seed": 1})])

    made = make(tmp_path, tmp_path / "set", generator=Stuck(), filters=("duplicates",), attempts=2)
    red = made.classes[0]
    assert red.kept < 5
    assert (red.short, red.tried) == (30 - red.kept, 60)
    assert len(rows(tmp_path / "set")) == made.images
    again = make(tmp_path, tmp_path / "set", generator=Stuck(), filters=("duplicates",), attempts=2)
    assert (again.short, again.generated) == (made.short, 0)


def test_which_images_are_kept_does_not_depend_on_the_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, tmp_path / "a")
    monkeypatch.setattr(run_module, "CHUNK", 7)
    make(tmp_path, tmp_path / "b")
    first, second = rows(tmp_path / "a"), rows(tmp_path / "b")
    assert [row["attributes"]["seed"] for row in first] == [row["attributes"]["seed"] for row in second]
    for one, other in zip(first, second, strict=True):  # scores but for their last digit
        for name, score in one["attributes"]["scores"].items():
            assert score == pytest.approx(other["attributes"]["scores"][name], abs=2e-4)


def test_prompts_share_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All prompts' images are asked for side by side: few calls, whatever the share of each."""
    monkeypatch.setattr(run_module, "CHUNK", 16)
    asked: list[int] = []

    class Counting(SquareGenerator):
        def generate(self, requests: Any) -> Any:
            asked.append(len({request.prompt for request in requests}))
            yield from super().generate(requests)

    make(tmp_path, tmp_path / "set", generator=Counting(), filters=(), counts={"red": 30, "other": 20})
    assert len(asked) == 4  # 16 + 14, 16 + 4
    assert max(asked) > 1


def test_large_classes_get_folders_within_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "IN_A_FOLDER", 8)
    monkeypatch.setattr(run_module, "IN_A_FOLDER", 8)
    make(tmp_path, tmp_path / "set", counts={"red": 20, "other": 8})
    files = Counter(str(Path(row["file_name"]).parent) for row in rows(tmp_path / "set"))
    assert files == {"red/00000": 8, "red/00001": 8, "red/00002": 4, "other": 8}
    assert len(read_dataset(tmp_path / "set", verify_images=True)) == 28
    assert make(tmp_path, tmp_path / "set", counts={"red": 20, "other": 8}).generated == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["imagefolder", "webdataset"])
def test_a_failure_anywhere_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(run_module, "CHUNK", 8)
    settings: dict[str, Any] = {"format": kind, "shard_size": 7}
    make(tmp_path, tmp_path / "whole", **settings)
    whole = content(tmp_path / "whole")

    class KillError(Exception):
        pass

    class Killed(WildGenerator):
        left = 0

        def generate(self, requests: Any) -> Any:
            for image in super().generate(requests):
                Killed.left -= 1
                if Killed.left < 0:
                    raise KillError
                yield image

    for left in (0, 11, 37):
        Killed.left = left
        out = tmp_path / f"cut-{left}"
        with pytest.raises(KillError):
            make(tmp_path, out, generator=Killed(), **settings)
        # as a kill in the middle of a line, and of an image behind it, leaves it
        with (out / ".augment" / "journal.jsonl").open("ab") as stream:
            stream.write(b'{"class": 0, "pro')
        make(tmp_path, out, **settings)
        assert content(out) == whole, left


_KILLED = """
import sys
from pathlib import Path
from tests.promptopt.augmentation.test_augment import make
from tests.promptopt.augmentation.planted import WildGenerator
import promptopt.augmentation.run as run
run.CHUNK = 8
make(Path(sys.argv[1]), Path(sys.argv[2]), generator=WildGenerator(seconds_per_image=0), format="webdataset",
     shard_size=7)
"""


@pytest.mark.slow
def test_sigkill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "CHUNK", 8)
    make(tmp_path, tmp_path / "whole", format="webdataset", shard_size=7)
    out = tmp_path / "killed"
    for chunks in (1, 3):
        process = subprocess.Popen([sys.executable, "-c", _KILLED, str(tmp_path), str(out)])
        journal = out / ".augment" / "journal.jsonl"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if journal.exists() and journal.read_bytes().count(b"\n") >= chunks:
                break
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    make(tmp_path, out, format="webdataset", shard_size=7)
    assert content(out) == content(tmp_path / "whole")


def test_shards_are_plain_tar(tmp_path: Path) -> None:
    make(tmp_path, tmp_path / "folder")
    made = make(tmp_path, tmp_path / "set", format="webdataset", shard_size=20)
    assert made.images == 50
    shards = sorted((tmp_path / "set" / "shards").iterdir())
    assert [path.name for path in shards] == [f"augmentation-{n:06d}.tar" for n in range(3)]
    listed = iter(rows(tmp_path / "folder"))
    for path in shards:
        with tarfile.open(path) as archive:
            members = archive.getmembers()
            assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in members} == {(0, 0, 0, "", 0o644)}
            for picture, side in zip(members[::2], members[1::2], strict=True):
                assert picture.name.rsplit(".", 1)[0] == side.name.rsplit(".", 1)[0]
                stored = json.loads(archive.extractfile(side).read())  # type: ignore[union-attr]
                row = next(listed)
                assert stored["synthetic"] is True
                assert stored["attributes"] == row["attributes"]
                expected = (tmp_path / "folder" / row["file_name"]).read_bytes()
                assert archive.extractfile(picture).read() == expected  # type: ignore[union-attr]


def test_hugging_face_opens_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    make(tmp_path, tmp_path / "set")
    make(tmp_path, tmp_path / "shards", format="webdataset", shard_size=20)
    cache = str(tmp_path / "cache")
    opened = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "set"), split="train", cache_dir=cache
    )
    assert len(opened) == 50
    listed = {row["group"]: row for row in rows(tmp_path / "set")}
    for one in opened:
        row = listed[one["group"]]
        assert (one["text"], one["label"], one["attributes"]["synthetic"]) == (
            row["text"],
            row["label"],
            True,
        )
        assert np.array_equal(np.asarray(one["image"]), pixels(tmp_path / "set" / row["file_name"]))
    files = sorted(str(path) for path in (tmp_path / "shards" / "shards").iterdir())
    opened = datasets.load_dataset("webdataset", data_files={"train": files}, split="train", cache_dir=cache)
    assert len(opened) == 50
    assert all(one["json"]["synthetic"] for one in opened)
    assert opened[0]["png"].size == (16, 16)


def test_the_set_is_a_prepared_data_set(tmp_path: Path) -> None:
    make(tmp_path, tmp_path / "set")
    data = read_dataset(tmp_path / "set", verify_images=True)
    assert Counter(record.label for record in data) == {"red": 30, "other": 20}


def test_nothing_is_overwritten_without_force(tmp_path: Path) -> None:
    make(tmp_path, tmp_path / "set")
    before = content(tmp_path / "set")
    with pytest.raises(AugmentationError, match=r"seed: 0 -> 1\n.*--force"):
        make(tmp_path, tmp_path / "set", seed=1)
    assert content(tmp_path / "set") == before
    assert make(tmp_path, tmp_path / "set").generated == 0
    make(tmp_path, tmp_path / "set", seed=1, counts={"red": 5, "other": 5}, force=True)
    make(tmp_path, tmp_path / "fresh", seed=1, counts={"red": 5, "other": 5})
    assert content(tmp_path / "set") == content(tmp_path / "fresh")
    other = tmp_path / "mine"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(AugmentationError, match=r"another origin \(notes\.txt\)"):
        make(tmp_path, other, force=True)
    assert (other / "notes.txt").read_text() == "mine"


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "CHUNK", 10)
    make(tmp_path, tmp_path / "whole")
    whole, count = FolderWriter.add, 0

    def full(self: Any, entry: Any) -> str:
        nonlocal count
        count += 1
        if count > 25:
            raise OSError(errno.ENOSPC, "No space left on device", "x.png")
        return whole(self, entry)

    monkeypatch.setattr(FolderWriter, "add", full)
    with pytest.raises(
        AugmentationError, match=r"x\.png: No space left on device; free some space\n\d+ of 50"
    ):
        make(tmp_path, tmp_path / "set")
    monkeypatch.setattr(FolderWriter, "add", whole)
    make(tmp_path, tmp_path / "set")
    assert content(tmp_path / "set") == content(tmp_path / "whole")


def test_other_weights_and_long_prompts(tmp_path: Path) -> None:
    other = SquareGenerator(fingerprint="f" * 64)
    with pytest.raises(AugmentationError, match=r"[0-9a-f]{16} \(reds\).* is ffff.*--allow-other-generator"):
        make(tmp_path, tmp_path / "set", generator=other)
    said: list[str] = []
    made = make(
        tmp_path,
        tmp_path / "set",
        generator=other,
        allow_other_generator=True,
        on_warning=said.append,
        counts={"red": 3, "other": 2},
    )
    assert made.images == 5
    assert "ffff" in said[0]
    with pytest.raises(AugmentationError, match=r"class red: 1 of 3 prompts.*\n.*a big red square on black"):
        make(tmp_path, tmp_path / "long", generator=SquareGenerator(max_tokens=7))


def test_a_prompt_keeps_its_own_settings(tmp_path: Path) -> None:
    sources, _ = planted(tmp_path)
    own = Candidate("a red square", negative_prompt="blur", generation_parameters={"guidance": 7.0})
    from dataclasses import replace

    from promptopt.augmentation.sources import SourcePrompt

    request = replace(sources[0]).request(SquareGenerator(), SourcePrompt(candidate=own, weight=1.0), 3)
    assert (request.negative_prompt, request.guidance, request.steps) == ("blur", 7.0, 4)


def test_runs_that_cannot_be_used(tmp_path: Path) -> None:
    data = write_squares(tmp_path / "data")
    with pytest.raises(ExportError, match="no such run folder"):
        read_run(tmp_path / "nowhere")
    cut = write_run(tmp_path / "cut", data)
    (cut / "prompts.json").unlink()
    with pytest.raises(ExportError, match="not a run folder"):
        read_run(cut)
    (cut / "study.db").touch()
    with pytest.raises(ExportError, match=r"not finished, prompts\.json is missing"):
        read_run(cut)
    run = write_run(tmp_path / "unconfirmed", data)
    listed = json.loads((run / "prompts.json").read_text())
    for entry in listed["prompts"]:
        entry["confirmation"] = {}
    (run / "prompts.json").write_text(json.dumps(listed))
    with pytest.raises(ExportError, match="no confirmed prompt"):
        read_run(run)


def test_arguments(tmp_path: Path) -> None:
    sources, reference = planted(tmp_path)
    assert image_counts(sources, per_class=None, ratio=0.5, data=reference.data) == {"red": 15, "other": 15}
    with pytest.raises(AugmentationError, match="one of them"):
        image_counts(sources, per_class=3, ratio=0.5, data=reference.data)
    assert hand_classes(["a=x", "b=y=z", "a=w"]) == {"a": ["x", "w"], "b": ["y=z"]}
    with pytest.raises(AugmentationError, match="NAME=PROMPT"):
        hand_classes(["normal"])
    with pytest.raises(AugmentationError, match="'nothing' does not exist"):
        make(tmp_path, tmp_path / "set", filters=("nothing",))
    with pytest.raises(AugmentationError, match="class red: 0 images"):
        make(tmp_path, tmp_path / "set", counts={"red": 0, "other": 1})
    with pytest.raises(AugmentationError, match="the same"):
        augment(
            [sources[0], sources[0]],
            tmp_path / "twice",
            counts={"red": 1},
            reference=reference,
            open_generator=lambda _: SquareGenerator(),
        )


def test_a_set_of_random_prompts_or_of_the_plain_one(tmp_path: Path) -> None:
    sources, reference = planted(tmp_path)
    counts = {"red": 40, "other": 4}
    texts = {}
    for which in ("set", "baseline", "random", "single"):
        chosen = prompts_of(sources, which, counts, seed=3)
        augment(
            chosen,
            tmp_path / which,
            counts=counts,
            reference=reference,
            filters=["black"],
            open_generator=lambda _: WildGenerator(),
        )
        texts[which] = {row["text"] for row in rows(tmp_path / which) if row["category"] == "red"}
    assert texts["set"] == set(PORTFOLIO)
    assert texts["single"] == {next(iter(PORTFOLIO))}
    assert texts["baseline"] == {"a square"}
    assert len(texts["random"]) > len(PORTFOLIO)
    with pytest.raises(AugmentationError, match="'best' does not exist; use set, learned, baseline"):
        prompts_of(sources, "best", counts, seed=0)
    with pytest.raises(AugmentationError, match="class red: the study reds has no learned template"):
        prompts_of(sources, "learned", counts, seed=0)


def test_comparison_prompts(tmp_path: Path) -> None:
    red, other = planted(tmp_path)[0]
    assert [p.candidate.prompt for p in red.by("baseline", 5, seed=0).prompts] == ["a square"]
    drawn = red.by("random", 40, seed=0).prompts
    assert sum(p.weight for p in drawn) == 40
    assert len(drawn) > 20
    assert drawn == red.by("random", 40, seed=0).prompts != red.by("random", 40, seed=1).prompts
    more = {p.candidate: p.weight for p in red.by("random", 60, seed=0).prompts}
    assert all(more[p.candidate] >= p.weight for p in drawn)  # more images leave the first as they are
    assert other.by("baseline", 5, seed=0) == other == other.by("random", 5, seed=0)
    assert red.sampling.negative_prompt == SETTINGS["generator"]["negative_prompt"]
    assert ColorEncoder().dim == 48


def test_classes_named_in_any_script_have_folders_of_their_own(tmp_path: Path) -> None:
    (red, _), reference = planted(tmp_path)
    classes = [by_hand(name, ["a green\nsquare", "a blue square"], like=red) for name in ("ポリープ", "潰瘍")]
    check_classes(classes)
    names = {"red": "ポリープ"}
    records = (replace(r, category=names.get(r.category, "潰瘍")) for r in reference.data)
    made = augment(
        classes,
        tmp_path / "out",
        reference=replace(reference, data=replace(reference.data, records=tuple(records))),
        open_generator=lambda _: SquareGenerator(),
        counts={"ポリープ": 3, "潰瘍": 4},
        filters=[],
    )
    found = read_dataset(made.folder)
    assert Counter(record.category for record in found) == {"ポリープ": 3, "潰瘍": 4}
    assert len({Path(record.file_name).parent for record in found}) == 2
    with pytest.raises(AugmentationError, match="are the same, or would share the folder 'a-b'"):
        check_classes([by_hand(name, ["x"], like=red) for name in ("a b", "A-B")])
