"""What a study refuses or warns of before the first image."""

from pathlib import Path
from typing import Any

import pytest

import generators
from evaluation.features.feature_store import FeatureStore
from promptopt.config.study_file import StudyError, study_from_mapping
from promptopt.study.guards import refuse_embedded, warnings
from promptopt.study.setup import Setup, prepare
from studies.dataset import read_dataset
from studies.phantom import write_phantom
from tests.promptopt.fakes import ColorEncoder, SquareGenerator, study, write_squares


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_squares(tmp_path_factory.mktemp("squares") / "data")


OWN = {"generator": {"uri": "mine/pipeline"}, "encoder": "mine/clip"}


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({"generator": {"uri": "embedded"}}, "generator.uri"),
        ({"generator": {"uri": "clip-guided:embedded?mode=best&n=2"}}, "generator.uri"),
        ({"generator": {"uri": str(Path(generators.__file__).parent / "embedded" / "sd")}}, "generator.uri"),
        ({"generator": {"uri": "mine", "named": {"old": "embedded"}}}, "generator.named.old"),
        ({"encoder": "embedded", "judge": "embedded"}, "encoder and judge"),
        ({"confirm": {"second_encoder": "embedded"}}, "confirm.second_encoder"),
    ],
)
def test_embedded_networks_are_refused_on_images_that_they_do_not_know(
    squares: Path, changes: dict[str, Any], keys: str
) -> None:
    config = study_from_mapping(study(squares.parent, **OWN | changes))
    with pytest.raises(StudyError, match=rf"study: {keys}: embedded .*--allow-embedded"):
        refuse_embedded(config, read_dataset(squares))
    refuse_embedded(config.override({"allow_embedded": True}), read_dataset(squares))


def test_what_was_fine_tuned_from_them_and_the_phantom_stay_allowed(squares: Path, tmp_path: Path) -> None:
    tuned = {"generator": {"uri": "embedded+lora:mine@1"}, "encoder": "mine/clip"}
    refuse_embedded(study_from_mapping(study(squares.parent, **tuned)), read_dataset(squares))
    plain = study_from_mapping(study(tmp_path, generator={"uri": "embedded"}, encoder="embedded"))
    refuse_embedded(plain, write_phantom(tmp_path / "phantom", images=2))
    given = [("generator", object()), ("encoder", object())]
    refuse_embedded(plain, read_dataset(squares), given=given)


def test_a_study_of_photographs_is_refused_before_networks_are_opened(squares: Path, tmp_path: Path) -> None:
    content = study(squares.parent, generator={"uri": "embedded"}, encoder="nowhere")
    with pytest.raises(StudyError, match=r"generator\.uri: embedded"):
        prepare(study_from_mapping(content), store=tmp_path)


def opened(squares: Path, store: Path, **changes: Any) -> Setup:
    config = study_from_mapping(study(squares.parent, **changes))
    return prepare(config, store=store, generator=SquareGenerator(), encoder=ColorEncoder())


def test_an_encoder_that_knows_the_classes_and_enough_images_give_no_warning(
    squares: Path, tmp_path: Path
) -> None:
    setup = opened(squares, tmp_path)
    assert warnings({"red": setup}, FeatureStore(tmp_path / "features")) == []


def test_an_encoder_that_guesses_is_named_with_what_to_do(tmp_path: Path) -> None:
    data = write_squares(tmp_path / "data")
    meta = data / "metadata.jsonl"  # labels that no pixel tells: every second square of each color
    lines = meta.read_text().splitlines()
    swapped = [
        line.replace('"red"', '"x"').replace('"other"', '"red"').replace('"x"', '"other"')
        if number // 2 % 2
        else line
        for number, line in enumerate(lines)
    ]
    meta.write_text("\n".join(swapped))
    (said,) = warnings({"red": opened(data, tmp_path)}, FeatureStore(tmp_path / "features"))
    assert "'colors' hardly tells real images of 'red' from the others" in said
    assert "train clip" in said
    assert "BiomedCLIP" in said


def test_too_few_images_for_a_claim_are_told(squares: Path, tmp_path: Path) -> None:
    setup = opened(squares, tmp_path, aim="set", confirm={"images": 8})
    test, fresh = warnings({"red": setup}, FeatureStore(tmp_path / "features"))
    assert "fewer than 32 real images of a class (red: 20)" in test
    assert "confirm.images is 8" in fresh
