"""What a person sees of a study: while it runs, when it is shown, when it is not finished."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from promptopt.cli._live import LiveStudy
from promptopt.cli.main import main
from promptopt.config.study_file import study_from_mapping
from promptopt.formatting.numbers import duration
from promptopt.study.run import run_study
from tests.promptopt.fakes import ColorEncoder, SquareGenerator, study, write_squares

SMALL = {
    "search": {"trials": 4, "images": 4, "sampler": "random"},
    "confirm": {"top": 2, "images": 4},
}


def run(folder: Path, data: Path):
    with LiveStudy() as live:
        return run_study(
            study_from_mapping(study(folder, data=str(data), **SMALL), base=folder),
            runs=folder / "runs",
            store=folder / "store",
            generator=SquareGenerator(),
            encoder=ColorEncoder(),
            observer=live,
        )


def show(folder: Path):
    return CliRunner(env={"COLUMNS": "300"}).invoke(main, ["study", "show", str(folder)])


@pytest.mark.slow
def test_live_display_then_show(tmp_path, capsys):
    data = write_squares(tmp_path / "data")
    result = run(tmp_path, data)
    said = capsys.readouterr().err
    assert "4 trials, 4 images each" in said
    assert "best so far after prompt 1: " in said
    assert f"confirmed: {result.prompts.prompts[0].prompt}" in said
    assert f"{result.generated} images generated" in said

    run(tmp_path, data)
    assert "0 images generated" in capsys.readouterr().err

    shown = show(result.folder)
    assert shown.exit_code == 0, shown.output
    for entry in result.prompts.prompts:
        assert entry.prompt in shown.stdout
    assert result.prompts.baseline.prompt in shown.stdout
    assert str(result.prompts_path) in shown.stdout

    result.prompts_path.unlink()
    unfinished = show(result.folder)
    assert unfinished.exit_code == 0, unfinished.output
    assert "not finished, 4 prompts so far" in unfinished.stdout

    broken = result.prompts_path
    broken.write_text("{}")
    assert show(result.folder).exit_code == 2
    assert "prompts.json" in show(result.folder).stderr


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (3599, "59 min 59 s"), (7380, "2 h 03 min")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("pair", "complaint"),
    [
        ("search.trails=4", "trails"),
        ("serach.trials=4", "serach"),
        ("search.trials=none", "search.trials"),
        ("search.trials", "KEY=VALUE"),
        ("search.trials=[", "not YAML"),
    ],
)
def test_a_key_given_on_the_command_line_is_checked_like_the_file(tmp_path, pair, complaint):
    file = tmp_path / "study.yaml"
    file.write_text("name: s\ncategory: polyps\ndata: {phantom: {images: 100}}\n")
    done = CliRunner().invoke(main, ["study", "run", str(file), "--set", pair])
    assert done.exit_code == 2
    assert complaint in done.stderr
    assert not (tmp_path / "runs").exists()
