"""`promptopt export list` from the outside."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from pydantic import BaseModel, Field
from typer.testing import CliRunner

from promptopt.cli.main import main
from promptopt.export.best import BestList, read_best_list, rows
from promptopt.export.best_tables import to_csv, to_latex, to_markdown
from promptopt.formatting.escapes import csv_original
from promptopt.run.errors import ExportError
from promptopt.run.prompts import EstimateEntry, PromptEntry
from tests.latex import compile_tables
from tests.promptopt.export.runs import BASELINE, estimate, prompt_list, write_run

EVIL = '=HYPERLINK("http://x") | 100% _a_ \\input{/etc/passwd} <script>'


def _list(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["export", "list", *map(str, words)])
    return done.exit_code, " ".join(done.output.split())


def test_the_list_of_several_runs_in_every_format(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, "landmarks", stored=False), write_run(tmp_path, stored=False)]
    runs.append(write_run(tmp_path, study="second", stored=False))
    assert _list(*runs, "--out", tmp_path / "out")[0] == 0
    best = read_best_list(tmp_path / "out" / "best-prompts.json")
    assert list(best.categories) == ["polyps", "landmarks"]  # the challenge's order
    assert [study.study for study in best.categories["polyps"]] == ["polyps-study", "second"]
    assert best.categories["landmarks"] == [prompt_list("landmarks")]
    with (tmp_path / "out" / "best-prompts.csv").open(encoding="utf-8-sig", newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [(row["study"], row["rank"], row["weight"]) for row in table[:3]] == [
        ("polyps-study", "1", "0.75"),
        ("polyps-study", "2", "0.25"),
        ("polyps-study", "3", "0.0"),
    ]
    first = table[0]
    assert (first["score:value"], first["score:low"], first["score:high"]) == ("0.5", "0.0", "1.0")
    assert first["kid:value"] == ""
    assert first["kid:status"] == "undefined"
    assert (first["tied_with_first"], first["baseline"], table[2]["baseline"]) == ("True", "False", "True")
    assert json.loads(first["study_settings"])["generator"]["steps"] == 2
    assert first["confirmation_seeds"].split() == [str(seed) for seed in range(100, 108)]
    page = (tmp_path / "out" / "best-prompts.md").read_text()
    html = MarkdownIt("commonmark").enable("table").render(page)
    assert html.count("<table>") == 3
    assert "<td>a red polyp</td>" in html
    assert "0.50 (0.00 to 1.00)" in html
    source = (tmp_path / "out" / "best-prompts.tex").read_text()
    assert source.count(r"\begin{tabular}") == source.count(r"\end{tabular}")
    assert source.count(r"\begin{table}") == source.count(r"\toprule") == 6
    assert "second" in source


def test_what_a_prompt_holds_is_shown_and_does_nothing() -> None:
    entry = prompt_list().prompts[0].model_copy(update={"prompt": EVIL})
    best = BestList(categories={"polyps": [prompt_list(prompts=[entry])]})
    row = next(csv.DictReader(to_csv(best).splitlines()))
    assert row["prompt"].startswith("'=")
    assert csv_original(row["prompt"]) == EVIL
    html = MarkdownIt("commonmark").enable("table").render(to_markdown(best))
    assert "<script>" not in html
    assert "100% _a_ \\input{/etc/passwd} &lt;script&gt;" in html
    source = to_latex(best)
    assert r"\input" not in source
    assert r"100\% \_a\_ \textbackslash{}input\{/etc/passwd\} \textless{}script" in source


def test_every_line_of_a_latex_table_has_all_its_columns() -> None:
    many = [
        prompt_list().prompts[0].model_copy(update={"rank": n, "prompt": f"p {n} & q"}) for n in range(1, 8)
    ]
    source = to_latex(BestList(categories={"polyps": [prompt_list(prompts=many)]}))
    tables = re.findall(
        r"\\sbox2\{\\begin\{tabular\}\{([^\n]*)\}\n(.*?)\n\\end\{tabular\}\}", source, re.DOTALL
    )
    assert len(tables) == 3  # the prompts, and seven with the baseline's column in two parts
    for columns, body in tables:
        count = len(re.sub(r">\{[^}]*\}p\{[^}]*\}", "p", columns))
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert len(lines) > 3
        assert all(len(re.findall(r"(?<!\\)&", line)) == count - 1 for line in lines)


@pytest.mark.parametrize("options", ["", "twocolumn"])
def test_the_tables_compile_and_fit_the_column(tmp_path: Path, options: str) -> None:
    signs = EVIL + " ~^#&$ [x] -- '' “” ± β Ł 中 🙂 " + "a long word " * 20
    entry = (
        prompt_list().prompts[0].model_copy(update={"prompt": signs, "generation_parameters": {"steps": 2}})
    )
    wide = {name: estimate(-1234.5678, status="unreliable") for name in ("score", "fr_chet", "n%")}
    many = [entry.model_copy(update={"rank": n, "confirmation": wide}) for n in range(1, 7)]
    best = BestList(categories={"polyps": [prompt_list(study="a_b & co", prompts=many), prompt_list()]})
    said = compile_tables([to_latex(best)], tmp_path / "paper", options=options)
    assert "LaTeX Warning: Label `" not in said  # none twice


def test_fields_of_later_versions_show_up_by_themselves() -> None:
    class Later(PromptEntry):
        holm_p: float | None = None
        regret: EstimateEntry | None = None
        second_encoder: dict[str, EstimateEntry] = Field(default_factory=dict)

    old = prompt_list().prompts[0]
    confirmation = {**old.confirmation, "new metric": estimate(0.25)}
    later = Later(
        **{**dict(old), "confirmation": confirmation},
        holm_p=0.0321,
        regret=estimate(0.5),
        second_encoder={"mmd": estimate(2.0)},
    )
    study = prompt_list().model_copy(update={"prompts": [later]})
    row = rows(study)[0]
    assert {"new metric", "regret", "second_encoder/mmd"} <= set(row.estimates)
    assert row.scalars == {"verdict": "unclear", "better_than_baseline": False, "holm_p": 0.0321}
    best = BestList.model_construct(categories={"polyps": [study]})
    table = next(csv.DictReader(to_csv(best).splitlines()))
    assert (table["holm_p"], table["second_encoder/mmd:low"]) == ("0.0321", "1.5")
    assert "| holm p |" in to_markdown(best)
    assert "| verdict |" in to_markdown(best)
    assert "| unclear |" in to_markdown(best)
    assert "better than baseline" not in to_markdown(best)


def test_a_baseline_that_was_not_ranked_stands_at_the_end() -> None:
    study = prompt_list(prompts=prompt_list().prompts[:2])
    last = rows(study)[-1]
    assert (last.rank, last.prompt, last.is_baseline) == (None, BASELINE, True)


def test_the_schema_describes_the_file(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["export", "schema"])
    schema = json.loads(done.output)
    assert schema["properties"]["format"]["const"] == "promptopt-best-prompts"
    assert issubclass(BestList, BaseModel)
    (tmp_path / "x.json").write_text('{"format": "promptopt-best-prompts", "categories": {"a": [{}]}}')
    with pytest.raises(ExportError, match=r"x\.json: categories\.a\.0\.study"):
        read_best_list(tmp_path / "x.json")


def test_runs_that_cannot_be_listed_say_why(tmp_path: Path) -> None:
    out = ["--out", tmp_path / "out"]
    code, said = _list(tmp_path / "nowhere", *out)
    assert code == 2
    assert "nowhere: there is no such run folder" in said
    cut = tmp_path / "runs with space" / "cut"
    cut.mkdir(parents=True)
    assert "neither prompts.json nor study.db" in _list(cut, *out)[1]
    (cut / "study.db").touch()
    (cut / "study.yaml").touch()
    said = _list(cut, *out)[1]
    assert f"{cut}: this study is not finished, prompts.json is missing" in said
    assert f"promptopt study run '{cut}/study.yaml' --runs '{cut.parent}'" in said
    (cut / "prompts.json").write_text(
        write_run(tmp_path, stored=False).joinpath("prompts.json").read_text()[:999]
    )
    code, said = _list(cut, *out)
    assert code == 2
    assert "cut/prompts.json" in said
    unconfirmed = [entry.model_copy(update={"confirmation": {}}) for entry in prompt_list().prompts]
    bare = write_run(tmp_path, "landmarks", stored=False, prompts=unconfirmed)
    assert "has no confirmed prompt" in _list(bare, *out)[1]
    weightless = [entry.model_copy(update={"weight": 0.0}) for entry in prompt_list().prompts]
    flat = write_run(tmp_path, "instruments", stored=False, prompts=weightless)
    assert "are no shares" in _list(flat, *out)[1]
    same = write_run(tmp_path / "elsewhere", stored=False)
    code, said = _list(tmp_path / "runs" / "polyps-study", same, *out)
    assert code == 2
    assert "both are the study 'polyps-study'" in said
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_unasked_and_a_full_disk_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = write_run(tmp_path, stored=False), tmp_path / "out"
    assert _list(run, "--out", out, "--format", "csv")[0] == 0
    before = (out / "best-prompts.csv").read_bytes()
    code, said = _list(run, "--out", out)
    assert code == 2
    assert "best-prompts.csv there already" in said
    assert [path.name for path in out.iterdir()] == ["best-prompts.csv"]
    assert "'html'" in _list(run, "--out", out, "--format", "html")[1]
    other = write_run(tmp_path, study="other", stored=False)
    calls = []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, said = _list(other, "--out", out, "--force")
    assert code == 2
    assert "No space left on device" in said
    assert (out / "best-prompts.csv").read_bytes() == before
    assert [path.name for path in out.iterdir()] == ["best-prompts.csv"]
    monkeypatch.undo()
    assert _list(other, "--out", out, "--force")[0] == 0
    assert (out / "best-prompts.csv").read_bytes() != before
