"""Hospitals: what they shift, what they leave alone, and the truth of their pictures."""

import hashlib
from collections import Counter

import numpy as np
import pytest

from studies.dataset import DatasetError
from studies.phantom import (
    HOSPITALS,
    captions,
    oracle_prompts,
    render,
    sample_scene,
    true_caption,
    write_phantom,
)
from studies.phantom.hospitals import HOME
from studies.phantom.scene import INSTRUMENTS, LANDMARKS

AWAY = [name for name in HOSPITALS if name != "home"]
# Of the scenes before there were hospitals; the embedded networks were trained on such.
SCENES = "b52b3ea9ab00a79e5c4ef7bc8e91dcb37aab6e23ca61415619f7d5972debee47"


def scenes(name, count=400, **fixed):
    where = HOSPITALS[name]
    return [sample_scene(np.random.default_rng([3, i]), hospital=where, **fixed) for i in range(count)]


def share(drawn, has):
    return np.mean([has(scene) for scene in drawn])


def test_home_is_what_the_embedded_networks_were_trained_on():
    digest = hashlib.sha256()

    def add(seed, count, **fixed):
        for i in range(count):
            digest.update(repr(sample_scene(np.random.default_rng([seed, i]), **fixed)).encode())

    add(7, 3000)
    for category in ("polyps", "landmarks", "instruments", "normal"):
        add(8, 200, category=category)
    for kind in (*LANDMARKS, *INSTRUMENTS, "polyp", "normal"):
        add(9, 200, kind=kind)
    assert digest.hexdigest() == SCENES


def test_the_coast_is_dim_and_its_polyps_are_small_and_pale():
    drawn = scenes("coast", category="polyps")
    assert {scene.size for scene in drawn} == {"< 5mm", "5-10mm"}
    assert {scene.color for scene in drawn} == {"pink", "white"}
    assert {scene.paris for scene in drawn} == {"is", "iia"}
    assert share(drawn, lambda scene: scene.light == "dim") == pytest.approx(0.85, abs=0.06)
    assert share(drawn, lambda scene: scene.sharpness == "blurred") == pytest.approx(0.55, abs=0.08)
    pixels = {name: np.mean([np.asarray(render(s, size=16)) for s in scenes(name, 30)]) for name in HOSPITALS}
    assert min(pixels, key=pixels.get) == "coast"


@pytest.mark.parametrize("name", AWAY)
def test_a_hospital_has_polyps_and_normal_mucosa_in_equal_parts_and_text_and_box_as_at_home(name):
    drawn = scenes(name)
    assert {scene.category for scene in drawn} == {"polyps", "normal"}
    assert share(drawn, lambda scene: scene.category == "normal") == pytest.approx(0.5, abs=0.08)
    normal = scenes(name, category="normal")  # nothing there hides text or box
    assert share(normal, lambda scene: scene.text) == pytest.approx(HOME.text, abs=0.08)
    assert share(normal, lambda scene: scene.box) == pytest.approx(HOME.box, abs=0.08)


def test_hospitals_differ_from_each_other_in_what_is_seen():
    seen = {
        name: Counter((s.size, s.color, s.count, s.light) for s in scenes(name, category="polyps"))
        for name in HOSPITALS
    }
    for one in HOSPITALS:
        for other in HOSPITALS:
            if one < other:
                overlap = sum((seen[one] & seen[other]).values()) / 400
                assert overlap < 0.5, (one, other)


def test_the_rare_finding_is_a_label_of_its_own_at_a_few_percent():
    drawn = scenes("valley", 4000, category="polyps")
    rare = [scene for scene in drawn if scene.kind == "white polyp"]
    assert len(rare) / len(drawn) == pytest.approx(0.04, abs=0.01)
    assert {scene.color for scene in rare} == {"white"}
    assert not [scene for scene in drawn if scene.kind == "polyp" and scene.color == "white"]
    scene = sample_scene(np.random.default_rng(0), hospital=HOSPITALS["valley"], kind="white polyp")
    assert "polyp" in captions(scene, np.random.default_rng(0))[0]
    with pytest.raises(ValueError, match="white polyp"):
        sample_scene(np.random.default_rng(0), kind="white polyp")


def test_a_hospitals_set_has_so_many_images_of_each_label_and_the_same_test_pool_for_any_number(tmp_path):
    few = write_phantom(tmp_path / "few", images=20, test=10, size=16, hospital="valley", seed=1)
    more = write_phantom(tmp_path / "more", images=24, test=10, size=16, hospital="valley", seed=1)
    for label in ("polyp", "white polyp", "normal"):
        part = few.where(label=label)
        assert [len(part.where(pool=pool)) for pool in ("reference", "validation", "test")] == [10, 10, 10]
    assert {record.center for record in few} == {"valley"}

    def content(data, pool):
        return {r.file_name: data.path(r).read_bytes() for r in data.where(pool=pool)}

    assert content(few, "test") == content(more, "test")
    assert content(few, "reference").items() < content(more, "reference").items()
    pictures = [data for pool in ("reference", "validation", "test") for data in content(few, pool).values()]
    assert len(set(pictures)) == len(pictures)


def test_another_hospitals_name_gives_other_scenes_and_an_unknown_one_is_refused(tmp_path):
    write_phantom(tmp_path / "a", images=20, test=10, size=16, hospital="coast")
    with pytest.raises(DatasetError, match="another phantom set"):
        write_phantom(tmp_path / "a", images=20, test=10, size=16, hospital="delta")
    with pytest.raises(DatasetError, match=r"'cost' does not exist; choose home, coast"):
        write_phantom(tmp_path / "b", images=20, hospital="cost")
    assert not (tmp_path / "b").exists()


def test_oracle_prompts_say_all_that_is_true_and_weigh_as_often_as_it_is(tmp_path):
    data = write_phantom(tmp_path, images=20, test=10, size=16, hospital="coast")
    prompts = oracle_prompts(data, "polyp")
    assert sum(weight for _, weight in prompts) == pytest.approx(1)
    truths = [r.attributes for r in data.where(label="polyp", pool=("reference", "validation"))]
    dim = sum(weight for prompt, weight in prompts if ", dim," in prompt)
    assert dim == pytest.approx(np.mean([truth["light"] == "dim" for truth in truths]))
    assert {prompt for prompt, _ in prompts} == {true_caption(truth) for truth in truths}
    with pytest.raises(DatasetError, match="no image has the label 'cecum'"):
        oracle_prompts(data, "cecum")


def test_a_true_caption_is_what_the_training_captions_say():
    for scene in scenes("delta", 40, category="polyps"):
        said = " ".join(
            text for i in range(4) for text in captions(scene, np.random.default_rng(i), phrases=9)
        )
        told = true_caption(scene.attributes())
        assert all(part in said for part in told.split(", ")[-4:])
        assert f", {scene.count} polyp" in told
        assert f" {scene.color} " in told
