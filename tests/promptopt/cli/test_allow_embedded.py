"""Commands that measure by an encoder refuse the embedded one on images that are not the phantom's."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import evaluation.encoders.load
import evaluation.report.checkpoint_scores
from promptopt.cli.main import main
from studies.phantom import write_phantom
from tests.promptopt.fakes import write_squares

COMMANDS = {
    "evaluate": "evaluate DATA DATA --store STORE",
    "evaluate, in a second encoder": "evaluate DATA DATA --encoder thumbnail --second-encoder embedded",
    "classify": "classify DATA DATA --out OUT --store STORE",
    "compare-generators": "compare-generators DATA --generator a=embedded --out OUT --store STORE",
    "train sd": "train sd --data DATA --init embedded --out OUT --store STORE",
    "train dreambooth-lora": "train dreambooth-lora --data DATA --init embedded --out OUT --store STORE",
}
PAST_IT = "past the guard"


@pytest.fixture(autouse=True)
def _stops_past_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> Any:
        raise RuntimeError(PAST_IT)

    load = evaluation.encoders.load.load_encoder
    monkeypatch.setattr(
        evaluation.encoders.load,
        "load_encoder",
        lambda uri, **more: stop() if uri == "embedded" else load(uri, **more),
    )
    monkeypatch.setattr(evaluation.report.checkpoint_scores, "ValidationJudge", stop)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_squares(tmp_path_factory.mktemp("squares") / "data")


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom(tmp_path_factory.mktemp("phantom") / "data", images=40, size=32).root


def called(command: str, data: Path, out: Path, *more: str) -> Any:
    places = {"DATA": str(data), "OUT": str(out / "out"), "STORE": str(out / "store")}
    words = [places.get(word, word) for word in command.split()]
    return CliRunner().invoke(main, [*words, *more])


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_embedded_is_refused_on_photographs_and_works_on_the_phantom(
    command: str, photographs: Path, phantom: Path, tmp_path: Path
) -> None:
    refused = called(command, photographs, tmp_path)
    said = " ".join(refused.stderr.split())
    assert refused.exit_code == 2, said
    assert "encoder: embedded was trained on the phantom's drawings alone" in said
    assert "promptopt train clip --init embedded" in said
    assert "--allow-embedded" in said
    assert not (tmp_path / "out").exists()
    for allowed in (
        called(command, photographs, tmp_path, "--allow-embedded"),
        called(command, phantom, tmp_path),
    ):
        assert str(allowed.exception) == PAST_IT, allowed.output
