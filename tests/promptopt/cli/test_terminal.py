"""What commands print fits a terminal of 80 columns: nothing is cut off, nothing breaks within a word."""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from rich.table import Table
from typer.testing import CliRunner

from evaluation.estimate import Estimate
from evaluation.report.table import Row
from promptopt.cli._live import LiveStudy
from promptopt.cli._text import terminal
from promptopt.cli._wrapped import wrapped
from promptopt.cli.compare_generators import _print as print_comparison
from promptopt.cli.evaluate import _print as print_evaluation
from promptopt.cli.main import main
from promptopt.comparison.scores import Score
from promptopt.doctor.checks import Check, Report
from promptopt.run.prompts import read_prompts, write_prompts
from promptopt.run.trials import latest
from promptopt.study.observer import SetStart, StudyStart
from promptopt.study.run import show
from promptopt.study.sets.run import SetResult
from promptopt.study.sets.search import StepDone
from tests.promptopt.set_run import square_study
from tests.promptopt.small_run import SmallRun

TERMINAL = {"COLUMNS": "80", "FORCE_COLOR": "1", "TERM": "xterm"}


@pytest.fixture
def run(shared_run: SmallRun, tmp_path: Path) -> SmallRun:
    return shared_run.copied(tmp_path)


def printed(*words: object) -> list[str]:
    done = CliRunner(env=TERMINAL).invoke(main, [*map(str, words)])
    return re.sub(r"\x1b\[[0-9;]*m", "", done.output).splitlines()


def test_study_show_prints_every_column_whole(run: SmallRun) -> None:
    path = run.folder / "prompts.json"
    prompts = read_prompts(path)
    entry = next(e for e in prompts.prompts if e.p_value is not None)
    long = "an endoscopy photo of " + "a very large polyp, " * 6
    measured = {**entry.confirmation, "judge_accuracy": entry.confirmation["score"]}
    changed = entry.model_copy(update={"prompt": long, "p_value": 0.0345, "confirmation": measured})
    others = [changed if e is entry else e for e in prompts.prompts]
    write_prompts(path, prompts.model_copy(update={"prompts": others}))
    lines = printed("study", "show", run.folder)
    table = lines[: next(i for i, line in enumerate(lines) if line.startswith("Score:"))]
    assert max(map(len, table)) <= 80
    head = next(line for line in table if "rank" in line)
    assert head.split() == ["rank", "prompt", "weight", "score", "(95", "%)", "verdict", "p"]
    assert sum("0.034" in line or "0.035" in line for line in table) == 1
    shown = " ".join(line[7:32] for line in table)  # of the column of prompts
    assert len(re.findall(r"very\s+large\s+polyp", shown)) == 6


def test_the_bars_of_a_running_study_keep_name_bar_and_count(
    run: SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in TERMINAL.items():
        monkeypatch.setenv(key, value)
    live = LiveStudy()
    live.on_start(StudyStart("a", "red", 1000, 10, 0, 8, 3, 16, images_in_search=88))
    for number, row in enumerate(latest(show(run.folder).trials)):
        live.on_image(generated=True)
        live.on_trial(replace(row, number=number, continues=None), row)
    done = number + 1
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        console.print(live._bars.display.get_renderable())
    (line,) = capture.get().rstrip().splitlines()
    assert re.match(rf"search +[━╸]+ +{done}/88 .*images/s · .* left", line)
    live.on_phase("drawing the best prompts again")
    live.on_image(generated=True)
    live.on_confirmation(1, 4, "a prompt")
    with console.capture() as capture:
        console.print(live._bars.display.get_renderable())
    search, confirmation = capture.get().rstrip().splitlines()
    assert search.split()[-1] == f"{done}/{done}"
    assert re.match(r"confirmation [━╸ ]+ 1/64 .*images/s · .* left", confirmation)


def test_the_time_left_is_that_of_the_images_still_to_come(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for key, value in TERMINAL.items():
        monkeypatch.setenv(key, value)
    seconds = 0.0
    monkeypatch.setattr("promptopt.cli._live.time", SimpleNamespace(monotonic=lambda: seconds))
    live = LiveStudy()

    def shown() -> dict[str, tuple[float, float, str]]:
        tasks = live._bars.display.tasks
        return {one.description: (one.completed, one.total or 0, one.fields["note"]) for one in tasks}

    live.on_sets(SetStart("sets", {"red": 9, "blue": 9}, images=60, confirm_images=4, methods=5))
    for label in ("red", "blue"):
        for _ in range(20):
            seconds += 2
            live.on_class_image(label, generated=True)
    still = 2 * (60 - 20) + 5 * 4 * 2  # of both searches, and of the confirmation
    assert shown()["blue"] == (20, 60, f"0.5 images/s · {2 * still // 60} min 00 s left")
    live.on_searched("red", 20, "no prompt could add more")
    assert "red: the search ended: no prompt could add more" in capsys.readouterr().err
    assert shown()["red"] == (20, 20, "")
    seconds += 2
    live.on_class_image("blue", generated=True)
    assert shown()["blue"][2] == "0.5 images/s · 2 min 38 s left"  # 39 and 40 images
    live.on_searched("blue", 21, "no prompt could add more")
    live.on_phase("confirming the sets")
    seconds += 2
    live.on_class_image("red", generated=True)
    assert shown()["confirmation"] == (1, 40, "0.5 images/s · 1 min 18 s left")
    assert [shown()[label][2] for label in ("red", "blue")] == ["", ""]


def test_doctor_breaks_its_lines_beside_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    remedy = "use another machine, " * 9
    report = Report((Check("machine", "GPU", "note", "none " * 30, remedy),))
    monkeypatch.setattr("promptopt.doctor.checks.examine", lambda **given: report)
    lines = printed("doctor")
    assert max(map(len, lines)) <= 80
    words = " ".join(" ".join(lines).split())
    assert ("none " * 30).strip() in words
    assert "-> " + remedy.strip() in words
    names = [line[:8] for line in lines if line.strip()]
    assert names.count("--  GPU ") == 1


def test_a_submissions_faults_are_whole_words(tmp_path: Path) -> None:
    folder = tmp_path / "a folder with a name that is long, as folders are"
    folder.mkdir()
    (folder / "submission.json").write_text("{}")
    lines = printed("export", "check", folder, "--edition", "gi-2025")
    assert any(line.startswith("Error:") for line in lines)
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 80


@given(st.text("abc -\n", max_size=200), st.integers(0, 10), st.integers(30, 90))
def test_wrapped_loses_no_word(text: str, indent: int, width: int) -> None:
    lines = wrapped(text, indent=indent, width=width)
    assert " ".join(lines).split() == text.split()
    for line in lines:
        assert len(line) <= width or len(line.split()) == 1
    for line in lines[1:]:
        assert line.startswith(" " * indent)
    assert wrapped(text, indent=indent, width=0) == ([text] if text else [])


@pytest.mark.slow
def test_study_show_prints_a_run_of_sets_whole(classified_sets: SetResult) -> None:
    lines = printed("study", "show", classified_sets.folder)
    end = lines.index("Next:")
    assert max(map(len, lines[:end])) <= 80
    text = " ".join(" ".join(lines[:end]).split())
    assert text.startswith(classified_sets.sets.sentence)
    rows = [
        one for entry in classified_sets.sets.classes for one in entry.comparisons
    ] + classified_sets.sets.comparisons
    assert len(re.findall(r"\b(?:set|learned) vs \w+", text)) == len(rows)
    assert sum(text.count(f" {word} ") for word in ("better", "worse", "unclear")) >= len(rows)
    for entry in classified_sets.sets.classes:
        for one in entry.set.prompts:
            assert f"{one.weight:.2f}" in text
            assert one.prompt in text
        if entry.certificate is not None:
            assert entry.certificate.sentence in text
    after = "\n".join(lines[end:])
    assert f"promptopt augment {classified_sets.folder} --out" in after
    assert str(classified_sets.report_path) in after


LONG = "prompts_of_a_long_name-" * 4


def test_no_table_cuts_text_off(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("first", "second", title="a table")
    table.add_row(LONG, LONG + "end")
    terminal(width=80).print(table)
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert shown.count("g") == 8  # one in every "long"
    assert max(map(len, shown.splitlines())) <= 80


def test_lists_and_comparisons_of_runs_are_printed_whole(classified_sets: SetResult, tmp_path: Path) -> None:
    names = (LONG[:60], "b" * 50)
    for name in names:
        shutil.copytree(classified_sets.folder, tmp_path / name)
    for words in (["list", tmp_path], ["compare", *(tmp_path / name for name in names)]):
        lines = printed("study", *words)
        table = lines[: next((i for i, line in enumerate(lines) if line.startswith("Next:")), None)]
        assert max(len(line) for line in table if str(tmp_path) not in line) <= 80
        text = "".join(table).replace(" ", "")
        assert "…" not in text
        for word in ("finished", "set") if words[0] == "list" else ("generator", "encoder", "accuracy"):
            assert word in text
        assert classified_sets.sets.sentence.split()[-1] in text


def test_metrics_are_printed_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    measured = Estimate(-0.001234, -0.012345, 0.123456, 12345, "a method", "unreliable")
    long = "FD (open_clip:ViT-B-32/laion2b_s34b_b79k)"
    rows = [Row("fd", name, "e", "label=polyp", "lower", 9999, 9999, measured) for name in ("MMD", long)]
    print_evaluation(SimpleNamespace(rows=rows, card={"warnings": []}))
    scores = [
        Score(generator, "all", "fd", name, "lower", True, 9, 9, measured)
        for generator in ("real", "stable-diffusion-1.5", "dreambooth-lora")
        for name in (long, "MMD", "KID", "diversity", "alignment", "utility")
    ]
    scopes = [SimpleNamespace(title="all")]
    print_comparison(SimpleNamespace(scopes=scopes, of=lambda scope=None: scores, notes=[]))
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown
    assert shown.count("-0.01235 to 0.1235") == 2
    for word in ("unreliable", "12345", "status", "diversity", "-0.012 to 0.123"):
        assert word in shown


def test_study_show_says_how_far_a_run_of_sets_is(classified_sets: SetResult, tmp_path: Path) -> None:
    folder = tmp_path / "running"
    folder.mkdir()
    for name in ("study.db", "study.yaml"):
        shutil.copy(classified_sets.folder / name, folder)
    before = (folder / "study.db").read_bytes()
    with closing(sqlite3.connect(folder / "study.db")) as writer:  # a study that is writing
        writer.execute("begin immediate")
        lines = printed("study", "show", folder)
    assert "not finished" in " ".join(lines)
    for entry in classified_sets.sets.classes:
        (line,) = (line for line in lines if line.strip().startswith(f"{entry.label}:"))
        assert f"{entry.images_in_search} of 64 images, {entry.prompts_measured} prompts" in line
    assert (folder / "study.db").read_bytes() == before


@pytest.mark.slow
def test_the_bars_of_a_study_of_sets_count_the_images_of_each_class(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shifted_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for key, value in TERMINAL.items():
        monkeypatch.setenv(key, value)
    seen: list[str] = []

    class Watched(LiveStudy):
        def on_step(self, step: StepDone) -> None:
            super().on_step(step)
            console = Console(width=80, force_terminal=False)
            with console.capture() as capture:
                console.print(self._bars.display.get_renderable())
            lines = capture.get().rstrip().splitlines()
            assert max(map(len, lines)) <= 80
            (own,) = (line for line in lines if line.startswith(step.label))
            assert f"{step.images}/64" in own
            assert (f"nearer by {step.nearer:.3f}" if step.nearer > 0 else "not yet nearer") in own
            seen.append(step.label)

        def on_first_images(self, path: Path) -> None:
            super().on_first_images(path)
            assert seen == ["red", "blue"]  # one step of each
            with Image.open(path) as sheet:
                first.append((path, sheet.tobytes()))

    live = Watched()
    first: list[tuple[Path, bytes]] = []
    confirm = {"images": 4, "classifier": None}
    square_study(tmp_path, shifted_data, confirm=confirm).run(observer=live)
    ((path, before),) = first
    assert path.name in capsys.readouterr().err
    with Image.open(path) as sheet:
        assert sheet.tobytes() != before  # the set has changed since
    assert {"red", "blue"} == set(seen)
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        console.print(live._bars.display.get_renderable())
    assert re.search(r"confirmation +━+ +40/40", capture.get())
