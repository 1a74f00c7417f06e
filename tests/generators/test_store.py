"""ImageStore: what is stored is right, or is made again."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import multiprocessing
import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.encoders.thumbnail import ThumbnailEncoder
from evaluation.features.feature_store import FeatureStore
from generators import GeneratorError, ImageStore, StoredImage, StoreError
from generators.fetching import WAITING, fetch
from promptopt.base import files
from tests.generators.fake import FakeGenerator, fake_image

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "store")


def _same(one: Image.Image, other: Image.Image) -> bool:
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))


def _leftovers(store: ImageStore) -> list[Path]:
    return [path for path in store.root.rglob("*") if path.is_file() and path.suffix not in (".png", ".json")]


def test_put_then_get_gives_the_same_pixels(store: ImageStore) -> None:
    request = FakeGenerator().request("a polyp é 漢 ☃", 3, negative_prompt="blurry")
    assert store.get(request) is None
    put = store.put(request, fake_image(request))
    got = store.get(request)
    assert got == put
    assert got is not None
    assert _same(got.load(), fake_image(request))
    assert got.path == store.root / request.key[:2] / f"{request.key}.png"
    assert store.get(FakeGenerator().request("a polyp é 漢 ☃", 4, negative_prompt="blurry")) is None
    assert not _leftovers(store)


def test_files_say_that_the_image_is_synthetic(store: ImageStore) -> None:
    request = FakeGenerator().request("ü\n☃", 3)
    stored = store.put(request, fake_image(request))
    with Image.open(stored.path) as image:
        assert image.info["synthetic"] == "true"
        assert image.info["Software"].startswith("promptopt")
        assert json.loads(image.info["request"])["prompt"] == "ü\n☃"
    side = json.loads(stored.path.with_suffix(".json").read_text())
    assert side["synthetic"] is True
    assert side["sha256"] == stored.sha256
    assert side["request"]["prompt"] == "ü\n☃"
    assert side["created"].endswith("+00:00")


def test_image_of_another_size_is_refused(store: ImageStore) -> None:
    request = FakeGenerator().request("a", 1)
    with pytest.raises(GeneratorError, match=r"9x8.*8x8"):
        store.put(request, Image.new("RGB", (9, 8)))
    assert store.get(request) is None


def test_fetch_generates_only_what_is_missing_and_keeps_order(store: ImageStore) -> None:
    generator = FakeGenerator()
    panel = [generator.request(f"prompt {i % 3}", i, steps=2 + i % 2) for i in range(8)]
    store.put(panel[5], fake_image(panel[5]))
    seen: list[tuple[StoredImage, bool]] = []
    images = fetch(store, generator, panel, on_image=lambda image, new: seen.append((image, new)))
    assert [image.request for image in images] == panel
    assert all(_same(image.load(), fake_image(image.request)) for image in images)
    assert sorted(r.seed for r in generator.made) == [0, 1, 2, 3, 4, 6, 7]
    assert {image.request.seed: new for image, new in seen} == {i: i != 5 for i in range(8)}
    again = FakeGenerator()
    assert fetch(store, again, panel) == images
    assert again.made == []


def test_fetch_makes_duplicates_once_and_reports_each_entry(store: ImageStore) -> None:
    generator = FakeGenerator()
    request, other = generator.request("a", 1), generator.request("b", 1)
    news: list[bool] = []
    images = fetch(
        store, generator, [request, other, request, request], on_image=lambda _, new: news.append(new)
    )
    assert generator.made == [request, other]
    assert [image.request for image in images] == [request, other, request, request]
    assert sorted(news) == [False, False, True, True]
    assert fetch(store, generator, []) == []


@pytest.mark.parametrize("count", [1, 3])
def test_generator_with_wrong_number_of_images_is_an_error(store: ImageStore, count: int) -> None:
    class Wrong(FakeGenerator):
        def generate(self, requests):  # type: ignore[no-untyped-def]
            return iter([fake_image(requests[0])] * count)

    generator = Wrong()
    with pytest.raises(GeneratorError, match="2"):
        fetch(store, generator, [generator.request("a", seed) for seed in range(2)])


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    place = content.index(b'"sha256"') + 14 if path.suffix == ".json" else len(content) // 2
    content[place] ^= 4
    path.write_bytes(content)


def _delete(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("suffix", [".png", ".json"])
@pytest.mark.parametrize("damage", [_truncate, _empty, _flip_a_bit, _delete])
def test_damage_is_noticed_said_and_repaired(store, suffix, damage, caplog) -> None:  # type: ignore[no-untyped-def]
    generator = FakeGenerator()
    request = generator.request("a polyp", 3)
    stored = store.put(request, fake_image(request))
    damage(stored.path.with_suffix(suffix))
    with caplog.at_level(logging.WARNING, logger="generators.store"):
        found = store.get(request)
    assert found is None
    assert request.key in caplog.text
    assert "made again" in caplog.text
    assert fetch(store, generator, [request])[0].sha256 == stored.sha256
    assert generator.made == [request]
    assert store.get(request) == stored


def test_a_picture_is_read_once_by_whoever_asks_and_again_where_it_changed(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = FakeGenerator()
    panel = [generator.request("a", seed) for seed in range(3)]
    made = fetch(store, generator, panel)
    read: list[str] = []
    digest = hashlib.file_digest
    monkeypatch.setattr(files, "_SETTLED", -1.0)  # as if the files were old
    monkeypatch.setattr(hashlib, "file_digest", lambda file, by: read.append(file.name) or digest(file, by))
    features = FeatureStore(tmp_path / "features")
    for _ in range(2):
        assert fetch(ImageStore(store.root), generator, panel) == made
        features.features(ThumbnailEncoder(), [image.path for image in made])
    assert sorted(read) == sorted(str(image.path) for image in made)
    made[1].path.write_bytes(made[1].path.read_bytes() + b"\0")
    assert fetch(store, generator, panel) == made
    assert generator.made == [*panel, panel[1]]


def test_every_flipped_bit_of_the_image_is_noticed(store: ImageStore) -> None:
    request = FakeGenerator().request("a polyp", 3)
    stored = store.put(request, fake_image(request))
    good = stored.path.read_bytes()
    for position in np.random.default_rng(0).integers(0, len(good), 50):
        bad = bytearray(good)
        bad[position] ^= 1 << int(position % 8)
        stored.path.write_bytes(bad)
        assert store.get(request) is None


def test_side_file_of_another_request_is_not_believed(store: ImageStore) -> None:
    generator = FakeGenerator()
    one, other = (generator.request("a", seed) for seed in (1, 2))
    stored = store.put(one, fake_image(one))
    target = store.path(other)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(stored.path.read_bytes())
    target.with_suffix(".json").write_bytes(stored.path.with_suffix(".json").read_bytes())
    assert store.get(other) is None


def test_load_notices_a_file_changed_since(store: ImageStore) -> None:
    request = FakeGenerator().request("a", 1)
    stored = store.put(request, fake_image(request))
    _flip_a_bit(stored.path)
    with pytest.raises(StoreError, match="changed"):
        stored.load()
    stored.path.unlink()
    with pytest.raises(StoreError, match=r"cannot be read.*fetch"):
        stored.load()


def test_full_disk_leaves_nothing_half_written(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    request = FakeGenerator().request("a", 1)
    real_open = pathlib.Path.open

    class Full:
        def __init__(self, file) -> None:  # type: ignore[no-untyped-def]
            self.file = file

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, content: bytes) -> None:
            self.file.write(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

    def open_full(path, mode="r", *args, **kwargs):  # type: ignore[no-untyped-def]
        file = real_open(path, mode, *args, **kwargs)
        return Full(file) if "w" in mode else file

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "open", open_full)
        with pytest.raises(StoreError, match=r"No space left.*free"):
            store.put(request, fake_image(request))
    assert [path for path in store.root.rglob("*") if path.is_file()] == []
    store.put(request, fake_image(request))
    assert store.get(request) is not None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to read-only folders")
def test_read_only_folder_is_a_clear_error(store: ImageStore) -> None:
    store.root.mkdir(parents=True)
    store.root.chmod(0o555)
    try:
        request = FakeGenerator().request("a", 1)
        with pytest.raises(StoreError, match=r"Permission denied.*may write"):
            store.put(request, fake_image(request))
    finally:
        store.root.chmod(0o755)


def test_root_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("not a folder")
    store = ImageStore(tmp_path / "store")
    request = FakeGenerator().request("a", 1)
    with pytest.raises(StoreError, match="store"):
        store.put(request, fake_image(request))
    with pytest.raises(StoreError, match="store"):
        store.get(request)


def _put_often(root: Path) -> None:
    store = ImageStore(root)
    request = FakeGenerator().request("a", 1)
    for _ in range(50):
        store.put(request, fake_image(request))


def test_two_processes_writing_one_key_do_no_harm(store: ImageStore) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_put_often, args=(store.root,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    request = FakeGenerator().request("a", 1)
    found = store.get(request)
    assert found is not None
    assert _same(found.load(), fake_image(request))
    assert not _leftovers(store)


def test_killed_fetch_resumes_with_the_missing_images_only(store: ImageStore) -> None:
    script = textwrap.dedent("""
        import sys
        from generators import ImageStore, fetch
        from tests.generators.fake import FakeGenerator
        generator = FakeGenerator(delay=0.03)
        panel = [generator.request("a polyp", seed) for seed in range(200)]
        store = ImageStore(sys.argv[1])
        fetch(store, generator, panel, on_image=lambda image, new: print(image.request.seed, flush=True))
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(store.root)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(10):
        assert process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    finished = 10 + len(process.stdout.read().split())
    process.wait()
    process.stdout.close()
    assert finished < 200

    generator = FakeGenerator()
    panel = [generator.request("a polyp", seed) for seed in range(200)]
    images = fetch(store, generator, panel)
    # The kill may have struck after images were written and before they were reported.
    assert 200 - finished - WAITING <= len(generator.made) <= 200 - finished
    assert all(_same(image.load(), fake_image(image.request)) for image in images)
    assert len({image.path for image in images}) == 200


def test_read_only_file_system_is_a_clear_error(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(pathlib.Path, "mkdir", refuse)
    request = FakeGenerator().request("a", 1)
    with pytest.raises(StoreError, match=r"Read-only file system.*may write"):
        store.put(request, fake_image(request))


def test_a_png_has_the_parameters_that_the_web_ui_reads(store: ImageStore) -> None:
    """In the form that its own parser takes apart: prompt, negative prompt, then `key: value` pairs."""
    one = FakeGenerator().request("a polyp, naïve", 3, negative_prompt="text", guidance=7.5)
    one = replace(one, scheduler="euler_ancestral")
    stored = store.put(one, fake_image(one))
    with Image.open(stored.path) as image:
        *prompt, negative, last = image.info["parameters"].split("\n")
    assert prompt == ["a polyp, naïve"]
    assert negative == "Negative prompt: text"
    pairs = dict(re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', last))
    assert pairs["Steps"] == str(one.steps)
    assert pairs["Sampler"] == "Euler a"
    assert pairs["CFG scale"] == "7.5"
    assert pairs["Seed"] == str(one.seed)
    assert pairs["Size"] == f"{one.width}x{one.height}"
