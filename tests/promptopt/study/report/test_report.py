"""The report and the tables: complete, self-contained, and no stronger than the numbers."""

import base64
import csv
import io
import json
import re
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import roc_auc_score

from evaluation.estimate import Estimate
from evaluation.features.feature_store import FeatureStore
from evaluation.metrics.alignment import class_weights, margins
from promptopt.base.files import file_digest
from promptopt.formatting.numbers import format_estimate, signed
from promptopt.run.prompts import PromptList
from promptopt.run.trials import latest
from promptopt.search.model.effects import slot_effects
from promptopt.space import compile_template
from promptopt.study.report import figures, words
from promptopt.study.report.calibration import CalibrationRow, calibration_sentence
from promptopt.study.report.likeness import nearest_pairs
from promptopt.study.report.pictures import embed, embed_file
from promptopt.study.report.tradeoffs import front
from promptopt.study.report.words import verdict
from promptopt.study.run import StudyResult, show
from promptopt.study.tables import write_effects
from studies.dataset import read_dataset
from tests.promptopt.fakes import (
    ColorEncoder,
    category,
    draw,
    write_squares,
)
from tests.promptopt.small_run import judged_run

HOSTILE = "<script>alert('x')</script> & co"


class Page(HTMLParser):
    """Tags with their attributes, and the visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag in ("script", "style"):
            self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    return judged_run(
        tmp_path_factory.mktemp("report"),
        category={**category(), "template": "a {|big|small} {red|blue} square {|" + HOSTILE + "}"},
        search={"trials": 12, "images": 6},
        confirm={"top": 2, "images": 6},
    )


@pytest.fixture(scope="module")
def page(result: StudyResult) -> Page:
    return Page(result.report_path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_nothing_is_fetched(page: Page) -> None:
    for tag, attributes in page.tags:
        for key in ("src", "href", "data", "action", "poster", "srcset"):
            inside = ("data:", "#")  # a picture, a section of the page
            assert not attributes.get(key) or attributes[key].startswith(inside), (tag, attributes)
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_the_pictures_of_the_first_confirmation_seeds_are_in_the_page(
    page: Page, result: StudyResult
) -> None:
    shown = []
    for tag, attributes in page.tags:
        if tag == "img":
            content = base64.b64decode(attributes["src"].removeprefix("data:image/png;base64,"))
            shown.append(np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).tobytes())
    prompts = [entry.prompt for entry in result.prompts.prompts]
    assert result.prompts.baseline.prompt in prompts
    for prompt in prompts:
        for seed in result.prompts.seeds.confirmation[:6]:
            assert np.asarray(draw(prompt, seed)).tobytes() in shown
    assert len(shown) == 8 + 6 * len(prompts) + 2 * 6  # real images first, pairs of the nearest last


def test_a_stranger_is_told_what_was_done_and_what_not_to_do_with_it(page: Page, result: StudyResult) -> None:
    assert "Red squares" in page.text
    assert verdict(result.prompts) in page.text
    assert "12 of 12 possible prompts" in page.text
    for phrase in ("synthetic images", "for diagnosis", "Fréchet distance is unreliable", "fresh seeds"):
        assert phrase in page.text
    for entry in result.prompts.prompts:
        assert entry.prompt in page.text
        assert format_estimate(entry.confirmation["score"]) in page.text
    for value in (result.prompts.generator.fingerprint[:16], result.prompts.versions["optuna"]):
        assert value in page.text


def test_words_of_a_prompt_stay_words(result: StudyResult) -> None:
    text = result.report_path.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert any(HOSTILE in row.candidate.prompt for row in show(result.folder).trials)


def test_plots_are_there_with_their_script_once(result: StudyResult) -> None:
    text = result.report_path.read_text(encoding="utf-8")
    assert len(re.findall(r'<div[^>]*id="(history|slot-effects|optimism|tradeoffs|scale-\w+)"', text)) == 6
    assert text.count("* plotly.js v") == 1


def test_tables_hold_every_prompt_and_the_same_numbers(result: StudyResult) -> None:
    rows = list(csv.DictReader(io.StringIO((result.folder / "trials.csv").read_text(encoding="utf-8"))))
    trials = show(result.folder).trials
    assert [row["prompt"] for row in rows] == [trial.candidate.prompt for trial in trials]
    for row, trial in zip(rows, trials, strict=True):
        assert float(row["score:value"]) == pytest.approx(trial.value, rel=1e-5, abs=1e-9)
        assert float(row["mmd:value"]) == pytest.approx(trial.estimates["mmd"].value, rel=1e-5)
    text = (result.folder / "confirmation.csv").read_text(encoding="utf-8")
    confirmed = list(csv.DictReader(io.StringIO(text)))
    assert [row["prompt"] for row in confirmed] == [entry.prompt for entry in result.prompts.prompts]
    assert result.prompts.baseline.prompt in [row["prompt"] for row in confirmed]


def test_every_measured_number_is_an_estimate_with_its_n(result: StudyResult) -> None:
    for entry in result.prompts.prompts:
        for name in (
            "score",
            "alignment",
            "utility",
            "mmd",
            "kid",
            "frechet",
            "diversity",
            "synthetic_to_real",
        ):
            stages = [entry.confirmation]
            if entry.prompt != result.prompts.baseline.prompt:
                stages.append(entry.search)
            for stage in stages:
                assert stage[name].n > 0
                assert stage[name].status in ("ok", "unreliable")
        assert entry.confirmation["frechet"].status == "unreliable"  # six images


def _with(prompts: PromptList, *, found: dict[str, Any], score: tuple[float, float, float]) -> PromptList:
    """The list with its first prompt, one that was found, changed."""
    content = prompts.model_dump()
    content["prompts"][0] |= found
    content["prompts"][0]["confirmation"]["score"].update(zip(("low", "value", "high"), score, strict=True))
    return PromptList.model_validate(content)


_BETTER = {"better_than_baseline": True, "p_value": 0.001}


@pytest.mark.parametrize(
    ("score", "found", "said", "unsaid"),
    [
        (
            (0.5, 1.0, 1.5),
            _BETTER,
            "makes better images than the plain baseline",
            "told apart from the plain",
        ),
        # the interval alone leaves out 0, the corrected test does not speak of it
        (
            (0.1, 1.0, 1.9),
            {"better_than_baseline": False, "p_value": 0.09},
            "may well be chance",
            "makes better",
        ),
        (
            (-0.5, 0.1, 0.7),
            {"better_than_baseline": False, "p_value": 0.7},
            "could be told apart",
            "makes better",
        ),
        (
            (-0.9, -0.5, -0.1),
            {"better_than_baseline": False, "p_value": 0.01},
            "one is worse",
            "makes better",
        ),
        (
            (0.5, 1.0, 1.5),
            {"better_than_baseline": False, "p_value": 0.001, "contradicted_by": "second_encoder"},
            "the second encoder, which the search never asked, contradicts it",
            "makes better",
        ),
    ],
)
def test_the_verdict_claims_no_more_than_the_corrected_tests(
    result: StudyResult, score: tuple[float, float, float], found: dict[str, Any], said: str, unsaid: str
) -> None:
    assert result.prompts.prompts[0].label != result.prompts.baseline.prompt
    text = verdict(_with(result.prompts, found=found, score=score))
    assert said in text
    assert unsaid not in text


def test_a_prompt_that_a_witness_contradicts_is_said_to_be_set_aside(result: StudyResult) -> None:
    prompts = _with(result.prompts, found={**_BETTER}, score=(0.5, 1.0, 1.5))
    content = prompts.model_dump()
    blamed = next(e for e in content["prompts"][1:] if e["p_value"] is not None)
    blamed |= {"better_than_baseline": False, "contradicted_by": "judge"}
    changed = PromptList.model_validate(content)
    assert "1 prompt was set aside" in verdict(changed)
    entry = next(e for e in changed.prompts if e.contradicted_by == "judge")
    assert "contradicted by the judge" in words.claim_word(changed, entry)
    assert "contradicts the score" in words.check_sentence(changed, entry)


def test_the_search_is_told_with_who_lost_to_whom_and_how_many_images_each_prompt_got(
    result: StudyResult, page: Page
) -> None:
    rows = [row for row in latest(show(result.folder).trials) if row.images == 6]
    first, second = rows[0], rows[1]
    longer = {name: values * 2 for name, values in first.per_image.items()}
    again = replace(first, number=99, per_image=longer, continues=first.number)
    lost = replace(second, eliminated_by=first.candidate)
    broken = replace(rows[2], violations=("diversity at most 0.1 <b>",))
    told = " ".join(words.search_sentences(result.prompts, [*rows, again, lost, broken]))
    assert "1 prompt got 12 images" in told
    assert f"{len(rows) - 1} prompts got 6 images" in told
    assert "1 prompt dropped out" in told
    assert "1 prompt broke a constraint" in told
    assert f"Why it ended: {result.prompts.stopped}." in told
    assert f"Why it ended: {result.prompts.stopped}." in page.text
    figure = figures.history([*rows, again, lost, broken])
    for name in ("lost to another prompt", "breaks a constraint"):
        assert name in figure
    assert "at most 0.1 <b>" not in figure


def test_a_prompt_that_breaks_a_constraint_is_never_the_best_so_far(result: StudyResult) -> None:
    rows = latest(show(result.folder).trials)
    top = max(rows, key=lambda row: row.value)
    others = [row for row in rows if row is not top]
    figure = figures.history([replace(top, violations=("too many copies",)), *others])
    drawn = next(t for t in plotted(figure)["data"] if t["name"].startswith("best so far"))
    assert drawn["y"][0] is None
    assert drawn["y"][-1] == pytest.approx(max(row.value for row in others))


def plotted(fragment: str) -> dict[str, Any]:
    """Data and layout of a figure in the page."""
    start = fragment.index("[", fragment.index("Plotly.newPlot("))
    decoder = json.JSONDecoder()
    data, end = decoder.raw_decode(fragment, start)
    layout, _ = decoder.raw_decode(fragment, fragment.index("{", end))
    return {"data": data, "layout": layout}


@pytest.mark.parametrize(
    ("value", "low", "high", "shown"),
    [
        (0.81, 0.72, 0.88, "0.81 (0.72 to 0.88)"),
        (0.0176, 0.00308, 0.0401, "0.018 (0.003 to 0.040)"),  # two decimals would say 0.00
        (-0.00225, -0.33, 0.34, "0.00 (-0.33 to 0.34)"),  # no minus before a zero
        (0.130, 0.0029, 0.26, "0.130 (0.003 to 0.260)"),  # the interval leaves out 0, and says so
        (0.0, 0.0, 0.0, "0.00 (0.00 to 0.00)"),
        (0.00021, 0.00018, 0.00024, "0.00021 (0.00018 to 0.00024)"),
        (27.79, 19.84, 39.18, "27.79 (19.84 to 39.18)"),
    ],
)
def test_an_estimate_shows_its_interval_in_decimals_that_say_something(
    value: float, low: float, high: float, shown: str
) -> None:
    assert format_estimate(Estimate(value, low, high, 8, "mean", "ok")) == shown


def test_prompts_far_from_all_others_do_not_press_them_into_a_line(result: StudyResult) -> None:
    rows = latest(show(result.folder).trials)
    assert figures.history_range(rows) is None
    assert "range" not in plotted(figures.history(rows))["layout"]["yaxis"]
    terrible = replace(
        rows[-1], number=99, choice={**rows[-1].choice, "far": "x"}, score=Estimate.of_mean([-1e4, -2e4])
    )
    low, high = plotted(figures.history([*rows, terrible]))["layout"]["yaxis"]["range"]
    for row in rows:  # with their whole intervals
        assert low < min(row.score.low, 0) < max(row.score.high, 0) < high
    assert low > -1000


@given(st.lists(st.floats(-100, 100), max_size=30), st.floats(-100, 100))
def test_an_axis_never_hides_the_middle_half_or_what_must_be_seen(values: list[float], kept: float) -> None:
    found = figures.inner_range([(value, None) for value in values], always=[kept])
    if found is not None:
        low, high = np.quantile(values, [0.25, 0.75])
        assert found[0] <= kept <= found[1]
        assert all(found[0] <= value <= found[1] for value in values if low <= value <= high)
        assert any(not found[0] <= value <= found[1] for value in values)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_the_front_is_what_no_other_point_beats(points: list[tuple[int, int]]) -> None:
    def beaten(p: tuple[int, int]) -> bool:
        return any(q != p and q[0] >= p[0] and q[1] >= p[1] for q in points)

    assert front(points) == sorted({p for p in points if not beaten(p)})


def test_search_and_fresh_scores_stand_beside_each_other(result: StudyResult, page: Page) -> None:
    for entry in result.prompts.prompts:
        if entry.search:
            assert format_estimate(entry.search["score"]) in page.text
            assert format_estimate(entry.optimism) in page.text
            assert format_estimate(entry.shrunken) in page.text
    assert result.prompts.optimism is not None
    assert signed(result.prompts.optimism.value) in page.text


def test_what_the_score_is_worth_is_measured_on_real_images(result: StudyResult, page: Page) -> None:
    # Red squares among others: the probe tells them apart, as scikit-learn finds too.
    data = read_dataset(result.folder.parent.parent / "data").where(pool="test")
    truth = np.array([record.category == "red" for record in data])
    encoder = ColorEncoder()
    weights = class_weights(encoder, {"red": category()["texts"], **category()["distractors"]})
    images = [Image.open(path).convert("RGB") for path in data.paths()]
    expected = roc_auc_score(truth, margins(encoder.encode_images(images), weights, target="red"))
    row = re.search(r"Alignment: AUROC, by the fixed texts alone ([\d.]+)", page.text)
    assert row is not None
    assert float(row[1]) == pytest.approx(expected, abs=0.006)
    assert "Share of real images of the category that it recognizes" in page.text


def test_an_encoder_that_does_not_know_the_category_is_named_as_such() -> None:
    def row(value: float, low: float) -> CalibrationRow:
        found = Estimate(value, low, 0.99, 40, "AUROC", "ok")
        return CalibrationRow("Search encoder", "Alignment: AUROC", found, 0.5)

    assert "distrust the score" in calibration_sentence([row(0.6, 0.5)])
    assert "may be as low as 0.65" in calibration_sentence([row(0.8, 0.65)])
    assert "means something" in calibration_sentence([row(0.9, 0.85)])


def test_a_planted_copy_is_shown_beside_its_original(tmp_path: Path, result: StudyResult) -> None:
    data = read_dataset(write_squares(tmp_path / "data", each=60))
    reference = data.where(pool="reference").paths()
    stored = [
        SimpleNamespace(path=path, sha256=file_digest(path), load=partial(_open, path))
        for path in (reference[7], *_strange(tmp_path))
    ]
    images = [("a square", image) for image in stored]
    found = nearest_pairs(data, FeatureStore(tmp_path / "features"), images)  # type: ignore[arg-type]
    assert found is not None
    first, *others = found.pairs
    assert first.copy
    assert first.generated == first.real == embed_file(reference[7])
    assert not any(pair.copy for pair in others)
    assert "Share of images flagged as copies: 0.25" in found.sentence


def _open(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _strange(folder: Path) -> list[Path]:
    paths = [folder / f"strange-{i}.png" for i in range(3)]
    for i, path in enumerate(paths):
        draw("a big red square on black", 900 + i).save(path)
    return paths


def test_the_page_of_a_normal_study_stays_small(result: StudyResult) -> None:
    large = Image.effect_noise((512, 512), 60).convert("RGB")
    picture = len(embed(large))
    assert result.report_path.stat().st_size + 60 * picture < 15e6  # six prompts, real ones, pairs


def test_the_effects_of_the_words_stand_in_figure_table_and_csv(
    result: StudyResult, page: Page, tmp_path: Path
) -> None:
    words = category() | {"template": "a {|big|small} {red|blue} square {|" + HOSTILE + "}"}
    found = slot_effects(compile_template(words["template"], {}), show(result.folder).trials)
    assert [e.prompts for e in found.effects] == [4, 4, 4, 6, 6, 6, 6]
    red = next(effect for effect in found.effects if effect.option == "red")
    assert red.effect.low is not None
    assert red.effect.low > 0  # what was planted
    for effect in found.effects:
        assert format_estimate(effect.effect) in page.text
    assert "This rests on 12 prompts." in page.text
    text = write_effects(tmp_path / "effects.csv", found).read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 7 + len(found.interactions)
    ours = next(row for row in rows if row["option"] == "red")
    assert (ours["kind"], ours["prompts"], ours["effect:status"]) == ("option", "6", "ok")
    assert float(ours["effect:value"]) == pytest.approx(red.effect.value, rel=1e-5)
    of_slot = [row for row in rows if row["slot"] == ours["slot"] and row["kind"] == "option"]
    assert [row["option"] for row in of_slot] == ["red", "blue"]  # the better one first


def test_options_alike_in_their_first_words_keep_their_own_line_in_the_figure(result: StudyResult) -> None:
    long = "a word that goes on and on until nobody reads the end of it, number "
    space = compile_template("{red|blue} {" + f"{long}1|{long}2" + "}", {})
    trials = show(result.folder).trials
    rows = [
        replace(trials[i], duplicate_of=None, choice=choice, number=i)
        for i, choice in enumerate(space.enumerate())
    ]
    figure = figures.slot_effects(slot_effects(space, rows))
    assert figure.count(figures.label(long)) >= 2
