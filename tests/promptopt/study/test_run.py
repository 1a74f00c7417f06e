"""The study loop on colored squares: finds what was planted, resumes, reuses, refuses."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from evaluation.metrics.mmd import mmd_contributions
from promptopt.config.study_file import StudyError, load_study, study_from_mapping
from promptopt.run.database import address
from promptopt.run.prompts import read_prompts
from promptopt.run.trials import TrialRow, latest
from promptopt.scoring.confirm import Confirmed
from promptopt.scoring.objective import study_bandwidth
from promptopt.study.checks import fixed_texts
from promptopt.study.observer import Observer, StudyStart
from promptopt.study.run import StudyResult, run_study, show
from studies.category import FOLDER, load_category
from tests.promptopt.fakes import (
    BEST,
    ColorEncoder,
    RednessJudge,
    SquareGenerator,
    category,
    study,
    write_squares,
)

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_squares(tmp_path_factory.mktemp("squares") / "data")


def run(folder: Path, data: Path, *, generator: SquareGenerator | None = None, **changes: Any) -> StudyResult:
    observer = changes.pop("observer", None)
    judge = changes.pop("judge", None)
    given = changes.pop("given", ())
    config = study_from_mapping(study(folder, data=str(data), **changes), base=folder)
    return run_study(
        config,
        runs=folder / "runs",
        store=folder / "store",
        generator=generator or SquareGenerator(),
        encoder=ColorEncoder(),
        judge=judge,
        observer=observer,
        given=given,
    )


FAST = {"search": {"trials": 6, "images": 6, "sampler": "random"}}


@pytest.mark.slow
def test_the_planted_best_prompt_is_found_and_confirmed(tmp_path: Path, data: Path) -> None:
    found = run(
        tmp_path,
        data,
        judge=RednessJudge(),
        search={"trials": 24, "images": 8, "sampler": "gp", "stop": None},
    ).prompts
    tied = set(found.tied)
    assert BEST in tied
    best = found.prompts[0]
    score = best.confirmation["score"]
    assert score.low is not None
    assert score.low > 0  # better than the plain prompt on seeds that the search never used
    assert best.confirmation["judge_accuracy"].value == 1.0
    assert found.baseline.confirmation["judge_accuracy"].value < 0.9  # type: ignore[operator]
    assert found.prompts_scored == 24
    assert not set(found.seeds.search) & set(found.seeds.confirmation)


@pytest.mark.slow
def test_a_run_on_swapped_pictures_refuses_and_goes_on_when_they_are_back(tmp_path: Path) -> None:
    data = write_squares(tmp_path / "data")
    first = run(tmp_path, data, **FAST)
    pictures = sorted((data / "images").iterdir())
    held = [path.read_bytes() for path in pictures[:2]]
    for path, content in zip(pictures, reversed(held), strict=False):
        path.write_bytes(content)
    with pytest.raises(StudyError, match=f"images/{pictures[0].name}, images/{pictures[1].name}"):
        run(tmp_path, data, **FAST)
    (first.folder / "pictures.json").unlink()  # the settings know too
    with pytest.raises(StudyError, match="pictures: "):
        run(tmp_path, data, **FAST)
    for path, content in zip(pictures, held, strict=False):
        path.write_bytes(content)
    (first.folder / "pictures.json").unlink()
    assert run(tmp_path, data, **FAST).nothing_new


@pytest.mark.slow
def test_enumeration_ranks_the_planted_best_among_the_first(tmp_path: Path, data: Path) -> None:
    result = run(tmp_path, data, search={"trials": 60, "images": 8, "sampler": "enumerate"})
    rows = latest(show(result.folder).trials)
    assert len(rows) == 60  # as many trials as prompts: each once
    assert all(row.duplicate_of is None for row in show(result.folder).trials)
    ranked = sorted(rows, key=lambda row: -row.value)
    assert BEST in [row.candidate.prompt for row in ranked[:3]]
    assert {"red"} == {row.choice[_color_slot(row)] for row in ranked[:3]}


def _color_slot(row: TrialRow) -> str:
    return next(name for name, option in row.choice.items() if option in ("red", "green", "blue", "grey"))


@pytest.mark.slow
def test_a_finished_study_run_again_generates_nothing_and_writes_the_same_bytes(
    tmp_path: Path, data: Path
) -> None:
    first = run(tmp_path, data, **FAST)
    before = first.prompts_path.read_bytes()
    again = SquareGenerator()
    second = run(tmp_path, data, generator=again, **FAST)
    assert (second.generated, len(again.made), second.nothing_new) == (0, 0, True)
    panel = 48  # the baseline's: as many as a promising prompt may get
    assert first.generated == panel + first.prompts.images_in_search + (1 + 3) * 8  # type: ignore[operator]
    assert first.prompts.images_in_search <= 1.25 * 6 * 6  # type: ignore[operator]
    assert second.prompts_path.read_bytes() == before


@pytest.mark.slow
def test_the_database_is_an_optuna_study_named_after_the_run(tmp_path: Path, data: Path) -> None:
    result = run(tmp_path / "50% of q?x", data, **FAST)
    path = result.folder / "study.db"
    found = optuna.load_study(study_name=result.prompts.study, storage=address(path))
    rows = latest(result.trials())
    assert [trial.user_attrs["prompt"] for trial in found.trials] == [row.candidate.label for row in rows]
    assert all(trial.state.is_finished() for trial in found.trials)
    assert all(trial.duration is not None and trial.duration.total_seconds() > 0 for trial in found.trials)
    best = max((row for row in rows if not row.violations and not row.eliminated_by), key=lambda r: r.value)
    assert found.best_trial.user_attrs["prompt"] == best.candidate.label


@pytest.mark.slow
def test_prompts_json_does_not_depend_on_folders_or_on_what_the_store_holds(
    tmp_path: Path, data: Path
) -> None:
    one = run(tmp_path / "one", data, **FAST)
    two = run(tmp_path / "two", data, **FAST)
    assert one.prompts_path.read_bytes() == two.prompts_path.read_bytes()
    assert str(tmp_path) not in one.prompts_path.read_text()
    assert read_prompts(one.prompts_path) == one.prompts


@pytest.mark.slow
def test_more_trials_extend_a_study(tmp_path: Path, data: Path) -> None:
    search = {"trials": 8, "images": 6, "stop": None}
    first = run(tmp_path, data, search=search)
    old = [row.candidate.prompt for row in show(first.folder).trials]
    longer = run(tmp_path, data, search={**search, "trials": 12})
    assert [row.candidate.prompt for row in show(longer.folder).trials][: len(old)] == old
    assert longer.prompts.prompts_scored == 12
    assert longer.trials_before == 8
    whole = run(tmp_path / "elsewhere", data, search={**search, "trials": 12})
    assert whole.prompts_path.read_bytes() == longer.prompts_path.read_bytes()


@pytest.mark.slow
def test_a_prompt_asked_for_twice_is_told_its_known_score_and_costs_no_image(
    tmp_path: Path, data: Path
) -> None:
    # Weights send nearly every random draw to one prompt of two.
    few = {**category(), "template": "a {97::red|1::green|1::blue|1::grey} square"}
    generator = SquareGenerator()
    result = run(
        tmp_path,
        data,
        generator=generator,
        category=few,
        search={"trials": 3, "images": 4, "sampler": "random"},
    )
    rows = show(result.folder).trials
    repeated = [row for row in rows if row.duplicate_of is not None]
    assert repeated
    for row in repeated:
        assert row.score == rows[row.duplicate_of or 0].score
    assert len(generator.made) == len({request.key for request in generator.made})
    assert result.prompts.prompts_scored == 3


CHILD = """
import sys
from pathlib import Path
from promptopt.config.study_file import study_from_mapping
from promptopt.study.run import run_study
from tests.promptopt.fakes import ColorEncoder, SquareGenerator, study
folder, data, pause, sampler = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), sys.argv[4]
config = study_from_mapping(study(folder, data=data, search={"trials": 14, "images": 6, "sampler": sampler}))
run_study(config, runs=folder / "runs", store=folder / "store",
          generator=SquareGenerator(seconds_per_image=pause), encoder=ColorEncoder())
"""


def _start(folder: Path, data: Path, pause: float, sampler: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", CHILD, str(folder), str(data), str(pause), sampler]
    return subprocess.Popen(command, cwd=REPOSITORY, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["random", pytest.param("gp", marks=pytest.mark.slow)])
def test_killed_at_any_moment_and_started_again_it_ends_like_an_uninterrupted_run(
    tmp_path: Path, data: Path, sampler: str
) -> None:
    assert _start(tmp_path / "whole", data, 0.0, sampler).wait() == 0
    folder = tmp_path / "killed"
    stored = folder / "store" / "images"
    # 122 images in all. Kill in the middle of a trial, later (with gp: once the model chooses), in
    # confirmation.
    for images in (20, 70, 100):
        process = _start(folder, data, 0.02, sampler)
        deadline = time.monotonic() + 120
        while sum(1 for _ in stored.rglob("*.png")) < images and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert process.poll() is None, "the run ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (folder / "runs/red-squares/prompts.json").exists()
    assert _start(folder, data, 0.0, sampler).wait() == 0
    both = [tmp_path / name / "runs/red-squares/prompts.json" for name in ("whole", "killed")]
    assert both[0].read_bytes() == both[1].read_bytes()
    assert [r.candidate.prompt for r in show(both[0].parent).trials] == [
        r.candidate.prompt for r in show(both[1].parent).trials
    ]


@pytest.mark.slow
def test_changed_settings_under_the_same_name_are_refused_with_the_keys(tmp_path: Path, data: Path) -> None:
    result = run(tmp_path, data, **FAST)
    before = result.prompts_path.read_bytes()
    generator = SquareGenerator()
    with pytest.raises(StudyError) as caught:
        run(tmp_path, data, generator=generator, seed=6, score={"utility": 2}, **FAST)
    for word in ("seed: 5 -> 6", "score.utility: 1.0 -> 2.0", "--name"):
        assert word in str(caught.value)
    assert generator.made == []
    assert result.prompts_path.read_bytes() == before
    other = SquareGenerator(fingerprint="0" * 64)
    with pytest.raises(StudyError, match=r"generator\.fingerprint"):
        run(tmp_path, data, generator=other, **FAST)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": "absent"}, ["data", "absent", "no such folder"]),
        ({"category": "poylps"}, ["category", "poylps", "polyps"]),
        ({"category": {**category(), "template": "a __shade__ square"}}, ["template", "shade", "column"]),
        ({"category": {**category(), "template": "a {red|green square"}}, ["template", "line 1", "column"]),
        ({"category": {**category(), "distractors": {}}}, ["distractors"]),
        ({"positives": "purple"}, ["positives", "'purple'", "red", "other"]),
        (
            {"category": {**category(), "template": "a {red|" + "very " * 30 + "red} square"}},
            ["1 of 2 prompts", "limit of 12 tokens", "35"],
        ),
        ({"category": {**category(), "baseline": "so " * 30}}, ["1 of 1 baseline prompts", "limit of 12"]),
        ({"category": {**category(), "texts": ["long " * 30]}}, ["text", "32 tokens", "20"]),
        (
            {"search": {"trials": 6, "images": 6, "sampler": "enumerate"}},
            ["enumerate", "60", "search.trials"],
        ),
        ({"category": {**category(), "template": "a square"}}, ["no prompt besides the baseline"]),
    ],
)
def test_bad_input_is_refused_before_any_trial(
    tmp_path: Path, data: Path, changes: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(StudyError) as caught:
        run(tmp_path, changes.pop("data", data), **{**FAST, **changes})
    for word in words:
        assert word in str(caught.value)


def test_a_large_space_is_checked_by_its_longest_options(tmp_path: Path, data: Path) -> None:
    slots = " ".join("{" + "|".join(f"w{i}{j}" for j in range(9)) + "|x" + " x" * i + "}" for i in range(6))
    generator = SquareGenerator()
    with pytest.raises(StudyError, match=r"at least the longest prompts .* 24"):
        run(tmp_path, data, generator=generator, category={**category(), "template": f"a {slots}"})
    assert generator.made == []


def test_missing_models_are_named(tmp_path: Path, data: Path) -> None:
    content = study(tmp_path, data=str(data), generator={"uri": "no/such/model"})
    config = study_from_mapping(content, base=tmp_path)
    with pytest.raises(StudyError, match=r"generator\.uri.*no/such/model"):
        run_study(config, runs=tmp_path / "runs", store=tmp_path / "store")
    content = study(tmp_path, data=str(data), encoder="no/such/clip")
    config = study_from_mapping(content, base=tmp_path)
    with pytest.raises(StudyError, match=r"encoder.*no/such/clip"):
        run_study(config, runs=tmp_path / "runs", store=tmp_path / "store", generator=SquareGenerator())


def test_a_pool_without_positives_is_named(tmp_path: Path) -> None:
    data = write_squares(tmp_path / "data", each=6, without="test")
    generator = SquareGenerator()
    with pytest.raises(StudyError, match=r"pool 'test': 0 images of"):
        run(tmp_path, data, generator=generator, **FAST)
    assert generator.made == []


def test_a_run_folder_that_cannot_be_written_is_named(tmp_path: Path, data: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    generator = SquareGenerator()
    with pytest.raises(StudyError, match="cannot be written"):
        run(tmp_path, data, generator=generator, **FAST)
    assert generator.made == []


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_run_folder_is_named(tmp_path: Path, data: Path) -> None:
    (tmp_path / "runs").mkdir(mode=0o500)
    with pytest.raises(StudyError, match=r"runs.*cannot be written"):
        run(tmp_path, data, **FAST)


@pytest.mark.slow
def test_two_processes_cannot_run_one_study(tmp_path: Path, data: Path) -> None:
    class Second(Observer):
        def on_start(self, start: StudyStart) -> None:
            with pytest.raises(StudyError, match="another process"):
                run(tmp_path, data, **FAST)

    run(tmp_path, data, observer=Second(), **FAST)


@pytest.mark.slow
def test_an_observer_hears_every_image_and_every_trial(tmp_path: Path, data: Path) -> None:
    class Listener(Observer):
        images = 0
        best: tuple[float, ...] = ()
        ranking: tuple[Confirmed, ...] = ()
        result: StudyResult | None = None

        def on_image(self, generated: bool) -> None:
            self.images += generated

        def on_trial(self, row: TrialRow, best: TrialRow) -> None:
            self.best = (*self.best, best.value)

        def on_confirmed(self, confirmed: tuple[Confirmed, ...]) -> None:
            self.ranking = confirmed

        def on_finish(self, result: StudyResult) -> None:
            self.result = result

    heard = Listener()
    result = run(tmp_path, data, observer=heard, **FAST)
    assert heard.images == result.generated
    assert len(heard.best) == len(show(result.folder).trials) >= 6
    assert heard.best[-1] == max(row.value for row in latest(show(result.folder).trials))
    assert [c.rank for c in heard.ranking] == [1, 2, 3, 4]  # the baseline among them
    assert heard.result is result


@pytest.mark.slow
def test_given_prompts_go_through_the_same_confirmation(tmp_path: Path, data: Path) -> None:
    found = run(tmp_path, data, given=["a tiny blue square on white", BEST], **FAST).prompts
    by_prompt = {entry.prompt: entry for entry in found.prompts}
    assert by_prompt["a tiny blue square on white"].search == {}
    assert by_prompt["a tiny blue square on white"].rank > by_prompt[BEST].rank


@pytest.mark.slow
def test_confirmation_numbers_follow_from_the_stored_images(tmp_path: Path, data: Path) -> None:
    """The score, recomputed by hand from the definition: paired, in baseline SDs, against the test pool."""
    from promptopt.run.folder import SETTINGS
    from studies.dataset import read_dataset
    from tests.promptopt.fakes import draw

    weights = {"alignment": 0, "utility": 0, "distance": 1}
    result = run(tmp_path, data, score=weights, **FAST)
    encoder = ColorEncoder()
    real = read_dataset(data).where(category="red")
    from PIL import Image

    def features(pool: str) -> np.ndarray:
        return encoder.encode_images([Image.open(p) for p in real.where(pool=pool).paths()])

    def made(prompt: str, seeds: list[int]) -> np.ndarray:
        return encoder.encode_images([draw(prompt, seed) for seed in seeds])

    seeds = result.prompts.seeds
    bandwidth = study_bandwidth(features("reference"), made("a square", seeds.search))
    base = mmd_contributions(made("a square", seeds.confirmation), features("test"), bandwidth=bandwidth)
    entry = result.prompts.prompts[0]
    own = mmd_contributions(made(entry.prompt, seeds.confirmation), features("test"), bandwidth=bandwidth)
    expected = -(own - base).mean() / base.std(ddof=1)
    assert entry.confirmation["score"].value == pytest.approx(expected, abs=1e-3)
    assert json.loads((result.folder / SETTINGS).read_text())["score"]["utility"] == 0


@pytest.mark.slow
def test_ties_are_said_to_be_ties(tmp_path: Path, data: Path) -> None:
    found = run(tmp_path, data, **FAST, given=[BEST]).prompts
    for entry in found.prompts:
        assert entry.tied_with_first == (entry.prompt in found.tied)
        if entry.behind_first is not None and entry.behind_first.low is not None:
            assert entry.tied_with_first == (entry.behind_first.low <= 0)


@pytest.mark.slow
def test_a_broken_prompt_list_is_refused_with_its_key(tmp_path: Path, data: Path) -> None:
    path = run(tmp_path, data, **FAST).prompts_path
    content = json.loads(path.read_text())
    content["prompts"][0]["weight"] = "much"
    path.write_text(json.dumps(content))
    with pytest.raises(StudyError, match="damaged, or changed by hand"):
        read_prompts(path)
    del content["checksum"]
    path.write_text(json.dumps(content))
    with pytest.raises(StudyError, match=r"prompts\.0\.weight"):
        read_prompts(path)


@pytest.mark.slow
def test_the_resolved_study_file_is_the_same_study_from_anywhere(tmp_path: Path, data: Path) -> None:
    first = run(tmp_path, data, **FAST)
    again = SquareGenerator()
    elsewhere = tmp_path / "moved.yaml"
    elsewhere.write_text((first.folder / "study.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    second = run_study(
        load_study(elsewhere),
        runs=tmp_path / "runs",
        store=tmp_path / "store",
        generator=again,
        encoder=ColorEncoder(),
    )
    assert (second.generated, second.prompts.prompts) == (0, first.prompts.prompts)


@pytest.mark.parametrize("name", ["polyps", "landmarks", "instruments"])
def test_a_copy_of_a_shipped_category_is_compared_with_the_same_classes(name: str, tmp_path: Path) -> None:
    shipped = load_category(name)
    copy = tmp_path / "mine.yaml"
    copy.write_text((FOLDER / f"{name}.yaml").read_text())
    texts = fixed_texts(shipped)
    assert fixed_texts(load_category(copy)) == texts
    assert next(iter(texts)) == name
    assert {"polyps", "landmarks", "instruments", "normal mucosa"} <= set(texts)
    for other in ("polyps", "landmarks", "instruments"):
        assert texts[other] == load_category(other).texts


@pytest.mark.slow
def test_the_plain_prompt_heads_the_list_where_none_does_better(tmp_path: Path, data: Path) -> None:
    result = run(tmp_path, data, **FAST)
    ranked = {entry.prompt: entry for entry in result.prompts.prompts}
    plain = ranked[result.prompts.baseline.prompt]
    assert plain.confirmation["score"].value == 0
    for entry in ranked.values():
        value = entry.confirmation["score"].value
        assert value is not None
        assert (entry.rank < plain.rank) == (value > 0 and entry is not plain)
