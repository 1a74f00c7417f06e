"""A run's prompts with another generator: the same yardstick, nothing paid twice, nothing cut silently."""

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr
from typer.testing import CliRunner

import promptopt.transfer.transfer
from evaluation.estimate import Estimate
from generators.request import ImageRequest
from promptopt.cli.main import main
from promptopt.config.study_file import StudyError
from promptopt.run.prompts import read_prompts
from promptopt.study.run import StudyResult
from promptopt.transfer.output import write_transfers
from promptopt.transfer.transfer import Transfer, Transferred, _rank_correlation, transfer
from tests.promptopt.fakes import ColorEncoder, RednessJudge, SquareGenerator, draw
from tests.promptopt.small_run import judged_run


@dataclass
class Contrary(SquareGenerator):
    """Draws green where red is asked for, and the other way round."""

    uri: str = "contrary"
    fingerprint: str = hashlib.sha256(b"contrary").hexdigest()

    def generate(self, requests: Sequence[ImageRequest]) -> Iterator[Image.Image]:
        swap = {"red": "green", "green": "red"}
        for request in requests:
            self.made.append(request)
            words = [swap.get(word, word) for word in request.prompt.split()]
            yield draw(" ".join(words), request.seed)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    return judged_run(
        tmp_path_factory.mktemp("transfer"),
        search={"trials": 20, "images": 6},
        # the kernel's width comes from other images than in the run; without the distance all must be equal
        score={"alignment": 1.0, "utility": 1.0, "distance": 0.0},
        confirm={"top": 9, "images": 8},
    )


def move(result: StudyResult, generator: SquareGenerator, **given: Any) -> Transfer:
    given.setdefault("store", result.folder.parent.parent / "store")
    given.setdefault("judge", RednessJudge())
    return transfer(result.folder, generator, encoder=ColorEncoder(), **given)


@pytest.mark.slow
def test_the_runs_own_generator_gives_the_confirmed_scores_and_no_new_image(result: StudyResult) -> None:
    own = SquareGenerator()
    found = move(result, own)
    assert (found.generated, own.made) == (0, [])
    assert found.reused == 10 * 8
    assert [row.candidate for row in found.rows] == [
        e.candidate for e in result.prompts.prompts if e.candidate != result.prompts.baseline.candidate
    ]
    for row in found.rows:
        assert row.away is not None
        for part in ("value", "low", "high"):
            home = getattr(row.home, part)
            assert getattr(row.away.estimate, part) == pytest.approx(home, rel=1e-5, abs=1e-6)
    assert found.rank_correlation.value == pytest.approx(1.0)
    entry = next(e for e in result.prompts.prompts if e.candidate == found.winner.candidate)
    for name in ("alignment", "utility", "synthetic_to_real", "judge_accuracy", "diversity"):
        assert found.winner.estimates[name].value == pytest.approx(entry.confirmation[name].value, rel=1e-5)


def test_a_generator_that_swaps_colors_turns_the_winner_into_a_loser(result: StudyResult) -> None:
    found = move(result, Contrary())
    assert "red" in found.winner.candidate.prompt
    assert found.winner.away is not None
    assert found.winner.away.estimate.high is not None
    assert found.winner.away.estimate.high < 0
    assert "worse than the baseline prompt" in found.sentence
    own = move(result, SquareGenerator())
    assert "stays ahead" in own.sentence
    unsure = replace(own.winner, home=replace(own.winner.home, low=-0.1))
    assert "not surely so" in replace(own, rows=(unsure, *own.rows[1:])).sentence


def test_a_second_call_makes_nothing_and_says_the_same(result: StudyResult, tmp_path: Path) -> None:
    first = move(result, Contrary(), store=tmp_path, images=12)
    again = Contrary()
    second = move(result, again, store=tmp_path, images=12)
    assert first.generated == second.reused == 12 * 10
    assert (second.generated, again.made) == (0, [])
    assert first.rows[0].away is not None
    assert second.rows[0].away is not None
    np.testing.assert_array_equal(first.rows[0].away.per_image, second.rows[0].away.per_image)


def test_more_images_begin_with_the_confirmations_seeds_and_fresh_ones_have_none(result: StudyResult) -> None:
    known = result.prompts.seeds
    assert move(result, SquareGenerator(), images=12).seeds[:8] == tuple(known.confirmation)
    fresh = move(result, SquareGenerator(), images=12, fresh=True).seeds
    assert len(set(fresh)) == 12
    assert not set(fresh) & {*known.search, *known.confirmation}


def test_a_prompt_that_would_be_cut_is_left_out_by_name(result: StudyResult, tmp_path: Path) -> None:
    lengths = sorted({len(e.prompt.split()) + 2 for e in result.prompts.prompts})
    assert len(lengths) > 1
    short = Contrary(max_tokens=lengths[-1] - 1)
    found = move(result, short)
    long = [e.prompt for e in result.prompts.prompts if len(e.prompt.split()) + 2 == lengths[-1]]
    assert [one.prompt for one in found.too_long] == long
    assert all(one.lost == one.prompt.split()[-1] for one in found.too_long)
    assert {row.candidate.prompt for row in found.rows if row.away is None} == set(long)
    assert not {request.prompt for request in short.made} & set(long)
    write_transfers({"short": [found]}, tmp_path)
    rows = _csv(tmp_path / "transfer.csv")
    assert {r["prompt"] for r in rows if r["left_out"] == "too long"} == set(long)
    with pytest.raises(StudyError, match=r"baseline prompt is too long[^$]*lost: square"):
        move(result, Contrary(max_tokens=3))


def test_other_settings_reach_the_images(result: StudyResult, tmp_path: Path) -> None:
    generator = Contrary()
    move(result, generator, store=tmp_path, changes={"generator.steps": 9})
    assert {request.steps for request in generator.made} == {9}


def test_changed_data_or_encoder_are_refused(result: StudyResult, tmp_path: Path) -> None:
    run = shutil.copytree(result.folder, tmp_path / "run")
    content = json.loads((run / "prompts.json").read_text())
    del content["checksum"]
    (run / "prompts.json").write_text(json.dumps({**content, "data": "0" * 64}))
    with pytest.raises(StudyError, match="data: has changed since the run"):
        transfer(run, Contrary(), store=tmp_path / "store", encoder=ColorEncoder(), judge=RednessJudge())
    (run / "prompts.json").unlink()
    with pytest.raises(StudyError, match=r"prompts\.json: cannot be read"):
        transfer(run, Contrary(), store=tmp_path / "store", encoder=ColorEncoder())


def test_a_generator_that_is_not_there_is_named(result: StudyResult, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="nowhere"):
        move(result, str(tmp_path / "nowhere"))  # type: ignore[arg-type]


def _rows(pairs: list[tuple[float, float]]) -> list[Transferred]:
    from promptopt.scoring.objective import Score

    def at(value: float) -> Estimate:
        return Estimate(value, None, None, 8, "planted", "ok")

    return [
        Transferred(str(i), i, at(home), Score(at(away), np.zeros(8)), {})
        for i, (home, away) in enumerate(pairs)
    ]


def test_the_rank_correlation_is_scipys_and_few_prompts_are_said() -> None:
    rng = np.random.default_rng(0)
    pairs = [(float(v), float(v + rng.normal())) for v in np.round(rng.normal(size=12), 1)]  # with ties
    found = _rank_correlation(_rows(pairs))
    assert found.value == pytest.approx(spearmanr(np.array(pairs)).statistic)
    assert found.low is not None
    assert -1 <= found.low < found.value < found.high <= 1
    few = _rank_correlation(_rows(pairs[:5]))
    assert (few.status, few.n) == ("unreliable", 5)
    assert _rank_correlation(_rows(pairs[:2])).status == "undefined"
    assert _rank_correlation(_rows([(1.0, float(i)) for i in range(9)])).status == "undefined"


def _csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def test_the_command_prints_and_writes_what_was_measured(
    result: StudyResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"squares": SquareGenerator(), "contrary": Contrary(max_tokens=7)}

    def with_fakes(run: Path, uri: str, **given: Any) -> Transfer:
        return transfer(run, known[uri], encoder=ColorEncoder(), judge=RednessJudge(), **given)

    monkeypatch.setattr(promptopt.transfer.transfer, "transfer", with_fakes)
    store = str(result.folder.parent.parent / "store")
    words = ["transfer", str(result.folder), "--store", store, "--out", str(tmp_path / "out")]
    generators = ["--generator", "same=squares", "--generator", "contrary"]
    done = CliRunner(env={"COLUMNS": "200"}).invoke(main, [*words, *generators])
    assert done.exit_code == 0, done.output
    assert "same: The winner stays ahead of the baseline prompt: +" in done.stdout
    assert "rank correlation with home" in done.stdout
    assert "left out" in done.stdout
    document = json.loads((tmp_path / "out" / "transfer.json").read_text())
    assert [(t["name"], t["generator"]["uri"]) for t in document["transfers"]] == [
        ("same", "squares"),
        ("contrary", "contrary"),
    ]
    prompts = read_prompts(result.prompts_path)
    rows = _csv(tmp_path / "out" / "transfer.csv")
    assert len(rows) == 3 * (len(prompts.prompts) - 1) + 2  # the baseline has no line at home
    for entry in document["transfers"][0]["prompts"]:
        line = next(r for r in rows if r["generator"] == "same" and r["prompt"] == entry["prompt"])
        assert float(line["score:value"]) == pytest.approx(entry["away"]["value"], rel=1e-5, abs=1e-9)
        assert np.mean(entry["per_image"]) == pytest.approx(entry["away"]["value"])
    with Image.open(tmp_path / "out" / "transfer.png") as picture:
        assert picture.width > 800
    twice = CliRunner().invoke(main, [*words, "--generator", "a=squares", "--generator", "a=contrary"])
    assert twice.exit_code == 2
    assert "'a' is given twice" in twice.output
