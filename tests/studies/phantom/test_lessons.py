"""Lessons: captions that tell the truth about one thing, on pictures of the right kind."""

import re
from collections import Counter

import pytest

from studies.dataset import Dataset
from studies.phantom import write_phantom
from studies.phantom.lessons import write_lesson


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> Dataset:
    return write_phantom(tmp_path_factory.mktemp("phantom") / "set", images=300, size=16)


def test_the_lesson_in_place_tells_where_the_one_thing_is(phantom, tmp_path):
    lesson = write_lesson(phantom, tmp_path / "place", lesson="place")
    assert {record.category for record in lesson.records} == {"polyps", "instruments"}
    assert {record.pool for record in lesson.records} == {"reference"}
    for record in lesson.records:
        for text in record.text:
            assert text.endswith(f"located in the {record.attributes['locations'][0]}")
        assert len(record.attributes["locations"]) == 1


def test_the_lesson_in_number_tells_how_many_polyps_and_balances_them(phantom, tmp_path):
    lesson = write_lesson(phantom, tmp_path / "number", lesson="number")
    for record in lesson.records:
        told = {int(number) for text in record.text for number in re.findall(r"(\d) polyp", text)}
        assert told == {record.attributes["count"]}
        assert not any("located" in text for text in record.text)
    counts = Counter(record.attributes["count"] for record in lesson.records)
    assert max(counts[1], counts[2]) <= 2 * counts[3]


def test_the_review_keeps_every_category_and_every_caption(phantom, tmp_path):
    lesson = write_lesson(phantom, tmp_path / "review", lesson="review")
    assert {record.category for record in lesson.records} == {"polyps", "landmarks", "instruments", "normal"}
    full = {record.file_name: record.text for record in phantom.records}
    for record in lesson.records:
        assert record.text[: len(full[record.file_name])] == full[record.file_name]


def test_the_drill_is_the_lesson_in_number_among_others(phantom, tmp_path):
    drill = write_lesson(phantom, tmp_path / "drill", lesson="drill")
    number = write_lesson(phantom, tmp_path / "number", lesson="number")
    counted = {record.file_name: record for record in drill.records[: len(number)]}
    assert counted.keys() == {record.file_name for record in number.records}
    assert not counted.keys() & {record.file_name for record in drill.records[len(number) :]}
    assert {record.category for record in drill.records} == {"polyps", "landmarks", "instruments", "normal"}


def test_the_polish_shows_every_polyp_under_plain_words_as_well(phantom, tmp_path):
    polish = write_lesson(phantom, tmp_path / "polish", lesson="polish")
    polyps = [record for record in phantom.where(pool="reference").records if record.category == "polyps"]
    told = {record.file_name: record for record in polish.records if record.category == "polyps"}
    assert told.keys() == {record.file_name for record in polyps}
    assert {"landmarks", "instruments"} <= {record.category for record in polish.records}
    for record in polyps:
        text = told[record.file_name].text
        assert text[: len(record.text)] == record.text
        assert "a colonoscopy image of a polyp" in text
        assert f"a colonoscopy image of a {record.attributes['color']} polyp" in text


def test_a_lesson_is_the_same_each_time_and_leaves_the_pictures_as_they_are(phantom, tmp_path):
    one = write_lesson(phantom, tmp_path / "one", lesson="review", seed=3)
    again = write_lesson(phantom, tmp_path / "one", lesson="review", seed=3)
    assert one.records == again.records
    first = one.records[0].file_name
    assert (one.root / first).read_bytes() == (phantom.root / first).read_bytes()
