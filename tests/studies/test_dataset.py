"""The prepared data set: what is written is read back, and what is wrong is refused with its place."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from studies.dataset import DatasetError, Record, read_dataset, write_metadata

RECORD = Record(
    file_name="images/a.png",
    text=("Generate an image containing a polyp.",),
    category="polyps",
    label="polyp",
    center="north",
    group="7",
    pool="reference",
    attributes={"count": 2, "locations": ["center"], "color": None},
)
OTHER = replace(RECORD, file_name="images/b.png", group="8", pool="test", category="normal", label="normal")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name in "ab":
        Image.new("RGB", (8, 6), (200, 90, 80)).save(tmp_path / "images" / f"{name}.png")
    return tmp_path


def rewrite(root: Path, **changes: object) -> None:
    """Write a line by hand, with values changed or (for ``...``) taken out."""
    value = {
        "file_name": "images/a.png",
        "text": "a caption",
        "category": "polyps",
        "label": "polyp",
        "center": "north",
        "group": "7",
        "pool": "reference",
    } | changes
    line = json.dumps({key: v for key, v in value.items() if v is not ...})
    (root / "metadata.jsonl").write_text(line + "\n", "utf-8")


def test_what_is_written_is_read_back(root: Path) -> None:
    path = write_metadata(root, [RECORD, OTHER])
    data = read_dataset(root, verify_images=True)
    assert path == root / "metadata.jsonl"
    assert data.records == (RECORD, OTHER)
    assert data.paths() == [root / "images/a.png", root / "images/b.png"]
    assert len(data) == 2
    assert list(data) == [RECORD, OTHER]
    assert sorted(p.name for p in root.iterdir()) == ["images", "metadata.jsonl"]


def test_text_has_one_type_in_the_whole_file(root: Path) -> None:
    write_metadata(root, [RECORD, replace(OTHER, text=("one", "two"))])
    texts = [json.loads(line)["text"] for line in (root / "metadata.jsonl").read_text().splitlines()]
    assert texts == [["Generate an image containing a polyp."], ["one", "two"]]
    write_metadata(root, [RECORD])
    assert isinstance(json.loads((root / "metadata.jsonl").read_text())["text"], str)


def test_fingerprint_follows_the_file_and_survives_selection(root: Path) -> None:
    write_metadata(root, [RECORD, OTHER])
    before = read_dataset(root)
    assert before.where(pool="test").fingerprint == before.fingerprint
    write_metadata(root, [RECORD])
    assert read_dataset(root).fingerprint != before.fingerprint


def test_where_joins_conditions(root: Path) -> None:
    write_metadata(root, [RECORD, OTHER])
    data = read_dataset(root)
    assert data.where(pool=("reference", "validation")).records == (RECORD,)
    assert data.where(category="normal", center="north").records == (OTHER,)
    assert data.where(category="normal", pool="reference").records == ()
    assert data.where(label=[]).records == ()
    with pytest.raises(DatasetError, match=r"'training' does not exist; use one of reference"):
        data.where(pool="training")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pool": "train"}, r"line 1: key 'pool': got 'train'; use one of reference, validation, test"),
        ({"pool": ...}, r"line 1: key 'pool' is missing"),
        ({"size": 3}, r"line 1: unknown key 'size'; .*'attributes'"),
        ({"label": ""}, r"key 'label': got ''"),
        ({"group": 3}, r"key 'group': got 3; write a string"),
        ({"text": []}, r"key 'text': got \[\]"),
        ({"text": ["a", " "]}, r"key 'text'"),
        ({"attributes": [1]}, r"key 'attributes': got \[1\]"),
        ({"file_name": "../a.png"}, r"got '../a.png'; write a path inside"),
        ({"file_name": "/etc/hostname"}, r"write a path inside"),
        ({"file_name": "images/../../a.png"}, r"write a path inside"),
        ({"file_name": "images\\a.png"}, r"write a path inside"),
        ({"file_name": "./images/a.png"}, r"write a path inside"),
        ({"file_name": "images/c.png"}, r"there is no image 'images/c.png'"),
    ],
)
def test_a_bad_line_is_refused(root: Path, changes: dict[str, object], said: str) -> None:
    rewrite(root, **changes)
    with pytest.raises(DatasetError, match=said) as error:
        read_dataset(root)
    assert str(root / "metadata.jsonl") in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no record"),
        (b"\n\n", "holds no record"),
        (b"{'a': 1}\n", r"line 1, column 2: not JSON"),
        (b"\n[1]\n", r"line 2: got '\[1\]'"),
        (b'{"pool": NaN}\n', r"NaN is not a JSON value"),
        (b'{"pool": "test", "pool": "reference"}\n', r"key 'pool' comes twice"),
        (b"\xff\xfe", r"not UTF-8 at byte 0"),
    ],
)
def test_a_file_that_is_not_jsonl_is_refused(root: Path, content: bytes, said: str) -> None:
    (root / "metadata.jsonl").write_bytes(content)
    with pytest.raises(DatasetError, match=said):
        read_dataset(root)


def test_a_byte_order_mark_and_windows_line_ends_are_read(root: Path) -> None:
    write_metadata(root, [RECORD])
    file = root / "metadata.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert read_dataset(root).records == (RECORD,)


def test_missing_folder_and_file_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        read_dataset(tmp_path / "absent")
    with pytest.raises(DatasetError, match=r"metadata.jsonl: no such file"):
        read_dataset(tmp_path)


def test_a_link_out_of_the_folder_is_refused(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.png"
    Image.new("RGB", (4, 4)).save(outside)
    (root / "images/c.png").symlink_to(outside)
    rewrite(root, file_name="images/c.png")
    with pytest.raises(DatasetError, match="link that leaves the folder"):
        read_dataset(root)


def test_truncated_pictures_are_found_when_asked(root: Path) -> None:
    write_metadata(root, [RECORD])
    Image.effect_noise((64, 64), 50).convert("RGB").save(root / "whole.jpg")
    (root / "images/a.png").write_bytes((root / "whole.jpg").read_bytes()[:900])
    assert len(read_dataset(root)) == 1
    with pytest.raises(DatasetError, match=r"'images/a.png' cannot be decoded .*truncated"):
        read_dataset(root, verify_images=True)


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([RECORD, RECORD], r"record 2: key 'file_name': 'images/a.png' was already used in .*record 1"),
        (
            [RECORD, replace(OTHER, group="7")],
            r"group '7' is in 'test' here and in 'reference' in .*record 1",
        ),
        ([replace(RECORD, file_name="../x.png")], "write a path inside"),
        ([replace(RECORD, text=())], "key 'text'"),
        ([replace(RECORD, text="a caption")], "tuple of captions"),
        ([replace(RECORD, pool="train")], "key 'pool'"),
        ([replace(RECORD, attributes={"x": float("nan")})], "key 'attributes'"),
        ([], "no record to write"),
    ],
)
def test_records_that_must_not_be_written(root: Path, records: list[Record], said: str) -> None:
    write_metadata(root, [OTHER])
    before = (root / "metadata.jsonl").read_bytes()
    with pytest.raises(DatasetError, match=said):
        write_metadata(root, records)
    assert (root / "metadata.jsonl").read_bytes() == before


def test_a_group_in_two_pools_is_refused_on_reading(root: Path) -> None:
    write_metadata(root, [RECORD, OTHER])
    file = root / "metadata.jsonl"
    file.write_text(file.read_text().replace('"group": "8"', '"group": "7"'))
    with pytest.raises(DatasetError, match=r"line 2: key 'pool': group '7' is in 'test'"):
        read_dataset(root)
