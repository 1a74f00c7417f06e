"""A whole study of sets over colored squares."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import optuna
import pytest
from PIL import Image
from typer.testing import CliRunner

from generators.request import ImageRequest
from promptopt.cli.main import main
from promptopt.config.study_file import StudyError
from promptopt.run.finished import read_confirmed
from promptopt.study.api import Study
from promptopt.study.observer import Observer
from promptopt.study.sets.run import SetResult
from promptopt.study.sets.search import StepDone
from tests.promptopt.fakes import ColorEncoder, SquareGenerator
from tests.promptopt.set_run import SHIFTED, set_study, square_study, write_real

LITTLE = {"set": {"budget": 40, "images": 4, "prompts": 4, "tolerance": None}}


class Stops(Observer):
    """Ends the process's study at a step, as a kill would."""

    def __init__(self, after: int) -> None:
        self.left = after

    def on_step(self, step: StepDone) -> None:
        self.left -= not step.replayed
        if self.left <= 0:
            raise KeyboardInterrupt


def verdicts(result: SetResult, second: str) -> dict[str, str]:
    return {
        c.label: one.verdict
        for c in result.sets.classes
        for one in c.comparisons
        if (one.first, one.second, one.metric) == ("set", second, "closeness")
    }


def test_a_set_for_another_hospital_is_shown_to_be_nearer(shared_sets: SetResult) -> None:
    assert verdicts(shared_sets, "baseline") == {"red": "better", "blue": "better"}
    assert "set are nearer to" in shared_sets.sets.sentence
    red = shared_sets.sets.of("red")
    planted = set(SHIFTED["red"])  # what the real images were drawn from
    assert sum(p.weight for p in red.set.prompts if p.prompt in planted) > 0.8
    assert sum(p.weight for p in red.set.prompts) == pytest.approx(1)
    assert red.learned is not None
    on_white = [one.prompt.endswith("on white") for one in red.learned.sample(50, seed=1)]
    assert sum(on_white) > 40


def test_the_budget_is_kept_and_every_image_is_on_record(shared_sets: SetResult) -> None:
    budget = set_study(Path())["set"]["budget"]
    for entry in shared_sets.sets.classes:
        assert entry.images_in_search <= budget
        study = optuna.load_study(
            study_name=entry.label, storage=f"sqlite:///{shared_sets.folder / 'study.db'}"
        )
        trials = study.get_trials(deepcopy=False)
        assert all(trial.state.is_finished() for trial in trials)
        assert sum(max(trial.intermediate_values) for trial in trials) == entry.images_in_search
        assert len(trials) == entry.prompts_measured


@pytest.mark.slow
def test_the_generators_own_distribution_is_not_claimed_to_be_improved(
    tmp_path: Path, home_data: Path
) -> None:
    result = square_study(tmp_path, home_data).run()
    assert isinstance(result, SetResult)
    assert "better" not in verdicts(result, "baseline").values()
    assert "were not shown to be nearer" in result.sets.sentence


@pytest.mark.slow
def test_a_killed_study_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, shifted_data: Path) -> None:
    whole = square_study(tmp_path / "whole", shifted_data, **LITTLE).run()
    assert isinstance(whole, SetResult)
    for after in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            square_study(tmp_path / "cut", shifted_data, **LITTLE).run(observer=Stops(after))
    again = square_study(tmp_path / "cut", shifted_data, **LITTLE).run()
    assert again.prompts_path.read_bytes() == whole.prompts_path.read_bytes()
    finished = square_study(tmp_path / "cut", shifted_data, **LITTLE).run()
    assert finished.nothing_new
    assert finished.prompts_path.read_bytes() == whole.prompts_path.read_bytes()


def test_what_a_result_offers(shared_sets: SetResult) -> None:
    assert set(shared_sets.best_prompts) == {"red", "blue"}
    paths = shared_sets.images("red", "baseline")
    assert len(paths) == len(set(paths)) == len(shared_sets.sets.seeds.confirmation)
    assert all(path.is_file() for path in paths)
    assert len(repr(shared_sets)) < 400
    frame = shared_sets.to_dataframe()
    assert list(frame["prompt"]) == [row["prompt"] for row in shared_sets.rows()]
    with pytest.raises(ValueError, match="no images of 'green'"):
        shared_sets.images("green")
    assert read_confirmed(shared_sets.prompts_path) == shared_sets.sets


def test_distances_between_the_prompts_of_a_set_are_written(shared_sets: SetResult) -> None:
    entry = next(c for c in shared_sets.sets.classes if len(c.set.prompts) > 1)
    assert entry.distances is not None
    words = [set(one.prompt.split()) for one in entry.set.prompts]
    weights = [one.weight for one in entry.set.prompts]
    expected = [[1 - len(a & b) / len(a | b) for b in words] for a in words]
    assert np.array(entry.distances.between) == pytest.approx(np.array(expected), abs=1e-4)
    assert entry.distances.mean == pytest.approx(np.array(weights) @ expected @ weights, abs=1e-4)
    nearest = min(expected[i][j] for i in range(len(words)) for j in range(i))
    assert entry.distances.nearest == pytest.approx(nearest, abs=1e-4)
    alone = [c for c in shared_sets.sets.classes if len(c.set.prompts) == 1]
    assert all(c.distances is None for c in alone)
    said = entry.distances.sentence
    assert said in html.unescape(shared_sets.report_path.read_text())
    shown = CliRunner().invoke(main, ["study", "show", str(shared_sets.folder)])
    assert said in " ".join(shown.output.split())


def test_an_unusable_sentence_model_stops_a_study_before_the_first_image(
    tmp_path: Path, shifted_data: Path
) -> None:
    settings = {"set": {**LITTLE["set"], "sentence_model": "no-such-package"}}
    with pytest.raises(StudyError, match=r"set\.sentence_model: 'no-such-package'"):
        square_study(tmp_path, shifted_data, **settings).run()
    assert not list((tmp_path / "store").glob("images/**/*.png"))


@pytest.mark.slow
def test_prompts_nearer_than_asked_for_are_one(tmp_path: Path, shifted_data: Path) -> None:
    settings = {
        "set": {**LITTLE["set"], "min_distance": 0.2}
    }  # "a big ..." and "a small ..." share 6 of 8 words
    result = square_study(tmp_path, shifted_data, **settings).run()
    assert isinstance(result, SetResult)
    prompts = [p.prompt for p in result.sets.of("red").set.prompts]
    for i, first in enumerate(prompts):
        for second in prompts[:i]:
            one, two = set(first.split()), set(second.split())
            assert 1 - len(one & two) / len(one | two) >= 0.2


def test_a_class_without_real_images_is_refused(tmp_path: Path) -> None:
    data = write_real(tmp_path / "data", {"red": ("a red square",)})
    with pytest.raises(ValueError, match="at least 4 are needed"):
        square_study(tmp_path, data).run()


@pytest.mark.slow
def test_captions_of_the_real_images_can_be_compared_with(tmp_path: Path, shifted_data: Path) -> None:
    confirm = {"images": 40, "classifier": None, "captions": True}
    result = square_study(tmp_path, shifted_data, **LITTLE, confirm=confirm).run()
    assert isinstance(result, SetResult)
    red = result.sets.of("red")
    captions, baseline = red.closeness["captions"].value, red.closeness["baseline"].value
    assert captions is not None
    assert baseline is not None
    assert captions < baseline  # they are what the real images were drawn from
    assert ("set", "captions") in {(one.first, one.second) for one in red.comparisons}


class Tinted(SquareGenerator):
    """All that it draws has a cast, which its autoencoder gives to real images too."""

    fingerprint = "7" * 64

    def reconstruct(self, pictures: Sequence[Image.Image]) -> list[Image.Image]:
        return [Image.eval(picture, lambda level: level * 2 // 3) for picture in pictures]

    def generate(self, requests: Sequence[ImageRequest]) -> Iterator[Image.Image]:
        for picture in super().generate(requests):
            yield from self.reconstruct([picture])


@pytest.mark.slow
def test_what_the_autoencoder_does_to_every_image_is_no_distance(tmp_path: Path, shifted_data: Path) -> None:
    def run(through: str) -> SetResult:
        study = Study(
            set_study(shifted_data, **LITTLE, closeness={"through": through}),
            generator=Tinted(),
            encoder=ColorEncoder(),
            runs=tmp_path / through,
            store=tmp_path / "store",
        )
        result = study.run()
        assert isinstance(result, SetResult)
        return result

    plain, through = run("nothing").sets.of("red"), run("autoencoder").sets.of("red")
    near, far = through.closeness["set"].value, plain.closeness["set"].value
    assert near is not None
    assert far is not None
    assert near < far / 2
    as_they_are = through.metrics["set"]["closeness_as_they_are"].value
    assert as_they_are is not None
    assert near < as_they_are / 2
    assert "closeness_as_they_are" not in plain.metrics["set"]


def test_a_generator_without_an_autoencoder_is_refused(tmp_path: Path, shifted_data: Path) -> None:
    with pytest.raises(ValueError, match=r"closeness\.through: the generator .* has no autoencoder"):
        square_study(tmp_path, shifted_data, **LITTLE, closeness={"through": "autoencoder"}).run()
