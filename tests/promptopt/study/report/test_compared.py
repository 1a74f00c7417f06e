"""Two runs on one page: what is compared, what is refused, and what is said."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from evaluation.estimate import Estimate
from promptopt.base.checksums import summed
from promptopt.cli.main import main
from promptopt.config.study_file import StudyError
from promptopt.run.prompt_sets import read_sets
from promptopt.study.report.sets.compared import compare_runs, difference_of, write_comparison
from promptopt.study.sets.run import SetResult
from tests.browser import browser
from tests.promptopt.small_run import SmallRun


def other_run(result: SetResult, folder: Path, **changes: object) -> Path:
    """A run of another name whose prompts.json has been changed."""
    folder.mkdir()
    content = read_sets(result.prompts_path).model_dump(mode="json") | changes
    content["study"] = folder.name
    (folder / "prompts.json").write_text(json.dumps(summed(content)))
    return folder


@pytest.fixture
def worse(classified_sets: SetResult, tmp_path: Path) -> Path:
    """The same run with a less accurate classifier and red images far from real ones."""
    folder = other_run(classified_sets, tmp_path / "worse")
    content = read_sets(folder / "prompts.json").model_dump(mode="json")
    level = {"value": 0.4, "low": 0.35, "high": 0.45, "n": 80, "method": "mean", "status": "ok"}
    content["accuracy"]["set"] = level
    content["classes"][0]["closeness"]["set"] |= {"value": 0.9, "low": 0.8, "high": 1.0}
    content["classes"][0]["set"]["prompts"][0]["prompt"] = "a <b>new</b> prompt"
    (folder / "prompts.json").write_text(json.dumps(summed(content)))
    return folder


def test_it_says_whose_set_is_better_and_by_how_much(
    classified_sets: SetResult, worse: Path, tmp_path: Path
) -> None:
    found = compare_runs(classified_sets.folder, worse)
    by_label = {(one.metric, one.label): one for one in found.differences}
    red, blue = by_label["closeness", "red"], by_label["closeness", "blue"]
    own = classified_sets.sets.of("red").closeness["set"].value
    assert own is not None
    assert red.estimate.value == pytest.approx(0.9 - own)
    assert (red.verdict, blue.verdict) == ("better", "unclear")
    assert blue.estimate.value == 0.0
    assert "squares's set is nearer to unseen real images of “red”." in found.sentence
    assert "Neither was shown to be nearer to unseen real images of “blue”." in found.sentence
    turned = compare_runs(worse, classified_sets.folder)
    assert {one.label: one.verdict for one in turned.differences if one.metric == "closeness"}[
        "red"
    ] == "worse"
    store = classified_sets.folder.parent.parent / "store"
    page = write_comparison(tmp_path / "both.html", found, store=store).read_text(encoding="utf-8")
    assert "<b>new</b>" not in page
    assert "a &lt;b&gt;new&lt;/b&gt; prompt" in page
    assert page.count('alt="synthetic, image 1"') >= 3
    text = re.sub(r"<(script|style)[ >].*?</\1>", " ", page, flags=re.DOTALL)
    assert len(re.findall(r"[A-Za-z]{2,}", re.sub(r"<[^>]+>", " ", text))) < 1200


def test_shared_prompts_have_both_weights(classified_sets: SetResult, worse: Path) -> None:
    found = compare_runs(classified_sets.folder, worse)
    entry = classified_sets.sets.of("red")
    kept = {one.prompt: one.weight for one in entry.set.prompts[1:]}
    assert {one.prompt: one.first for one in found.shared if one.label == "red"} == kept
    assert all(one.first == one.second for one in found.shared)


def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(400):
        a, b = rng.normal(0.6, 1, 50), rng.normal(0.2, 1, 60)
        found, _ = difference_of(Estimate.of_mean(a), Estimate.of_mean(b))
        assert found.low is not None
        assert found.high is not None
        held.append(found.low <= 0.4 <= found.high)
    assert 0.92 <= np.mean(held) <= 0.985


def test_what_says_nothing_about_each_other_is_refused(
    classified_sets: SetResult, shared_run: SmallRun, tmp_path: Path
) -> None:
    elsewhere = other_run(classified_sets, tmp_path / "elsewhere", data="0" * 64)
    with pytest.raises(StudyError, match=r"other real images .* Run one of the studies again"):
        compare_runs(classified_sets.folder, elsewhere)
    with pytest.raises(StudyError, match="single prompts"):
        compare_runs(classified_sets.folder, shared_run.folder)
    with pytest.raises(StudyError, match=r"not a finished run, prompts\.json is missing"):
        compare_runs(classified_sets.folder, tmp_path)
    entry = read_sets(classified_sets.prompts_path).classes[0].model_dump(mode="json") | {"label": "green"}
    green = other_run(classified_sets, tmp_path / "green", classes=[entry])
    with pytest.raises(StudyError, match="no class in common: red, blue; green"):
        compare_runs(classified_sets.folder, green)


def test_distances_by_another_encoder_are_not_compared(classified_sets: SetResult, tmp_path: Path) -> None:
    changed = other_run(
        classified_sets, tmp_path / "changed", encoder={"uri": "other", "fingerprint": "f" * 64}
    )
    found = compare_runs(classified_sets.folder, changed)
    assert {one.metric for one in found.differences} == {"accuracy"}
    assert any("width of the kernel" in note for note in found.notes)


def test_the_command_writes_a_page_without_errors_on_a_phone(
    classified_sets: SetResult, worse: Path, tmp_path: Path
) -> None:
    out = tmp_path / "page.html"
    store = classified_sets.folder.parent.parent / "store"
    asked = ["report", str(classified_sets.folder), str(worse), "--out", str(out), "--store", str(store)]
    done = CliRunner().invoke(main, asked)
    assert done.exit_code == 0, done.output
    assert "nearer to unseen real images" in done.output
    with browser() as tab:
        for scheme in ("light", "dark"):
            tab.prefer(scheme)
            tab.open(out, width=390, height=800)
            assert tab.run("document.documentElement.scrollWidth <= window.innerWidth")
            assert tab.run("Array.from(document.images).every(i => i.complete && i.naturalWidth > 0)")
            assert tab.axe() == []
        assert tab.problems == []
