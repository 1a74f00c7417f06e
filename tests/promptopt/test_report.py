"""The report and the tables: complete, self-contained, and no stronger than the numbers."""

import base64
import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from promptopt.config import study_from_mapping
from promptopt.effects import slot_effects
from promptopt.export import PromptList, write_effects
from promptopt.report import figures
from promptopt.report.render import format_estimate, verdict
from promptopt.study import StudyResult, run_study, show
from promptopt.template import compile_template
from tests.promptopt.fakes import (
    ColorEncoder,
    RednessJudge,
    SquareGenerator,
    category,
    draw,
    study,
    write_squares,
)

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
    folder = tmp_path_factory.mktemp("report")
    words = {**category(), "template": "a {|big|small} {red|blue} square {|" + HOSTILE + "}"}
    content = study(
        folder,
        data=str(write_squares(folder / "data", each=10)),
        category=words,
        search={"trials": 12, "images": 6},
        confirm={"top": 2, "images": 6},
    )
    return run_study(
        study_from_mapping(content),
        runs=folder / "runs",
        store=folder / "store",
        generator=SquareGenerator(),
        encoder=ColorEncoder(),
        judge=RednessJudge(),
    )


@pytest.fixture(scope="module")
def page(result: StudyResult) -> Page:
    return Page(result.report_path.read_text(encoding="utf-8"))


def test_nothing_is_fetched(page: Page) -> None:
    for tag, attributes in page.tags:
        for key in ("src", "href", "data", "action", "poster", "srcset"):
            assert not attributes.get(key) or attributes[key].startswith("data:"), (tag, attributes)
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
    assert len(shown) == 8 + 6 * len(prompts)  # eight real images first


def test_a_stranger_is_told_what_was_done_and_what_not_to_do_with_it(page: Page, result: StudyResult) -> None:
    assert "Red squares" in page.text
    assert verdict(result.prompts) in page.text
    assert "12 of 12 possible prompts" in page.text
    for words in ("synthetic images", "for diagnosis", "Fréchet distance is unreliable", "fresh seeds"):
        assert words in page.text
    for entry in result.prompts.prompts:
        assert entry.prompt in page.text
        assert format_estimate(entry.confirmation["score"]) in page.text
    for value in (result.prompts.generator.fingerprint[:16], result.prompts.versions["optuna"]):
        assert value in page.text


def test_words_of_a_prompt_stay_words(result: StudyResult) -> None:
    text = result.report_path.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert any(HOSTILE in row.prompt for row in show(result.folder).trials)


def test_plots_are_there_with_their_script_once(result: StudyResult) -> None:
    text = result.report_path.read_text(encoding="utf-8")
    assert len(re.findall(r'<div[^>]*id="(score-per-trial|slot-effects)"', text)) == 2
    assert text.count("* plotly.js v") == 1


def test_tables_hold_every_prompt_and_the_same_numbers(result: StudyResult) -> None:
    rows = list(csv.DictReader(io.StringIO((result.folder / "trials.csv").read_text(encoding="utf-8"))))
    trials = show(result.folder).trials
    assert [row["prompt"] for row in rows] == [trial.prompt for trial in trials]
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


def _with_score(prompts: PromptList, low: float, value: float, high: float) -> PromptList:
    content = prompts.model_dump()
    content["prompts"][0]["confirmation"]["score"].update(low=low, value=value, high=high)
    return PromptList.model_validate(content)


@pytest.mark.parametrize(
    ("low", "value", "high", "words"),
    [
        (0.5, 1.0, 1.5, "makes better images than the plain baseline"),
        (-0.5, 0.1, 0.7, "No prompt found could be told apart from"),
        (-0.9, -0.5, -0.1, "the best one is worse"),
    ],
)
def test_the_verdict_claims_no_more_than_the_interval(
    result: StudyResult, low: float, value: float, high: float, words: str
) -> None:
    assert words in verdict(_with_score(result.prompts, low, value, high))


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
