"""A run of sets feeds all that a run of single prompts does, or says in one sentence what to do instead."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evaluation.features.feature_store import FeatureStore
from promptopt.augmentation.filters import Reference
from promptopt.augmentation.proof.sets import prompts_of, variants
from promptopt.augmentation.run import augment
from promptopt.augmentation.sources import read_run
from promptopt.cli.main import main
from promptopt.export.best import best_list, read_best_list, rows
from promptopt.export.best_files import write_best_list
from promptopt.run.errors import ExportError
from promptopt.run.finished import read_confirmed, read_finished, read_runs
from promptopt.run.prompt_sets import SetList
from promptopt.space.prompt_lines import PromptFileError
from promptopt.study.sets.run import SetResult
from promptopt.synthesis.prompt_files import SetDraw, read_prompt_file
from studies.dataset import read_dataset
from tests.promptopt.augmentation.planted import rows as set_rows
from tests.promptopt.fakes import ColorEncoder, SquareGenerator


def test_each_class_is_one_finished_run(shared_sets: SetResult) -> None:
    assert isinstance(read_confirmed(shared_sets.prompts_path), SetList)
    red, blue = read_finished(shared_sets.folder)
    assert (red.label, blue.label) == ("red", "blue")
    for run in (red, blue):
        entry = shared_sets.sets.of(run.label)
        assert {p.candidate: p.weight for p in run.submitted} == entry.set.weights
        assert run.prompts.baseline.prompt == entry.baseline
        assert Path(run.address).name == "squares"
        assert run.config is not None
    with pytest.raises(ExportError, match="nothing would tell their prompts apart"):
        read_runs([shared_sets.folder, shared_sets.prompts_path])
    with pytest.raises(ExportError, match="no such run folder"):
        read_finished(shared_sets.folder / "nowhere")


def test_best_prompt_lists(shared_sets: SetResult, tmp_path: Path) -> None:
    runs = read_runs([shared_sets.folder])
    files = write_best_list(runs, tmp_path)
    best = read_best_list(files[0])
    assert best == best_list(runs)
    assert set(best.categories) == {"red", "blue"}
    listed = list(csv.DictReader(io.StringIO(files[1].read_text(encoding="utf-8-sig"))))
    for entry in shared_sets.sets.classes:
        own = [r for r in listed if r["category"] == entry.category and float(r["weight"]) > 0]
        assert [r["prompt"] for r in own] == [p.prompt for p in entry.set.prompts]
        assert any(r["prompt"] == entry.baseline and r["baseline"] == "True" for r in listed)
        (study,) = best.categories[entry.category]
        assert study.portfolio is not None
        compared = study.portfolio.compared["set"].estimates["closeness"]
        assert compared == entry.closeness["set"]
        *_, whole, plain = rows(study)
        assert plain.is_baseline
        assert whole.estimates["closeness"] == compared
    assert "nearer to real images than the baseline prompt's" in files[2].read_text()


def test_augmentation_sets_by_every_method(
    shared_sets: SetResult, shifted_data: Path, tmp_path: Path
) -> None:
    sources = read_run(shared_sets.folder)
    counts = {"red": 24, "blue": 12}
    reference = Reference(
        data=read_dataset(shifted_data), features=FeatureStore(tmp_path / "features"),
        encoder=ColorEncoder(),
    )  # fmt: skip
    texts = {}
    for method in ("set", "learned", "baseline", "random", "single"):
        augment(
            prompts_of(sources, method, counts, seed=1),
            tmp_path / method,
            counts=counts,
            reference=reference,
            filters=[],
            open_generator=lambda _: SquareGenerator(),
        )
        listed = set_rows(tmp_path / method)
        assert Counter(row["category"] for row in listed) == {"red": 24, "blue": 12}
        texts[method] = Counter(row["text"] for row in listed if row["category"] == "red")
    entry = shared_sets.sets.of("red")
    for prompt in entry.set.prompts:
        assert abs(texts["set"][prompt.prompt] - 24 * prompt.weight) <= 1
    assert texts["baseline"] == {entry.baseline: 24}
    assert texts["single"] == {entry.single.prompt: 24}
    assert entry.learned is not None
    assert texts["learned"] == Counter(c.prompt for c in entry.learned.sample(24, seed=1))
    assert len(texts["random"]) > len(texts["learned"])
    chosen, left_out = variants(sources, ["learned", "set", "single", "learned"], count=8, seed=1)
    assert [one.name for one in chosen] == ["learned", "set", "single"]
    assert not left_out


def test_prompts_to_synthesize(shared_sets: SetResult) -> None:
    folder, entry = shared_sets.folder, shared_sets.sets.of("red")
    with pytest.raises(PromptFileError, match="a study of red, blue; choose one of them with --class"):
        read_prompt_file(folder)
    own = read_prompt_file(folder, sets=SetDraw(label="red"))
    assert [(p.text, p.weight) for p in own.prompts] == [(p.prompt, p.weight) for p in entry.set.prompts]
    assert own.sampling["steps"] == 4
    drawn = {
        method: read_prompt_file(shared_sets.prompts_path, sets=SetDraw(label="red", method=method, total=30))
        for method in ("learned", "random", "baseline", "single")
    }
    assert len(drawn["learned"].prompts) == len(drawn["random"].prompts) == 30
    assert len({p.text for p in drawn["random"].prompts}) > 5
    assert [p.text for p in drawn["baseline"].prompts] == [entry.baseline]
    assert [p.text for p in drawn["single"].prompts] == [entry.single.prompt]
    with pytest.raises(PromptFileError, match="say how many"):
        read_prompt_file(folder, sets=SetDraw(label="red", method="learned"))
    with pytest.raises(ValueError, match="there is no class 'green'"):
        read_prompt_file(folder, sets=SetDraw(label="green"))


@pytest.mark.parametrize(
    "command",
    [
        ["transfer", "RUN", "--generator", "squares"],
        ["review", "prefer", "RUN", "--rater", "a"],
    ],
)
def test_what_has_no_meaning_for_a_set_says_what_to_do(shared_sets: SetResult, command: list[str]) -> None:
    words = [{"RUN": str(shared_sets.folder)}.get(w, w) for w in command]
    words += ["--store", str(shared_sets.folder.parent.parent / "store")]
    done = CliRunner().invoke(main, words)
    said = " ".join(done.output.split())
    assert done.exit_code != 0
    assert "a study of sets, and this is for studies with aim: single" in said
    assert "Traceback" not in said


def test_damaged_files(shared_sets: SetResult, tmp_path: Path) -> None:
    content = json.loads(shared_sets.prompts_path.read_text())
    damaged = tmp_path / "prompts.json"
    damaged.write_text(json.dumps({**content, "study": "another"}))
    for read in (read_confirmed, read_prompt_file, read_finished):
        with pytest.raises(ValueError, match=r"prompts\.json: was damaged, or changed.*Run the study"):
            read(damaged)
    del content["checksum"]  # as in files of earlier versions
    damaged.write_text(json.dumps(content))
    assert read_confirmed(damaged) == shared_sets.sets
    content["classes"][0]["set"]["prompts"] = 3
    damaged.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"prompts\.json: .*classes"):
        read_confirmed(damaged)
    damaged.write_text("{")
    with pytest.raises(ValueError, match=r"prompts\.json"):
        read_confirmed(damaged)
