"""Lists of prompts in all their layouts, and what is said about broken ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from promptopt.config.study_file import load_study
from promptopt.space.prompt_lines import PromptFileError
from promptopt.study.run import run_study
from promptopt.synthesis.prompt_files import read_prompt_file
from tests.promptopt.fakes import ColorEncoder, SquareGenerator, study, write_squares


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("gt.csv", "Prompt;Filename\na polyp, red;a.jpg\n\na snare;b.jpg\n"),
        ("gt.CSV", '\ufeffFilename,Prompt\r\na.jpg,"a polyp, red"\r\n,\r\nb.jpg,a snare\r\n'),
        ("list.txt", "a polyp, red\n  \na snare"),
        ("list.txt", "a polyp, red\r\n\r\n a snare \r\n"),
        ("list.jsonl", '{"prompt": "a polyp, red"}\n\n{"prompt": "a snare", "other": 1}\n'),
    ],
)
def test_the_layouts_say_the_same(name: str, content: str, tmp_path: Path) -> None:
    found = read_prompt_file(write(tmp_path, name, content))
    header = name.lower().endswith(".csv")
    assert [(p.text, p.number, p.line - header) for p in found.prompts] == [
        ("a polyp, red", 1, 1),
        ("a snare", 2, 3),
    ]
    assert found.blank == (2 + header,)
    assert {p.negative for p in found.prompts} == {None}


def test_weights_negative_prompts_and_repetitions_are_read(tmp_path: Path) -> None:
    counted = read_prompt_file(write(tmp_path, "captions.csv", "Prompt;Count\na;1589\nb;3\na;2\n"))
    assert [p.weight for p in counted.prompts] == [1589, 3, 2]
    assert counted.duplicates() == {"a": [2, 4]}
    lines = write(
        tmp_path, "l.jsonl", '{"prompt": "a", "negative_prompt": "", "weight": 0.5}\n{"prompt": "b"}\n'
    )
    first, second = read_prompt_file(lines).prompts
    assert (first.negative, first.weight, second.negative, second.weight) == ("", 0.5, None, 1.0)


def test_the_challenges_caption_list_is_read_whole(shared_data: Path) -> None:
    found = read_prompt_file(shared_data / "medvqa-gi-2024-captions.csv")
    assert len(found.prompts) == 483
    assert found.prompts[0].weight == 1589


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "Caption;Filename\na;b\n", "without 'prompt'. Give it a header with a column 'Prompt'"),
        ("a.csv", "Prompt|Filename\na|b\n", "separated by '|'; the separator is ';' or ',' or '\\t'"),
        (
            "a.csv",
            "Prompt,Filename\na polyp, red,a.jpg\n",
            "line 2: 3 fields where the header",
        ),
        ("a.csv", "Prompt;Filename\na polyp,a.jpg\n", "line 2: 1 fields"),
        ("a.csv", 'Prompt;Filename\n"a;b\n', "not CSV"),
        ("a.csv", "Prompt;prompt\na;b\n", "twice"),
        ("a.csv", "Prompt;weight\na;-1\n", "line 2: the weight is '-1'"),
        ("a.csv", "Prompt;Count\na;many\n", "the weight is 'many'"),
        ("a.txt", "Prompt;Filename\na;b\n", "name the file .csv"),
        ("a.txt", "\n \n", "holds no prompt"),
        ("a.txt", b"caf\xe9\n", "not UTF-8 at byte 3"),
        ("a.jsonl", '{"prompt": "a"}\nb\n', "line 2, column 1: not JSON"),
        ("a.jsonl", '{"text": "a"}\n', "no text under the key 'prompt'"),
        ("a.jsonl", '{"prompt": "a", "negative_prompt": 3}\n', "'negative_prompt' is 3"),
        ("a.jsonl", '{"prompt": "a", "weight": NaN}\n', "line 1: NaN is not"),
    ],
)
def test_a_broken_list_is_refused_with_its_line(
    name: str, content: str | bytes, said: str, tmp_path: Path
) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(PromptFileError) as caught:
        read_prompt_file(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(PromptFileError, match="no such file"):
        read_prompt_file(tmp_path / "none.txt")


@pytest.mark.slow
def test_a_studys_prompts_bring_weights_and_settings(tmp_path: Path) -> None:
    write_squares(tmp_path / "data")
    (tmp_path / "study.yaml").write_text(json.dumps(study(tmp_path)))
    generator = SquareGenerator()
    result = run_study(
        load_study(tmp_path / "study.yaml"),
        runs=tmp_path / "runs",
        store=tmp_path / "store",
        generator=generator,
        encoder=ColorEncoder(),
    )
    path = tmp_path / "runs" / "red-squares" / "prompts.json"
    found = read_prompt_file(path)
    written = json.loads(path.read_text())
    assert [p.text for p in found.prompts] == [entry["prompt"] for entry in written["prompts"]]
    assert [p.weight for p in found.prompts] == [entry["weight"] for entry in written["prompts"]]
    assert found.generator == generator.fingerprint
    assert found.sampling["steps"] == 4
    assert found.sampling["scheduler"] == "ink"
    assert result is not None
