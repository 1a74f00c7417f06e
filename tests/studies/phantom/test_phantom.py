import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studies.category import SHIPPED, load_category
from studies.dataset import DatasetError
from studies.medvqa_gi import parse_caption
from studies.phantom import CELLS, captions, challenge_sentences, render, sample_scene, write_phantom
from studies.phantom.lesions import TINT
from studies.phantom.scene import INSTRUMENTS, LANDMARKS


def scenes(count, **fixed):
    return [sample_scene(np.random.default_rng([11, i]), **fixed) for i in range(count)]


def pixels(scene, size=64):
    return np.asarray(render(scene, size=size), np.float32)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_a_scene_renders_to_the_same_pixels_each_time(seed):
    scene = sample_scene(np.random.default_rng(seed))
    assert np.array_equal(pixels(scene, 32), pixels(scene, 32))
    assert render(scene, size=48).size == (48, 48)
    assert render(scene, size=48).mode == "RGB"


@given(seed=st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_the_truth_is_consistent(seed):
    scene = sample_scene(np.random.default_rng(seed))
    truth = scene.attributes()
    assert json.loads(json.dumps(truth)) == truth
    assert truth["count"] == len(truth["locations"]) == len(set(truth["locations"]))
    for thing in scene.things:
        nearest = min(CELLS, key=lambda cell: np.hypot(CELLS[cell][0] - thing.x, CELLS[cell][1] - thing.y))
        assert nearest == thing.location
    assert (scene.category == "polyps") == (scene.color is not None) == (scene.paris is not None)
    assert not (scene.text and "upper-left" in truth["locations"])
    assert not (scene.box and "lower-left" in truth["locations"])


def test_every_challenge_sentence_is_in_the_challenges_grammar():
    for scene in scenes(60):
        for sentence in challenge_sentences(scene):
            parse_caption(sentence)


def test_captions_never_contradict_the_scene():
    for i, scene in enumerate(scenes(200)):
        text = " ".join(captions(scene, np.random.default_rng(i)))
        told_cells = {cell for cell in CELLS if f" {cell}" in text and cell != "center"}
        assert told_cells <= {thing.location for thing in scene.things}
        if scene.category == "polyps":
            assert not any(f" {color} " in text for color in TINT if color != scene.color)
            assert not any(f", {n} polyp" in text for n in (1, 2, 3) if n != scene.count)
        else:
            assert "a polyp," not in text
        for kind in set(INSTRUMENTS + LANDMARKS) - {scene.kind}:
            assert kind not in text


def test_some_captions_tell_the_place_or_the_number_alone():
    alone = [
        text
        for i, scene in enumerate(scenes(100, category="polyps"))
        for text in captions(scene, np.random.default_rng(i))[-2:]
    ]
    places = [text for text in alone if "located in the" in text]
    numbers = [text for text in alone if re.search(r", [123] polyps?$", text)]
    assert len(places) > 50
    assert len(numbers) > 25
    assert not set(places) & set(numbers)
    assert not any(color in text for text in places + numbers for color in TINT)


def test_pools_and_pictures_do_not_depend_on_the_words(tmp_path, monkeypatch):
    before = write_phantom(tmp_path / "a", images=20, size=16)
    monkeypatch.setattr("studies.phantom.dataset.captions", lambda scene, rng: (str(rng.random(9)),))
    after = write_phantom(tmp_path / "b", images=20, size=16)
    assert [record.pool for record in before.records] == [record.pool for record in after.records]
    for record in before.records:
        assert (before.root / record.file_name).read_bytes() == (after.root / record.file_name).read_bytes()


@pytest.mark.parametrize("name", SHIPPED)
def test_the_category_templates_use_words_that_captions_use(name):
    category = load_category(name)
    said = " ".join(
        text for i, scene in enumerate(scenes(600)) for text in captions(scene, np.random.default_rng(i))
    )
    words = set(said.replace(",", " ").replace(".", " ").split())
    for options in category.wildcards.values():
        for option in options:
            said_of = option.rpartition("::")[2]
            assert set(said_of.replace(",", " ").split()) <= words, option


@pytest.mark.parametrize("color", ["red", "yellow", "white", "brown"])
def test_a_polyp_has_the_color_that_its_caption_says(color):
    found = [
        scene for scene in scenes(400, category="polyps") if scene.size == ">20mm" and scene.paris == "is"
    ]
    hits = 0
    for scene in found[:12]:
        shown = replace(
            scene, color=color, center="north", light="bright", sharpness="sharp", text=False, box=False
        )
        x, y = (int((v + 1) * 32) for v in (scene.things[0].x, scene.things[0].y))
        patch = pixels(shown)[y - 4 : y + 5, x - 4 : x + 5].reshape(-1, 3).mean(0)
        patch = patch / np.linalg.norm(patch)
        hits += color == max(
            TINT, key=lambda name: float(patch @ (np.asarray(TINT[name]) / np.linalg.norm(TINT[name])))
        )
    assert hits >= 9


def test_the_two_centers_differ_in_optics():
    scene = replace(
        sample_scene(np.random.default_rng(3), category="normal"), light="bright", text=False, box=False
    )
    north, south = (pixels(replace(scene, center=center)) for center in ("north", "south"))
    assert north[32, 1].mean() > 20  # an octagon reaches the left edge
    assert south[..., 2].mean() / south[..., 0].mean() > north[..., 2].mean() / north[..., 0].mean()
    assert north[0, 0].max() < 15
    assert south[0, 0].max() < 15


def test_overlays_lie_where_they_are_said_to_lie():
    scene = replace(sample_scene(np.random.default_rng(3), category="normal"), text=False, box=False)
    plain = pixels(scene)
    box = np.abs(pixels(replace(scene, box=True)) - plain)
    text = np.abs(pixels(replace(scene, text=True)) - plain)
    assert box[48:, :16].mean() > 10
    assert box[:40].mean() < 0.5
    assert text[:20, :32].mean() > 5
    assert text[40:].mean() < 0.5


@pytest.mark.slow
def test_a_set_is_a_prefix_of_a_larger_one_and_is_written_once(tmp_path: Path):
    small = write_phantom(tmp_path / "a", images=70, seed=5, size=32)
    large = write_phantom(tmp_path / "b", images=140, seed=5, size=32, workers=2)
    assert small.records == large.records[:70]
    assert small.path(small.records[69]).read_bytes() == large.path(large.records[69]).read_bytes()
    before = small.path(small.records[0]).stat().st_mtime_ns
    assert write_phantom(tmp_path / "a", images=70, seed=5, size=32).records == small.records
    assert small.path(small.records[0]).stat().st_mtime_ns == before


def test_a_folder_with_other_contents_is_refused(tmp_path: Path):
    write_phantom(tmp_path / "a", images=3, seed=1, size=16)
    with pytest.raises(DatasetError, match="another phantom set"):
        write_phantom(tmp_path / "a", images=4, seed=1, size=16)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("precious")
    with pytest.raises(DatasetError, match="not empty"):
        write_phantom(tmp_path / "b", images=3)
    assert (tmp_path / "b" / "thesis.txt").read_text() == "precious"


def test_an_unknown_category_or_kind_is_named():
    with pytest.raises(ValueError, match=r"'polyp'.*polyps"):
        sample_scene(np.random.default_rng(0), category="polyp")
    with pytest.raises(ValueError, match=r"'stomach'.*pylorus"):
        sample_scene(np.random.default_rng(0), kind="stomach")
