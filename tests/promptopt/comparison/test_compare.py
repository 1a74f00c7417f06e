"""Generators of known quality, compared."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evaluation.metrics.frechet import frechet_distance
from promptopt.comparison.output import write_comparison
from promptopt.comparison.run import REAL, Contender, GeneratorComparison, compare_generators
from promptopt.comparison.scopes import ComparisonError
from promptopt.space.prompt_lines import prompt_lines
from promptopt.synthesis.plan import Sampling
from studies.dataset import Dataset
from tests.promptopt.comparison.planted import EACH, TEXTS, Copier, Deaf, write_two_centers
from tests.promptopt.fakes import ColorEncoder, SquareGenerator

EAST, WEST, ALL = "single center: east", "single center: west", "multi center: east + west"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_two_centers(tmp_path_factory.mktemp("squares") / "data")


class Counting(ColorEncoder):
    """Knows how many images it has seen."""

    seen = 0

    def encode_images(self, images: Any) -> Any:
        type(self).seen += len(images)
        return super().encode_images(images)


def contenders(data: Dataset) -> list[Contender]:
    training = [data.path(record) for record in data.where(pool="reference")]
    return [
        Contender(name="good", generator=SquareGenerator()),
        Contender(name="deaf", generator=Deaf()),
        Contender(name="copier_1", generator=Copier(training=training)),
    ]


def run(data: Dataset, folder: Path, **changes: Any) -> GeneratorComparison:
    settings: dict[str, Any] = {
        "contenders": contenders(data),
        "encoders": [ColorEncoder()],
        "texts": TEXTS,
        "store": folder / "store",
    }
    return compare_generators(data, out=folder / "out", **{**settings, **changes})


@pytest.fixture(scope="module")
def found(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> GeneratorComparison:
    folder = tmp_path_factory.mktemp("comparison")
    comparison = run(data, folder)
    write_comparison(comparison, folder / "out")
    return comparison


@pytest.fixture(scope="module")
def out(found: GeneratorComparison) -> Path:
    return found.made[0].images.root.parent.parent


def value(found: GeneratorComparison, generator: str, metric: str, scope: str = ALL) -> float:
    (score,) = [s for s in found.of(scope=scope, metric=metric) if s.generator == generator]
    assert score.estimate.value is not None
    return score.estimate.value


@pytest.mark.slow
def test_the_planted_differences_are_found(found: GeneratorComparison) -> None:
    assert [scope.title for scope in found.scopes] == [EAST, WEST, ALL]
    for scope in (EAST, WEST, ALL):
        assert value(found, "good", "fd", scope) < value(found, "deaf", "fd", scope)
        assert value(found, "good", "alignment", scope) > value(found, "deaf", "alignment", scope) + 0.2
        assert value(found, "copier_1", "memorization", scope) > 0.9
        assert value(found, "good", "memorization", scope) < 0.2
        assert value(found, "good", "is", scope) > value(found, "deaf", "is", scope)
    assert all(score.estimate.n in (EACH, 2 * EACH) for score in found.of(metric="fd"))
    assert any("categories, fitted on the real" in note for note in found.notes)


def test_distances_are_those_of_the_centers_own_images(found: GeneratorComparison, data: Dataset) -> None:
    encoder = ColorEncoder()

    def features(paths: list[Path]) -> np.ndarray:
        return encoder.encode_images([Image.open(path) for path in paths])

    test = data.where(pool="test")
    with (found.made[0].images.root / "manifest.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for center, ground, scope in (("east", "black", EAST), ("west", "white", WEST)):
        real = features(test.where(center=center).paths())
        own = [found.made[0].images.root / r["file"] for r in rows if r["prompt"].lower().endswith(ground)]
        assert len(own) == EACH
        expected = frechet_distance(features(own), real).value
        assert value(found, "good", "fd", scope) == pytest.approx(expected)
    real = features(test.paths())
    expected = frechet_distance(features(list(found.made[0].images.paths)), real).value
    assert value(found, "good", "fd") == pytest.approx(expected)


def test_all_generators_are_asked_for_the_same(data: Dataset, tmp_path: Path) -> None:
    own = contenders(data)
    run(data, tmp_path, contenders=own, per_prompt=2, limit=5)
    asked = [[(r.prompt, r.seed) for r in c.generator.made] for c in own]  # type: ignore[union-attr]
    assert asked[0] == asked[1] == asked[2]
    assert len(set(asked[0])) == 10
    assert len({prompt for prompt, _ in asked[0]}) <= 5
    run(data, tmp_path, contenders=own, per_prompt=2, limit=7)  # begins with the five
    assert len(own[0].generator.made) == 14  # type: ignore[union-attr]


def test_real_images_show_what_is_in_reach(found: GeneratorComparison) -> None:
    for scope in (EAST, WEST, ALL):
        assert value(found, REAL, "fd", scope) < value(found, "good", "fd", scope)
    assert not [s for s in found.of(metric="memorization") if s.generator == REAL]


@pytest.mark.slow
def test_a_second_call_makes_nothing_and_writes_the_same(data: Dataset, tmp_path: Path) -> None:
    encoder = Counting()
    first = run(data, tmp_path, encoders=[encoder])
    assert sum(made.generated for made in first.made) == 3 * 2 * EACH
    write_comparison(first, tmp_path / "out")
    content = {p: p.read_bytes() for p in sorted((tmp_path / "out").iterdir()) if p.is_file()}
    assert len(content) == 1 + 1 + 6 + 4 + 1 + 3  # JSON, CSV, tables, charts, samples, pairs
    seen = Counting.seen
    own = contenders(data)
    second = run(data, tmp_path, encoders=[encoder], contenders=own)
    assert sum(made.generated for made in second.made) == 0
    assert not any(c.generator.made for c in own)  # type: ignore[union-attr]
    assert Counting.seen == seen
    write_comparison(second, tmp_path / "out")
    assert {p: p.read_bytes() for p in sorted((tmp_path / "out").iterdir()) if p.is_file()} == content


def test_tables_and_json_hold_the_same_numbers(found: GeneratorComparison, out: Path) -> None:
    document = json.loads((out / "comparison.json").read_text())
    assert [g["name"] for g in document["generators"]] == ["good", "deaf", "copier_1"]
    assert len(document["scores"]) == len(found.scores)
    with (out / "table-multi-center-east-west.csv").open(newline="") as stream:
        rows = {row["generator"]: row for row in csv.DictReader(stream)}
    assert list(rows) == [REAL, "good", "deaf", "copier_1"]
    assert float(rows["good"]["FD (colors):value"]) == pytest.approx(value(found, "good", "fd"), rel=1e-5)
    assert rows["good"]["FD (colors):status"] == "unreliable"
    assert rows["good"]["FD (colors):n"] == str(2 * EACH)
    with (out / "comparison.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == len(found.scores)


def test_the_latex_table_is_escaped_and_whole(out: Path) -> None:
    text = (out / "table-single-center-east.tex").read_text()
    assert r"copier\_1" in text
    assert "copier_1" not in text
    assert r"95 \% intervals" in text
    head, *body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(body) == 4
    assert {line.count("&") for line in (head, *body)} == {4}
    assert text.count("{") == text.count("}")
    for rule in ("toprule", "midrule", "bottomrule"):
        assert text.count(rf"\{rule}") == 1
    (good,) = [line for line in body if line.startswith("good")]
    assert "*" in good  # the distance is unreliable at this number of images


def test_charts_show_value_and_interval_and_leave_pyplot_alone(
    found: GeneratorComparison, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from promptopt.comparison.charts import chart

    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)  # another test may have loaded it
    scores = found.of(metric="fd")
    figure = chart(found, scores)
    panels = {axes.get_title(loc="left").rsplit(", n =", 1)[0]: axes for axes in figure.axes}
    assert list(panels) == [scope.title for scope in found.scopes]
    for scope, axes in panels.items():
        own = [score.estimate for score in scores if score.scope == scope]
        drawn = [bar.lines for bar in axes.containers]
        assert [point.get_xdata()[0] for point, _, _ in drawn] == pytest.approx([e.value for e in own])
        spans = [sorted(end[0] for end in line.get_segments()[0]) for _, _, (line,) in drawn]
        assert np.allclose(spans, [[e.low, e.high] for e in own])
        assert [text.get_text() for text in axes.get_yticklabels()] == [
            score.generator for score in scores if score.scope == scope
        ]
    assert "FD (colors), lower is better" in figure.axes[-1].get_xlabel()
    assert "matplotlib.pyplot" not in sys.modules
    for name in ("fd-colors", "is-probe-on-colors", "alignment-margin-colors", "memorized"):
        with Image.open(out / f"chart-{name}.png") as picture:
            assert picture.width > 400


def test_samples_are_a_row_for_each_generator(found: GeneratorComparison, out: Path) -> None:
    with Image.open(out / "samples.png") as sheet:
        assert sheet.width == 6 + 8 * 134
        rows = sheet.height
    assert rows > 4 * 128
    assert len(list(out.glob("pairs-*.png"))) == 3


@pytest.mark.slow
def test_the_published_split_and_the_files_of_another_one(data: Dataset, tmp_path: Path) -> None:
    write_comparison(run(data, tmp_path, contenders=contenders(data)[:1]), tmp_path / "out")
    assert (tmp_path / "out" / "table-single-center-west.tex").exists()
    (tmp_path / "out" / "table-mine.txt").write_text("mine")
    found = run(data, tmp_path, contenders=contenders(data)[:1], single="east")
    assert [scope.title for scope in found.scopes] == [EAST, "other center: west", "both"]
    assert any("not multi-center" in note for note in found.notes)
    write_comparison(found, tmp_path / "out")
    assert not (tmp_path / "out" / "table-single-center-west.tex").exists()
    assert (tmp_path / "out" / "table-mine.txt").exists()


def test_prompts_of_ones_own_belong_to_no_center(data: Dataset, tmp_path: Path) -> None:
    own = contenders(data)[:1]
    prompts = prompt_lines(["a red square on black"] * 12 + ["a red square"] * 12)
    found = run(data, tmp_path, contenders=own, prompts=prompts, category="red")
    assert {score.scope for score in found.of(metric="fd")} == {EAST, WEST, ALL}
    assert {score.scope for score in found.of(metric="alignment")} == {ALL}
    assert value(found, "good", "fd", EAST) < value(found, "good", "fd", WEST)  # they ask for black
    assert any("belong to no center" in note for note in found.notes)
    silent = run(data, tmp_path, contenders=own, prompts=prompts)
    assert not [s for s in silent.of(metric="alignment") if s.generator == "good"]
    assert any("--category" in note for note in silent.notes)
    write_comparison(found, tmp_path / "out")


def test_one_center_is_not_repeated(tmp_path: Path) -> None:
    data = write_two_centers(tmp_path / "data", centers=["only"])
    found = run(data, tmp_path, contenders=contenders(data)[:1], limit=12)
    assert [scope.title for scope in found.scopes] == ["single center: only"]
    assert any("no multi-center table" in note for note in found.notes)
    assert {score.scope for score in found.scores} == {"single center: only"}


def test_what_cannot_be_measured_is_undefined_and_said(tmp_path: Path) -> None:
    data = write_two_centers(tmp_path / "data", held_out=4)
    found = run(data, tmp_path, contenders=contenders(data)[:1], limit=4, texts={"red": TEXTS["red"]})
    (copies, *_) = found.of(metric="memorization", scope=ALL)
    assert copies.estimate.status == "undefined"  # 56 held-out images allow no alarm in a hundred
    (score,) = [s for s in found.of(metric="is", scope=ALL) if s.generator == "good"]
    assert score.estimate.status == "undefined"
    assert any("there are no texts for green" in note for note in found.notes)
    write_comparison(found, tmp_path / "out")
    assert "--" in (tmp_path / "out" / "table-single-center-east.tex").read_text()
    json.loads((tmp_path / "out" / "comparison.json").read_text())


def test_broken_requests_are_refused_before_anything_is_made(data: Dataset, tmp_path: Path) -> None:
    one = contenders(data)[:1]
    for changes, said in (
        ({"contenders": []}, "give one or more"),
        ({"contenders": one * 2}, "its own name"),
        ({"encoders": []}, "no encoder"),
        ({"single": "north"}, "centers are east, west"),
        ({"limit": 0}, "limit is 0"),
    ):
        with pytest.raises(ComparisonError, match=said):
            run(data, tmp_path, **{"contenders": one, **changes})  # type: ignore[arg-type]
    with pytest.raises(ComparisonError, match="no image in the pool"):
        run(data.where(pool="test"), tmp_path, contenders=one, pool="validation")
    for name in ("", "../x", "a b", REAL, "a/b", ".a"):
        with pytest.raises(ComparisonError, match="generator name"):
            Contender(name=name, generator="embedded")
    assert not (tmp_path / "out").exists()


def test_settings_belong_to_a_generator(data: Dataset, tmp_path: Path) -> None:
    own = [
        Contender(name="a", generator=SquareGenerator(), sampling=Sampling(steps=9, guidance=2.0)),
        Contender(name="b", generator=SquareGenerator()),
    ]
    found = run(data, tmp_path, contenders=own, limit=2)
    assert [made.sampling["steps"] for made in found.made] == [9, 4]


def test_a_generator_may_have_words_of_its_own(data: Dataset, tmp_path: Path) -> None:
    plain, dream = SquareGenerator(), SquareGenerator()
    own = [
        Contender(name="plain", generator=plain),
        Contender(name="dream", generator=dream, words={"square": "sks square"}),
    ]
    found = run(data, tmp_path, contenders=own, limit=3)
    asked = {(r.prompt.lower().replace("square", "sks square"), r.seed) for r in plain.made}
    assert {(r.prompt.lower(), r.seed) for r in dream.made} == asked
    assert all("sks square" in r.prompt for r in dream.made)
    assert found.to_dict()["generators"][1]["sampling"]["words"] == {"square": "sks square"}
    wrong = Contender(name="w", generator=SquareGenerator(), words={"no such words": "x"})
    with pytest.raises(ComparisonError, match="no prompt has the words 'no such words'"):
        run(data, tmp_path / "other", contenders=[wrong], limit=3)
