"""Images for a list of prompts: seeds, names, shares, resuming, broken disks."""

from __future__ import annotations

import csv
import errno
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import promptopt.synthesis.plan
import promptopt.synthesis.run
from generators.bad_images import BadImage, BadImageError
from generators.engine import Made
from generators.errors import BatchHalvedError
from generators.request import ImageRequest
from generators.store import ImageStore
from promptopt.space.prompt_lines import PromptLine, prompt_lines
from promptopt.synthesis.manifest import COLUMNS, manifest_rows
from promptopt.synthesis.naming import LARGE, PATTERN, PatternError, check_pattern, image_name
from promptopt.synthesis.plan import Sampling, SynthesisError, image_seed, shares
from promptopt.synthesis.run import synthesize
from tests.generators.fake import FakeGenerator, fake_image


def manifest(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def pictures(folder: Path) -> list[str]:
    images = folder / "images"
    return sorted(p.relative_to(images).as_posix() for p in images.rglob("*") if p.is_file())


def test_every_image_has_its_name_its_seed_and_a_line(tmp_path: Path) -> None:
    fake = FakeGenerator()
    made = synthesize(
        prompt_lines(["a polyp", "a snare"]),
        fake,
        tmp_path,
        per_prompt=3,
        sampling=Sampling(negative_prompt="text", steps=7, guidance=2.5, scheduler="ddim"),
    )
    rows = manifest(tmp_path)
    assert list(rows[0]) == list(COLUMNS)
    assert [row["file"] for row in rows] == [
        f"images/prompt{p:04d}_img{i:04d}.png" for p in (1, 2) for i in (1, 2, 3)
    ]
    assert [int(row["seed"]) for row in rows] == [image_seed(0, p, i) for p in (1, 2) for i in (1, 2, 3)]
    for row, request in zip(rows, fake.made, strict=True):
        assert (request.steps, request.guidance, request.negative_prompt) == (7, 2.5, "text")
        with Image.open(tmp_path / row["file"]) as image:
            assert image.text["synthetic"] == "true"
            assert list(image.convert("RGB").tobytes()) == list(fake_image(request).tobytes())
    assert (made.images, made.generated, made.copied) == (6, 6, 0)
    assert made.size == sum((tmp_path / row["file"]).stat().st_size for row in rows)
    stored = {p.stat().st_ino for p in (tmp_path / ".store").rglob("*.png")}
    assert {(tmp_path / row["file"]).stat().st_ino for row in rows} == stored  # on the disk once


def test_no_cell_of_the_manifest_is_a_formula_and_it_reads_back_alike(tmp_path: Path) -> None:
    texts = ["=1+1", "+1 polyp", "-1", "@SUM(A1)", "\uff1d1", "'quoted", "a polyp"]
    made = synthesize(prompt_lines(texts), FakeGenerator(), tmp_path, per_prompt=1)
    with made.manifest.open(encoding="utf-8", newline="") as stream:
        shown = [row["prompt"] for row in csv.DictReader(stream)]
    assert shown == [f"'{text}" for text in texts[:-1]] + ["a polyp"]
    rows = list(manifest_rows(made.manifest))
    assert [row["prompt"] for row in rows] == texts
    assert [row["file"] for row in rows] == [f"images/prompt{p:04d}_img0001.png" for p in range(1, 8)]


def test_a_longer_run_begins_with_the_shorter_one(tmp_path: Path) -> None:
    fake = FakeGenerator()
    synthesize(prompt_lines(["a", "b"]), fake, tmp_path, per_prompt=2)
    before = {row["file"]: row for row in manifest(tmp_path)}
    made = synthesize(prompt_lines(["a", "b", "c"]), fake, tmp_path, per_prompt=3)
    after = {row["file"]: row for row in manifest(tmp_path)}
    assert made.generated == 5
    assert len(fake.made) == 9 == len(after)
    assert before.items() <= after.items()
    once = tmp_path / "once"
    synthesize(prompt_lines(["a", "b", "c"]), FakeGenerator(), once, per_prompt=3)
    assert (once / "manifest.csv").read_bytes() == (tmp_path / "manifest.csv").read_bytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"per_prompt": 1}, "per_prompt: 2 -> 1"),
        ({"sampling": Sampling(steps=9)}, "steps: 2 -> 9"),
        ({"sampling": Sampling(negative_prompt="no")}, "negative_prompt: '' -> 'no'"),
        ({"pattern": "{p}_{i}.png"}, "pattern: "),
        ({"prompts": prompt_lines(["a", "c"])}, "prompts: 2 -> 2"),
        ({"prompts": prompt_lines(["a"])}, "prompts: 2 -> 1"),
        ({"per_prompt": None, "total": 9}, "total: None -> 9"),
    ],
)
def test_a_folder_keeps_to_its_settings(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    same: dict[str, Any] = {"prompts": prompt_lines(["a", "b"]), "per_prompt": 2}
    synthesize(generator=FakeGenerator(), out=tmp_path, **same)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(SynthesisError) as caught:
        synthesize(generator=FakeGenerator(), out=tmp_path, **{**same, **change})
    assert said in str(caught.value)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_files_of_another_origin_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "prompt0001_img0001.png").write_bytes(b"mine")
    with pytest.raises(SynthesisError, match="another origin"):
        synthesize(prompt_lines(["a"]), FakeGenerator(), tmp_path)
    assert (tmp_path / "images" / "prompt0001_img0001.png").read_bytes() == b"mine"


def test_weights_share_out_the_total(tmp_path: Path) -> None:
    prompts = [
        PromptLine(text=text, number=n, line=n, weight=weight)
        for n, (text, weight) in enumerate([("a", 3.0), ("b", 1.0), ("c", 0.0)], start=1)
    ]
    synthesize(prompts, FakeGenerator(), tmp_path, total=8)
    assert [row["prompt"] for row in manifest(tmp_path)] == ["a"] * 6 + ["b"] * 2
    fake = FakeGenerator()
    synthesize(prompts, fake, tmp_path, total=10)
    assert len(fake.made) == 2


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12), st.integers(0, 200))
def test_shares_follow_the_weights_and_never_shrink(weights: list[float], total: int) -> None:
    if not any(weights):
        with pytest.raises(SynthesisError, match="weight 0"):
            shares(weights, total)
        return
    counts = shares(weights, total)
    assert sum(counts) == total
    assert all(count == 0 for count, weight in zip(counts, weights, strict=True) if weight == 0)
    assert all(new >= old for old, new in zip(counts, shares(weights, total + 1), strict=True))
    # Webster's rule: one divisor rounds every quota to its count
    if total and min(w for w in weights if w) > 1e-6:
        least = max((c - 0.5) / w for c, w in zip(counts, weights, strict=True) if w)
        most = min((c + 0.5) / w for c, w in zip(counts, weights, strict=True) if w)
        assert least <= most * (1 + 1e-9)


@given(st.integers(0, 2**40), st.integers(1, 10**6), st.integers(1, 10**6))
def test_seeds_are_seeds(seed: int, prompt: int, image: int) -> None:
    assert 0 <= image_seed(seed, prompt, image) < 2**63
    assert image_seed(seed, prompt, image) != image_seed(seed, image, prompt) or prompt == image


def test_prompts_over_the_limit_are_listed_before_anything_is_made(tmp_path: Path) -> None:
    fake = FakeGenerator()
    fake.max_tokens = 5
    prompts = prompt_lines(["one two three", "one two three four", "a", "one two three four five"])
    with pytest.raises(SynthesisError) as caught:
        synthesize(prompts, fake, tmp_path / "out")
    assert "2 of 4 prompts" in str(caught.value)
    assert "line 2: 6 tokens: one two three four\n" in str(caught.value)
    assert "line 4: 7 tokens" in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert not fake.made
    made = synthesize(prompts, fake, tmp_path / "out", skip_too_long=True)
    assert [p.number for p in made.too_long] == [2, 4]
    assert pictures(tmp_path / "out") == ["prompt0001_img0001.png", "prompt0003_img0001.png"]
    with pytest.raises(SynthesisError, match="negative prompt has 7 tokens"):
        synthesize(prompts, fake, tmp_path / "o", sampling=Sampling(negative_prompt="a b c d e"))
    with pytest.raises(SynthesisError, match="none is left"):
        synthesize(prompts[1:2], fake, tmp_path / "o", skip_too_long=True)


def test_a_full_disk_is_said_and_everything_finished_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, replace = FakeGenerator(), Path.replace

    def full(path: Path, target: Path) -> Path:
        if Path(target).stem in {request.key for request in fake.made if request.prompt == "b"}:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(SynthesisError) as caught:
        synthesize(prompt_lines(["a", "b"]), fake, tmp_path, per_prompt=3)
    assert "free some space" in str(caught.value)
    assert "3 of 6 images are finished and stay" in str(caught.value)
    assert len(pictures(tmp_path)) == 3 == len(manifest(tmp_path))
    monkeypatch.undo()
    made = synthesize(prompt_lines(["a", "b"]), fake, tmp_path, per_prompt=3)
    assert (made.images, made.generated) == (6, 3)
    assert len(manifest(tmp_path)) == 6


@pytest.mark.parametrize("call", ["link", "fsync"])
def test_no_space_anywhere_else_is_said_too(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "somewhere")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(SynthesisError, match=r"No space left on device; free(?s:.)*images are finished"):
        synthesize(prompt_lines(["a"]), FakeGenerator(), tmp_path)
    monkeypatch.undo()
    assert synthesize(prompt_lines(["a"]), FakeGenerator(), tmp_path).images == 1
    assert len(manifest(tmp_path)) == 1


def test_a_disk_without_hard_links_gets_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    made = synthesize(prompt_lines(["a"]), FakeGenerator(), tmp_path, per_prompt=2)
    assert made.copied == 2
    assert synthesize(prompt_lines(["a"]), FakeGenerator(), tmp_path, per_prompt=2).copied == 0


def test_a_damaged_image_is_made_again_under_its_name(tmp_path: Path) -> None:
    fake = FakeGenerator()
    synthesize(prompt_lines(["a"]), fake, tmp_path)
    path = tmp_path / "images" / "prompt0001_img0001.png"
    good = path.read_bytes()
    path.write_bytes(b"broken")  # the same file as the store's
    assert synthesize(prompt_lines(["a"]), fake, tmp_path).generated == 1
    assert path.read_bytes() == good


def test_going_on_reads_no_picture_that_lies_there_as_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthesize(prompt_lines(["a", "b"]), FakeGenerator(), tmp_path, per_prompt=3)
    first = (tmp_path / "manifest.csv").read_bytes()
    asked: list[ImageRequest] = []
    get = ImageStore.get
    monkeypatch.setattr(ImageStore, "get", lambda self, request: asked.append(request) or get(self, request))
    again = synthesize(prompt_lines(["a", "b"]), FakeGenerator(), tmp_path, per_prompt=3)
    assert (again.images, again.generated, asked) == (6, 0, [])
    assert (tmp_path / "manifest.csv").read_bytes() == first
    # what was touched is read, and what is new is asked for
    (tmp_path / "images" / "prompt0002_img0002.png").touch()
    more = synthesize(prompt_lines(["a", "b", "c"]), FakeGenerator(), tmp_path, per_prompt=4)
    assert (more.images, more.generated) == (12, 6)
    new = [("a", 4), ("b", 2), ("b", 4), *(("c", n) for n in range(1, 5))]
    assert [request.prompt for request in asked] == [prompt for prompt, _ in new]


def test_a_generator_that_stops_leaves_a_list_of_what_is_there(tmp_path: Path) -> None:
    class Stops(FakeGenerator):
        def generate(self, requests: Any) -> Iterator[Image.Image]:
            yield from super().generate(requests[:2])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(prompt_lines(["a"]), Stops(), tmp_path, per_prompt=5)
    assert len(manifest(tmp_path)) == 2
    assert synthesize(prompt_lines(["a"]), FakeGenerator(), tmp_path, per_prompt=5).generated == 3


class Backwards(FakeGenerator):
    """With an engine that gives its images backwards by tens; `most`: that it was asked for ahead."""

    most = 0
    until = 10**9

    def engine(self, store: ImageStore) -> Backwards:
        self.store = store
        return self

    def make(self, requests: Iterable[ImageRequest], *, ahead: int, on_bad: Any = None) -> Iterator[Made]:
        waiting: list[ImageRequest] = []
        for request in requests:
            waiting.append(request)
            self.most = max(self.most, len(waiting))
            if len(waiting) == ahead:
                yield from (self._one(waiting.pop()) for _ in range(10))
        yield from (self._one(request) for request in reversed(waiting))

    def _one(self, request: ImageRequest) -> Made:
        if len(self.made) == self.until:
            raise KeyboardInterrupt
        (image,) = self.generate([request])
        return Made(request, self.store.put(request, image), True)


def test_makers_are_never_left_without_work_and_the_order_of_images_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promptopt.synthesis.run, "AHEAD", 20)
    prompts = prompt_lines(["a", "b", "c"])
    ahead = Backwards()
    ahead.until = 25
    with pytest.raises(KeyboardInterrupt):
        synthesize(prompts, ahead, tmp_path / "ahead", per_prompt=30)
    assert ahead.most == 20  # not fewer, though more than twice as many are to be made, and no more
    assert len(manifest(tmp_path / "ahead")) == 25
    ahead.until = 10**9
    made = synthesize(prompts, ahead, tmp_path / "ahead", per_prompt=30)
    assert (made.images, made.generated, ahead.most) == (90, 65, 20)
    synthesize(prompts, FakeGenerator(), tmp_path / "plain", per_prompt=30)
    lists = [(tmp_path / name / "manifest.csv").read_bytes() for name in ("ahead", "plain")]
    assert lists[0] == lists[1]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    made = 0
    request = FakeGenerator.request

    def counted(self: FakeGenerator, *given: Any, **settings: Any) -> ImageRequest:
        read.append(made)
        return request(self, *given, **settings)

    def image(_done: int, _total: int, _new: bool) -> None:
        nonlocal made
        made += 1

    monkeypatch.setattr(FakeGenerator, "request", counted)
    monkeypatch.setattr(promptopt.synthesis.run, "AHEAD", 64)
    monkeypatch.setattr(promptopt.synthesis.plan, "_CHUNK", 64)
    prompts = prompt_lines([f"prompt {n}" for n in range(100)])
    synthesize(prompts, FakeGenerator(), tmp_path, per_prompt=4, on_image=image)
    assert len(manifest(tmp_path)) == 400
    # each is read twice: when the store is looked at, and when it is handed out
    assert all(number / 2 <= done + 64 + 64 + 2 for number, done in enumerate(read))


def test_bad_images_are_named_at_the_end_and_the_others_made(tmp_path: Path) -> None:
    class Sometimes(FakeGenerator):
        def generate(self, requests: Any) -> Iterator[Image.Image]:
            for request in requests:
                if request.prompt in ("b", "d"):
                    raise BadImageError([BadImage(request, "black")], made=1)
                yield from super().generate([request])

    with pytest.raises(BadImageError) as caught:
        synthesize(prompt_lines(list("abcde")), Sometimes(), tmp_path, per_prompt=2)
    assert sorted(image.request.prompt for image in caught.value.images) == ["b", "b", "d", "d"]
    assert [row["prompt"] for row in manifest(tmp_path)] == ["a", "a", "c", "c", "e", "e"]
    made = synthesize(prompt_lines(list("abcde")), FakeGenerator(), tmp_path, per_prompt=2)
    assert (made.images, made.generated) == (10, 4)


def test_where_all_are_bad_not_all_are_tried(tmp_path: Path) -> None:
    class Never(FakeGenerator):
        def generate(self, requests: Any) -> Iterator[Image.Image]:
            self.made.append(requests[0])
            raise BadImageError([BadImage(requests[0], "black")], made=1)
            yield

    never = Never()
    with pytest.raises(BadImageError, match="9 black"):
        synthesize(prompt_lines(["a"]), never, tmp_path, per_prompt=100)
    assert len(never.made) == 9


def test_more_than_ten_thousand_images_lie_in_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promptopt.synthesis.run, "IN_A_FOLDER", 6)
    prompts = [PromptLine(text="a", number=n, line=n) for n in (1, 100, 101)]
    synthesize(prompts, FakeGenerator(), tmp_path / "large", per_prompt=3)
    listed = [row["file"] for row in manifest(tmp_path / "large")]
    assert listed[3:7] == [
        *(f"images/prompts000_imgs000/prompt0100_img000{i}.png" for i in (1, 2, 3)),
        "images/prompts001_imgs000/prompt0101_img0001.png",
    ]
    assert all((tmp_path / "large" / name).exists() for name in listed)
    # a folder that began small keeps its names, and one that is named otherwise those
    synthesize(prompts, FakeGenerator(), tmp_path / "small", per_prompt=2)
    made = synthesize(prompts, FakeGenerator(), tmp_path / "small", per_prompt=3)
    assert (made.images, made.generated) == (9, 3)
    assert {Path(row["file"]).parent.as_posix() for row in manifest(tmp_path / "small")} == {"images"}
    synthesize(prompts, FakeGenerator(), tmp_path / "own", per_prompt=3, pattern="{p}/{i}.png")
    assert manifest(tmp_path / "own")[0]["file"] == "images/1/1.png"
    with pytest.raises(SynthesisError, match="pattern: "):
        synthesize(prompts, FakeGenerator(), tmp_path / "large", per_prompt=3, pattern=PATTERN)


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_a_folder_holds_a_hundred_images_of_a_hundred_prompts(prompt: int, image: int) -> None:
    folder = image_name(LARGE, prompt=prompt, image=image).partition("/")[0]
    before = [(number - 1) // 100 * 100 for number in (prompt, image)]
    inside = itertools.product((before[0] + 1, before[0] + 100), (before[1] + 1, before[1] + 100))
    assert {image_name(LARGE, prompt=p, image=i).partition("/")[0] for p, i in inside} == {folder}
    for p, i in (
        (before[0], image),
        (before[0] + 101, image),
        (prompt, before[1]),
        (prompt, before[1] + 101),
    ):
        assert image_name(LARGE, prompt=p, image=i).partition("/")[0] != folder


def test_too_small_a_disk_is_said_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil
    from types import SimpleNamespace

    warned: list[str] = []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    synthesize(prompt_lines(["a"]), FakeGenerator(), tmp_path, per_prompt=40, on_warning=warned.append)
    assert len(warned) == 1
    assert "1 kB are free" in warned[0]


def test_two_processes_do_not_write_one_folder(tmp_path: Path) -> None:
    from filelock import FileLock

    with FileLock(tmp_path / ".lock"), pytest.raises(SynthesisError, match="another process"):
        synthesize(prompt_lines(["a"]), FakeGenerator(), tmp_path)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("../{p}_{i}.png", "plain name inside"),
        ("/{p}_{i}.png", "plain name inside"),
        ("a/../../{p}_{i}.png", "plain name inside"),
        ("a//{p}_{i}.png", "plain name inside"),
        (".{p}_{i}.png", "plain name inside"),
        ("a:{p}_{i}.png", "plain name inside"),
        ("{p}.png", "lacks {i}"),
        ("{i}.png", "lacks {p}"),
        ("{p}{i}.png", "two numbers touch"),
        ("{p}0{i}.png", "two numbers touch"),
        ("{p}_{i}.jpg", "end in .png"),
        ("{p}_{i}", "end in .png"),
        ("{p.real}_{i}.png", "the field {p.real}"),
        ("{p!r}_{i}.png", "the field {p!r}"),
        ("{p:x}_{i}.png", "the field {p:x}"),
        ("{p:>9}_{i}.png", "the field {p:>9}"),
        ("{}_{i}.png", "the field {}"),
        ("{p", "expected '}'"),
    ],
)
def test_a_pattern_that_could_lose_or_misplace_images_is_refused(pattern: str, said: str) -> None:
    with pytest.raises(PatternError) as caught:
        check_pattern(pattern, images=2)
    assert said in str(caught.value)


@given(
    st.sampled_from(["{p}_{i}.png", "{p:04d}/{i:02d}.png", "x{i:02d}-1{p}.png", "{p:03d}1_1{i}.png"]),
    st.sets(st.tuples(st.integers(1, 12000), st.integers(1, 12000)), min_size=2, max_size=30),
)
def test_a_pattern_that_passes_names_every_image_differently(
    pattern: str, numbers: set[tuple[int, int]]
) -> None:
    check_pattern(pattern, images=2)
    assert len({pattern.format(p=p, i=i) for p, i in numbers}) == len(numbers)


def test_subfolders_in_the_pattern(tmp_path: Path) -> None:
    synthesize(prompt_lines(["a"]), FakeGenerator(), tmp_path, per_prompt=2, pattern="{p:02d}/{i}.png")
    assert pictures(tmp_path) == ["01/1.png", "01/2.png"]
    assert json.loads((tmp_path / "synthesis.json").read_text())["pattern"] == "{p:02d}/{i}.png"


def test_images_of_a_smaller_batch_find_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory runs out, images come by other requests than were asked for, and later ones are anew."""

    class Halves(FakeGenerator):
        batch = 4

        def request(self, *given: Any, **settings: Any) -> ImageRequest:
            return replace(super().request(*given, **settings), versions=f"batch={self.batch}")

        def generate(self, requests: Any) -> Iterator[Image.Image]:
            assert all(request.versions == f"batch={self.batch}" for request in requests)
            if self.batch > 1:
                self.batch = 1
                raise BatchHalvedError(4, 1)
            yield from super().generate(requests)

    monkeypatch.setattr(promptopt.synthesis.run, "AHEAD", 3)
    halves = Halves()
    synthesize(prompt_lines(["a", "b"]), halves, tmp_path, per_prompt=4)
    assert [row["prompt"] for row in manifest(tmp_path)] == ["a"] * 4 + ["b"] * 4
    assert len(pictures(tmp_path)) == 8 == len(halves.made)
    again = synthesize(prompt_lines(["a", "b"]), Halves(), tmp_path, per_prompt=4)
    assert (again.images, again.generated) == (8, 0)
