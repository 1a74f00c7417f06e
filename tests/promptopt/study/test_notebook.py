"""Results in Python: best prompts, images, tables, and what a notebook shows."""

from pathlib import Path

import pandas
import pytest
from PIL import Image

from promptopt.config.study_file import StudyError, study_from_mapping
from promptopt.study.api import Study
from promptopt.study.notebook import result_html
from promptopt.study.run import StudyResult, run_study
from promptopt.study.sets.run import SetResult
from tests.promptopt.fakes import ColorEncoder, SquareGenerator, study, write_squares


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    folder = tmp_path_factory.mktemp("one")
    small = {"search": {"trials": 4, "images": 4}, "confirm": {"top": 2, "images": 4}}
    content = study(folder, data=str(write_squares(folder / "data")), **small)
    made = run_study(
        study_from_mapping(content, base=folder),
        runs=folder / "runs",
        store=folder / "store",
        generator=SquareGenerator(),
        encoder=ColorEncoder(),
    )
    assert isinstance(made, StudyResult)
    return made


def test_best_prompts_and_their_images_are_at_hand(result: StudyResult) -> None:
    best = result.best_prompts
    assert len(best) == 2
    assert [one.rank for one in best] == sorted(one.rank for one in best)
    plain = result.prompts.baseline.prompt
    assert plain not in [one.prompt for one in best]
    assert [Image.open(path).size for path in result.images()] == [(16, 16)] * 4
    assert result.images() == result.images(best[0].candidate)
    assert set(result.images(plain)).isdisjoint(result.images())
    with pytest.raises(StudyError, match="no fresh images of 'a dog'"):
        result.images("a dog")


def test_data_frame_has_every_confirmed_prompt(result: StudyResult) -> None:
    frame = result.to_dataframe()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame["prompt"]) == [entry.prompt for entry in result.prompts.prompts]
    first = result.prompts.prompts[0].confirmation["score"]
    assert frame.loc[0, ["score", "low", "high"]].tolist() == [first.value, first.low, first.high]


def test_short_forms_say_what_was_found(result: StudyResult, shared_sets: SetResult) -> None:
    for one, sentence in ((result, result.sentence), (shared_sets, shared_sets.sets.sentence)):
        assert len(repr(one)) < 800
        assert repr(sentence) in repr(one)
        shown = one._repr_html_()
        assert shown.count("<img ") >= 4
        assert shown.count("<img ") == shown.count("data:image/png;base64,")
    category = {"data": {"phantom": {}}, "name": "first", "category": "polyps"}
    assert repr(Study(category)) == "Study('first', aim='set': polyps)"


def test_html_escapes_and_does_without_files_that_are_gone(tmp_path: Path) -> None:
    shown = result_html(
        "a <b>", [{"prompt": "<script>", "p": 0.12345, "x": None}], {"&": [tmp_path / "gone.png"]}, tmp_path
    )
    assert "a &lt;b&gt;" in shown
    assert "<script>" not in shown
    assert "0.123<" in shown
    assert "<th>x</th>" not in shown
    assert "<img" not in shown
