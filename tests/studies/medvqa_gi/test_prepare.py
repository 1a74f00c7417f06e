"""The organizers' files made into a data set: what is kept, what is left out and said, what is refused."""

import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from studies.dataset import DatasetError, read_dataset
from studies.grammar import Grammar
from studies.medvqa_gi import PrepareReport, prepare_2024
from tests.studies.medvqa_gi.conftest import scene

CAPTIONS = "prompt-gt.csv"


def write_listing(source: Path, rows: list[dict[str, object]]) -> None:
    (source / "images.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def listing(source: Path) -> list[dict[str, object]]:
    """Pairs of pictures share a group; the first 20 are for training."""
    names = sorted(path.name for path in (source / "images").iterdir())
    return [
        {"file": name, "group": i // 2, "split": "train" if i < 20 else "test", "width": 72}
        for i, name in enumerate(names)
    ]


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_pools_groups_and_pictures(source: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    report = prepare_2024(
        source, tmp_path / "out", center="north", on_progress=lambda *done: told.append(done)
    )
    data = read_dataset(tmp_path / "out", verify_images=True)
    assert len(data) == report.images == 30
    assert Counter((r.category, r.pool) for r in data) == {
        ("polyps", "reference"): 12,
        ("polyps", "validation"): 4,
        ("polyps", "test"): 4,
        ("normal", "reference"): 6,
        ("normal", "validation"): 2,
        ("normal", "test"): 2,
    }
    assert {r.center for r in data} == {"north"}
    first = next(r for r in data if r.file_name == "images/p00.jpg")
    assert first.text == ("Generate an image with 1 polyp.", "Generate an image containing text.")
    assert (first.category, first.label) == ("polyps", "polyp")
    for record in data:
        original = source / "images" / Path(record.file_name).name
        assert data.path(record).read_bytes() == original.read_bytes()
    assert told == [(i, 30) for i in range(1, 31)]


def test_the_report_is_written_and_counts_what_is_there(source: Path, tmp_path: Path) -> None:
    report = prepare_2024(source, tmp_path / "out")
    assert json.loads((tmp_path / "out/prepare-report.json").read_text()) == report.to_json()
    assert (report.prompts, report.distinct_prompts, report.groups) == (60, 3, 30)
    assert report.by_category == {"polyps": 20, "normal": 10}
    assert report.by_pool == {"reference": 18, "validation": 6, "test": 6}
    assert report.grouping == "near-duplicates"
    rows = dict(report.rows())
    assert rows["images"] == "30"
    assert rows["polyps in validation"] == "4"
    assert rows["left out: broken images"] == "0"


def test_same_input_same_output_and_seed_and_row_order(source: Path, tmp_path: Path) -> None:
    reports = [prepare_2024(source, tmp_path / name) for name in ("one", "two")]
    assert files_in(tmp_path / "one") == files_in(tmp_path / "two")
    assert reports[0] == reports[1]
    prepare_2024(source, tmp_path / "three", seed=1)
    pools = [[r.pool for r in read_dataset(tmp_path / name)] for name in ("one", "three")]
    assert pools[0] != pools[1]
    header, *rows = (source / CAPTIONS).read_text().splitlines()
    (source / CAPTIONS).write_text("\n".join([header, *sorted(rows, reverse=True)]) + "\n")
    prepare_2024(source, tmp_path / "four")
    assert [r.pool for r in read_dataset(tmp_path / "four")] == pools[0]


def test_near_duplicates_stay_in_one_pool(source: Path, tmp_path: Path) -> None:
    # The same scenes, made smaller, brighter, and saved badly.
    extra = []
    for i in range(0, 20, 2):
        image = scene(i).resize((80, 64)).point(lambda v: min(255, v + 12))
        image.save(source / "images" / f"again{i:02d}.jpg", quality=60)
        extra.append(f"Generate an image with 1 polyp.;again{i:02d}.jpg\n")
    with (source / CAPTIONS).open("a") as stream:
        stream.writelines(extra)
    report = prepare_2024(source, tmp_path / "out")
    records = {r.file_name: r for r in read_dataset(tmp_path / "out")}
    for i in range(0, 20, 2):
        one, other = records[f"images/p{i:02d}.jpg"], records[f"images/again{i:02d}.jpg"]
        assert (one.group, one.pool) == (other.group, other.pool)
    assert (report.groups, report.shared_groups, report.duplicates) == (30, 10, ())


def test_a_list_of_groups_and_sides_is_followed(source: Path, tmp_path: Path) -> None:
    rows = listing(source)
    rows[0]["center"] = "south"
    write_listing(source, rows)
    report = prepare_2024(source, tmp_path / "out", center="north")
    records = {Path(r.file_name).name: r for r in read_dataset(tmp_path / "out")}
    for row in rows:
        record = records[str(row["file"])]
        assert record.group == str(row["group"])
        assert (record.pool == "test") == (row["split"] == "test")
    assert report.by_pool == {"reference": 16, "validation": 4, "test": 10}
    assert report.by_center == {"north": 29, "south": 1}
    assert (report.grouping, report.groups, report.shared_groups) == ("images.jsonl", 15, 15)


def test_identical_files_join_listed_groups_and_must_not_cross_the_split(
    source: Path, tmp_path: Path
) -> None:
    images = source / "images"
    (images / "n02.jpg").write_bytes((images / "n00.jpg").read_bytes())
    write_listing(source, listing(source))
    report = prepare_2024(source, tmp_path / "out")
    assert report.duplicates == (("n00.jpg", "n02.jpg"),)
    assert report.groups == 14
    (images / "p19.jpg").write_bytes((images / "n00.jpg").read_bytes())
    with pytest.raises(
        DatasetError, match=r"line 30: key 'split': 'p19.jpg' is 'test', but its copy 'n00.jpg'"
    ):
        prepare_2024(source, tmp_path / "out2")


def test_nothing_is_left_out_in_silence(source: Path, tmp_path: Path) -> None:
    images = source / "images"
    (images / "p00.jpg").write_bytes((images / "p00.jpg").read_bytes()[:700])
    (images / "p01.jpg").write_text("not a picture")
    (images / "lonely.jpg").write_bytes((images / "p02.jpg").read_bytes())
    (images / ".DS_Store").write_text("x")
    with (source / CAPTIONS).open("a") as stream:
        stream.write("Generate an image with 1 polyp.;gone.jpg\n")
        stream.write("Generate an image with 1 polyp.;p02.jpg\n")
        stream.write("Generate an image of a giraffe.;p03.jpg\n")
        stream.write("Generate an image with an an abnormality located in the center.;p04.jpg\n")
        stream.write("Draw a polyp.;odd.jpg\n")
    scene(99).save(images / "odd.jpg")
    report = prepare_2024(source, tmp_path / "out")
    assert report.images == 28
    assert set(report.broken) == {"p00.jpg", "p01.jpg"}
    assert "truncated" in report.broken["p00.jpg"]
    assert str(tmp_path) not in json.dumps(report.to_json())
    assert report.images_without_caption == ("lonely.jpg",)
    assert report.captions_without_image == ("gone.jpg",)
    assert report.images_without_readable_caption == ("odd.jpg",)
    assert report.repeated_rows == 1
    assert set(report.unparsed) == {"Generate an image of a giraffe.", "Draw a polyp."}
    assert report.quirks == {"'an an' read as 'an'": 1}
    records = {Path(r.file_name).name: r for r in read_dataset(tmp_path / "out")}
    assert len(records) == 28
    assert "Generate an image of a giraffe." in records["p03.jpg"].text
    said = dict(report.rows())
    assert said["left out: broken images"] == "2"
    assert said["captions that could not be read"] == "2"


HEAD = "Prompt;Filename\n"
ROW = "Generate an image with 1 polyp.;p00.jpg\n"


@pytest.mark.parametrize(
    "content", ["\ufeff" + HEAD + ROW, (HEAD + ROW).replace("\n", "\r\n"), HEAD + "\n" + ROW]
)
def test_tables_as_other_programs_save_them(source: Path, tmp_path: Path, content: str) -> None:
    (source / CAPTIONS).write_bytes(content.encode())
    report = prepare_2024(source, tmp_path / "out")
    assert (report.images, len(report.images_without_caption)) == (1, 29)
    assert report.by_pool == {"reference": 1, "validation": 0, "test": 0}


def test_columns_may_be_swapped(source: Path, tmp_path: Path) -> None:
    (source / CAPTIONS).write_text('Filename;Prompt\np00.jpg;"Generate an image with 1 polyp."\n')
    prepare_2024(source, tmp_path / "out")
    assert read_dataset(tmp_path / "out").records[0].text == ("Generate an image with 1 polyp.",)


def test_captions_of_several_lines_are_rows_and_rows_are_counted(source: Path, tmp_path: Path) -> None:
    with (source / CAPTIONS).open("a", encoding="utf-8", newline="") as stream:
        stream.write('"Generate an image\r\nof a polyp; red.";p00.jpg\n')
    report = prepare_2024(source, tmp_path / "out")
    assert ("rows of prompt-gt.csv", "61") in report.rows()
    assert "Generate an image\r\nof a polyp; red." in read_dataset(tmp_path / "out").records[10].text


def test_a_name_in_other_letter_case_is_refused_with_both_spellings(source: Path, tmp_path: Path) -> None:
    file = source / CAPTIONS
    file.write_text(file.read_text().replace("n00.jpg", "N00.JPG"))
    with pytest.raises(DatasetError, match=r"line 42: .*'N00.JPG', but 'n00.jpg', which differs in upper"):
        prepare_2024(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"prompt-gt.csv: is empty"),
        ("Prompt;Filename\na;b\n".encode("utf-16"), r"it is UTF-16"),
        ((HEAD + '"a;p00.jpg\nb;p01.jpg\nc";p02.jpg\n').encode(), r"line 2: .*spans another row"),
        (b"\xef\xbb\xbf", r"is empty"),
        (HEAD.encode(), r"a header but no caption"),
        (b"Prompt,Filename\na,b\n", r"line 1: .*separated by ','; the separator is ';'"),
        (b"Prompt\tFilename\na\tb\n", r"separated by '\\t'"),
        (b"Prompt;File\na;b\n", r"line 1: got 'Prompt;File', without 'Filename'"),
        (b"Prompt;Filename;Center\na;b;c\n", r"line 1: .*no more columns"),
        (ROW.encode(), r"line 1: .*without 'Prompt'"),
        ((HEAD + ROW + "one field\n").encode(), r"line 3: 1 fields"),
        ((HEAD + "a;b;p00.jpg\n").encode(), r"line 2: 3 fields .*double quotes"),
        ((HEAD + ROW + ";p00.jpg\n").encode(), r"line 3: column 'Prompt' is empty"),
        ((HEAD + "a; \n").encode(), r"line 2: column 'Filename' is empty"),
        (
            (HEAD + "a;../../etc/passwd\n").encode(),
            r"line 2: Filename '../../etc/passwd' is not a plain file name",
        ),
        ((HEAD + "a;/etc/passwd\n").encode(), r"not a plain file name"),
        ((HEAD + '"a;p00.jpg\n').encode(), r"line 2: .*Correct the quotes"),
        (b"Prompt;Filename\n\xe9;b\n", r"not UTF-8 at byte 16"),
    ],
)
def test_a_bad_table_is_refused(source: Path, tmp_path: Path, content: bytes, said: str) -> None:
    (source / CAPTIONS).write_bytes(content)
    with pytest.raises(DatasetError, match=said) as error:
        prepare_2024(source, tmp_path / "out")
    assert str(source / CAPTIONS) in str(error.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]


@pytest.mark.parametrize(
    ("index", "change", "said"),
    [
        (3, {"split": "val"}, r"line 4: key 'split': got 'val'; write 'train' or 'test'"),
        (3, {"group": None}, r"line 4: key 'group': got None"),
        (3, {"file": "n00.jpg"}, r"line 4: key 'file': 'n00.jpg' was already listed in line 1"),
        (3, {"file": "../n03.jpg"}, r"line 4: file '../n03.jpg' is not a plain file name"),
        (3, {"file": "other.jpg"}, r"does not list 'n03.jpg'"),
        (3, {"split": "test"}, r"line 4: key 'split': group 1 is in 'test' here and in 'train' in line 3"),
        (3, {"center": 5}, r"line 4: key 'center': got 5"),
    ],
)
def test_a_bad_list_is_refused(
    source: Path, tmp_path: Path, index: int, change: dict[str, object], said: str
) -> None:
    rows = listing(source)
    rows[index] |= change
    write_listing(source, rows)
    with pytest.raises(DatasetError, match=said):
        prepare_2024(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("{", r"line 1, column 2: not JSON"),
        ("[]", "one JSON object"),
        ("{}", "key 'file' is missing"),
    ],
)
def test_a_list_that_is_not_jsonl_is_refused(source: Path, tmp_path: Path, content: str, said: str) -> None:
    (source / "images.jsonl").write_text(content)
    with pytest.raises(DatasetError, match=said):
        prepare_2024(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"shares": (0.6, 0.2, 0.3)}, "add up to 1"),
        ({"shares": (1.2, -0.1, -0.1)}, "add up to 1"),
        ({"shares": (float("nan"), 0.5, 0.5)}, "add up to 1"),
        ({"shares": (0.0, 0.0, 1.0)}, "shares"),
        ({"seed": -1}, "seed: got -1"),
        ({"center": " "}, "center: got ' '"),
    ],
)
def test_bad_settings_are_refused(source: Path, tmp_path: Path, settings: dict, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        prepare_2024(source, tmp_path / "out", **settings)


def test_missing_parts_are_named(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"prompt-gt.csv: no such file"):
        prepare_2024(tmp_path / "absent", tmp_path / "out")
    (source / "images").rename(source / "pictures")
    with pytest.raises(DatasetError, match=r"images: no such folder"):
        prepare_2024(source, tmp_path / "out")
    (source / "images").mkdir()
    with pytest.raises(DatasetError, match=r"no image is left of 0 .*check that prompt-gt.csv names"):
        prepare_2024(source, tmp_path / "out")


def test_a_link_out_of_the_images_is_refused(source: Path, tmp_path: Path) -> None:
    scene(1).save(tmp_path / "outside.jpg")
    (source / "images/link.jpg").symlink_to(tmp_path / "outside.jpg")
    with pytest.raises(DatasetError, match=r"link.jpg: is a link that leaves the folder"):
        prepare_2024(source, tmp_path / "out")


def test_only_its_own_result_is_replaced(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    prepare_2024(source, out)
    before = files_in(out)
    prepare_2024(source, out)
    assert files_in(out) == before
    with pytest.raises(DatasetError, match=r"was prepared with seed 0, not 1; choose another folder"):
        prepare_2024(source, out, seed=1)
    (out / "images/mine.jpg").write_text("x")
    with pytest.raises(DatasetError, match=r"holds 'images/mine.jpg', which the preparation did not write"):
        prepare_2024(source, out)
    (out / "images/mine.jpg").unlink()
    (out / "notes.txt").write_text("x")
    with pytest.raises(DatasetError, match=r"holds 'notes.txt'"):
        prepare_2024(source, out)
    (out / "notes.txt").unlink()
    (out / "prepare-report.json").write_text("{}")
    with pytest.raises(DatasetError, match="not a report"):
        prepare_2024(source, out)
    (out / "prepare-report.json").unlink()
    with pytest.raises(DatasetError, match=r"is not empty and holds no prepare-report.json"):
        prepare_2024(source, out)
    left = files_in(out)
    assert left == {name: content for name, content in before.items() if name != "prepare-report.json"}


def test_a_result_from_other_captions_is_not_replaced(source: Path, tmp_path: Path) -> None:
    prepare_2024(source, tmp_path / "out")
    with (source / CAPTIONS).open("a") as stream:
        stream.write("Generate an image from a colonoscopy procedure.;p00.jpg\n")
    with pytest.raises(
        DatasetError, match=r"was prepared with inputs .*choose another folder, or delete this one"
    ):
        prepare_2024(source, tmp_path / "out")


def test_out_and_source_lie_apart(source: Path) -> None:
    for out in (source, source / "out", source.parent):
        with pytest.raises(DatasetError, match="one inside the other"):
            prepare_2024(source, out)


def test_a_failure_while_writing_leaves_the_former_result(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    prepare_2024(source, out)
    before = files_in(out)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("studies.medvqa_gi.prepare.write_metadata", full)
    with pytest.raises(OSError, match="No space left"):
        prepare_2024(source, out)
    assert files_in(out) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "source"]


@pytest.mark.parametrize("format_", ["PNG", "BMP", "WEBP"])
def test_other_formats_and_modes(source: Path, tmp_path: Path, format_: str) -> None:
    name = f"x.{format_.lower()}"
    mode = {"PNG": "RGBA", "BMP": "L", "WEBP": "RGB"}[format_]
    scene(50).convert(mode).save(source / "images" / name, format=format_)
    (source / CAPTIONS).write_text(HEAD + ROW.replace("p00.jpg", name))
    assert prepare_2024(source, tmp_path / "out").images == 1
    with Image.open(tmp_path / "out/images" / name) as image:
        assert image.mode == mode


def prepared(source: Path, out: Path) -> PrepareReport:
    report = prepare_2024(source, out)
    pools: dict[str, set[str]] = {}
    for record in read_dataset(out):
        pools.setdefault(record.group, set()).add(record.pool)
    assert all(len(where) == 1 for where in pools.values())
    return report


def test_the_real_patches(shared_data: Path, tmp_path: Path) -> None:
    report = prepared(shared_data / "kvasir-seg-patches", tmp_path / "out")
    assert report.by_category == {"polyps": 1000, "normal": 793}
    assert (report.images, report.groups, report.by_pool["test"]) == (1793, 995, 337)
    assert report.by_pool["reference"] + report.by_pool["validation"] == 1456
    assert (report.broken, report.unparsed, report.quirks, report.duplicates) == ({}, {}, {}, ())


@pytest.mark.slow
def test_the_real_images_and_their_near_duplicates(shared_data: Path, tmp_path: Path) -> None:
    """Without the list, the looks alone find four of its five pairs (one differs more), and no others."""
    given = shared_data / "kvasir-seg"
    listed = [json.loads(line) for line in (given / "images.jsonl").read_text().splitlines()]
    source = tmp_path / "source"
    (source / "images").mkdir(parents=True)
    for path in (given / "images").iterdir():
        (source / "images" / path.name).write_bytes(path.read_bytes())
    (source / CAPTIONS).write_bytes((given / CAPTIONS).read_bytes())
    report = prepared(source, tmp_path / "out")
    assert (report.images, report.by_category) == (1000, {"polyps": 1000})
    assert (report.broken, report.unparsed) == ({}, {})
    known = {row["file"]: row["group"] for row in listed}
    found: dict[str, list[str]] = {}
    for record in read_dataset(tmp_path / "out"):
        found.setdefault(record.group, []).append(Path(record.file_name).name)
    shared = [names for names in found.values() if len(names) > 1]
    assert len(shared) == 4
    assert all(len({known[name] for name in names}) == 1 for names in shared)


def test_a_grammar_makes_attributes_and_captions(source: Path, tmp_path: Path) -> None:
    rows = (source / CAPTIONS).read_text("utf-8").splitlines()
    rows += ["Generate a dim image containing a polyp.;p00.jpg", "Something else.;p01.jpg"]
    (source / CAPTIONS).write_text("\n".join(rows) + "\n", "utf-8")
    grammar = Grammar.model_validate(
        {
            "slots": {"light": ["dim"], "tone": ["reddish", "yellowish"]},
            "measure": {"redness": {"slot": "tone", "low": "yellowish", "high": "reddish"}},
            "captions": {"of": {"polyps": "a[ {light}] polyp[, {tone}]"}, "own": False, "count": 30},
        }
    )
    report = prepare_2024(source, tmp_path / "out", grammar=grammar)
    data = {r.file_name: r for r in read_dataset(tmp_path / "out")}
    assert list(report.unparsed) == ["Something else."]
    assert data["images/p00.jpg"].attributes["light"] == "dim"
    assert "a dim polyp" in data["images/p00.jpg"].text
    assert "Generate an image containing text." in data["images/n00.jpg"].text  # no pattern for it
    assert report.attributes["light"] == {"dim": 1}
    assert sum(report.attributes["tone"].values()) == 12  # the lowest and the highest fifth of 30
    with pytest.raises(DatasetError, match="prepared with inputs"):
        prepare_2024(source, tmp_path / "out")
