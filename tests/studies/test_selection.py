"""A part of a data set: which pictures, whole groups, and nothing written over."""

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from studies.dataset import Dataset, DatasetError, Record, read_dataset, write_metadata
from studies.selection import Selection, select


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """60 pictures of two categories in groups of two; every third one is dim, every fifth one has a box."""
    root = tmp_path / "whole"
    (root / "images").mkdir(parents=True)
    records = []
    for i in range(60):
        Image.new("RGB", (8, 8), (i, 90, 80)).save(root / "images" / f"{i:02d}.png")
        attributes = {"light": "dim"} if i % 3 == 0 else {"light": "bright"} if i % 3 == 1 else {}
        category = "polyps" if i < 40 else "normal"
        pool = ("reference", "reference", "validation", "test")[(i // 2) % 4]
        extra = {"marks": ["box", "text"]} if i % 5 == 0 else {}
        records.append(
            Record(
                f"images/{i:02d}.png",
                ("a caption",),
                category,
                category,
                "north",
                f"g{i // 2}",
                pool,  # type: ignore[arg-type]
                {**attributes, **extra},
            )
        )
    write_metadata(root, records)
    return read_dataset(root)


def test_conditions_all_or_any(data: Dataset, tmp_path: Path) -> None:
    both = select(data, tmp_path / "a", Selection(where={"light": ["dim"], "marks": ["box"]}, center="dusk"))
    assert [r.file_name for r in both] == [f"images/{i:02d}.png" for i in range(0, 60, 15)]
    assert {r.center for r in both} == {"dusk"}
    either = select(data, tmp_path / "b", Selection(where={"light": ["dim"], "marks": ["text"]}, any_of=True))
    assert len(either) == sum(i % 3 == 0 or i % 5 == 0 for i in range(60))
    assert (tmp_path / "a" / "images" / "15.png").read_bytes() == (data.root / "images/15.png").read_bytes()
    assert read_dataset(tmp_path / "a", verify_images=True).records == both.records


def test_a_condition_for_one_class_leaves_the_others_whole(data: Dataset, tmp_path: Path) -> None:
    dim = select(data, tmp_path / "a", Selection(where={"polyps:light": ["dim"]}))
    assert [r.file_name for r in dim] == [f"images/{i:02d}.png" for i in range(60) if i >= 40 or i % 3 == 0]
    where = {"polyps:light": ["dim"], "polyps:marks": ["box"], "normal:light": ["bright"]}
    either = select(data, tmp_path / "b", Selection(where=where, any_of=True))
    assert [int(r.file_name[7:9]) for r in either] == [
        i for i in range(60) if (i % 3 == 1 if i >= 40 else i % 3 == 0 or i % 5 == 0)
    ]
    with pytest.raises(DatasetError, match="polyp:light: no image has the label 'polyp'; there are normal"):
        select(data, tmp_path / "c", Selection(where={"polyp:light": ["dim"]}))
    with pytest.raises(DatasetError, match="no image has the attribute 'lights'"):
        select(data, tmp_path / "c", Selection(where={"polyps:lights": ["dim"]}))


def test_pools_anew_keep_groups_whole(data: Dataset, tmp_path: Path) -> None:
    shared = select(data, tmp_path / "a", Selection(shares=(0.2, 0.3, 0.5), seed=3))
    pools = {r.group: {o.pool for o in shared if o.group == r.group} for r in shared}
    assert all(len(own) == 1 for own in pools.values())
    assert Counter(r.pool for r in shared) == {"reference": 12, "validation": 18, "test": 30}
    again = select(data, tmp_path / "b", Selection(validation=0.25))
    assert {r.file_name for r in again if r.pool == "reference"} == {
        r.file_name for r in data if r.pool == "reference"
    }
    held = Counter(r.pool for r in again if r.pool != "reference")
    assert held["validation"] == pytest.approx(0.25 * held.total(), abs=2)


def test_what_is_left_may_train_a_generator(data: Dataset, tmp_path: Path) -> None:
    target = select(data, tmp_path / "target", Selection(where={"light": ["dim"]}, shares=(0.2, 0.3, 0.5)))
    rest = select(data, tmp_path / "rest", Selection(), without=[target])
    held_out = {r.group for r in target if r.pool != "reference"}
    assert held_out
    assert not held_out & {r.group for r in rest}
    assert {r.group for r in target if r.pool == "reference"} <= {r.group for r in rest}


def test_two_hospitals_in_one_set(data: Dataset, tmp_path: Path) -> None:
    chosen = Selection(where={"light": ["dim"]}, center="dusk", rest="day")
    both = select(data, tmp_path / "both", chosen)
    assert [r.file_name for r in both] == [r.file_name for r in data]
    assert Counter(r.center for r in both) == {"dusk": 20, "day": 40}
    assert {r.attributes.get("light") for r in both if r.center == "dusk"} == {"dim"}
    with pytest.raises(DatasetError, match="no image fits"):
        select(
            data,
            tmp_path / "none",
            Selection(where={"light": ["dim"]}, pools=("test",), groups=("g0",), rest="day"),
        )


def test_limits_count_pictures_of_each_category(data: Dataset, tmp_path: Path) -> None:
    few = select(data, tmp_path / "few", Selection(limits={"reference": 4}))
    counts = Counter((r.category, r.pool) for r in few)
    assert counts["polyps", "reference"] == counts["normal", "reference"] == 4
    assert counts["polyps", "test"] == sum(r.category == "polyps" and r.pool == "test" for r in data)


def test_the_same_again_replaces_and_anything_else_is_refused(data: Dataset, tmp_path: Path) -> None:
    chosen = Selection(where={"light": ["dim"]})
    first = select(data, tmp_path / "a", chosen)
    assert select(data, tmp_path / "a", chosen).records == first.records
    with pytest.raises(DatasetError, match="not the result of this selection"):
        select(data, tmp_path / "a", Selection(where={"light": ["bright"]}))
    with pytest.raises(DatasetError, match="one inside the other"):
        select(data, data.root / "part", chosen)


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        (
            Selection(where={"lights": ["dim"]}),
            "no image has the attribute 'lights'; there are light, marks",
        ),
        (Selection(where={"light": ["dark"]}), "no image has light 'dark'; values there: bright, dim"),
        (Selection(labels=("tube",)), "no image has the label 'tube'"),
        (Selection(pools=("train",)), "no image has the pool 'train'"),
        (
            Selection(where={"light": ["dim"]}, groups=("g1",), labels=("normal",)),
            "no image fits light=dim",
        ),
        (Selection(shares=(0.5, 0.5, 0.5)), "three numbers that add up to 1"),
        (Selection(shares=(1, 0, 0), validation=0.5), "leave one out"),
        (Selection(limits={"test": 0}), "give 1 or more"),
    ],
)
def test_what_cannot_be_is_refused(data: Dataset, tmp_path: Path, selection: Selection, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        select(data, tmp_path / "out", selection)
    assert not (tmp_path / "out").exists()
