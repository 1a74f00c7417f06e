from pathlib import Path

import pytest
import yaml

from promptopt.space.of_category import category_space
from studies.category import CategoryError, load_category

CATEGORY = {
    "name": "moles",
    "title": "moles",
    "template": "a __color__ mole on __skin/tone__ skin",
    "wildcards": "lists",
    "texts": ["a mole"],
    "distractors": {"skin": ["plain skin"]},
    "baseline": "a mole",
}


def write(folder: Path, **changes: object) -> Path:
    path = folder / "moles.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in {**CATEGORY, **changes}.items() if v is not None}))
    return path


def test_folder_of_lists_is_read_from_where_the_category_lies(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir("/")
    (tmp_path / "lists" / "skin").mkdir(parents=True)
    (tmp_path / "lists" / "color.txt").write_text("# by daylight\n3::brown\n\nred\nred\n")
    (tmp_path / "lists" / "skin" / "tone.txt").write_text("\ufefffair\r\ndark\r\n", encoding="utf-8")
    space = category_space(load_category(write(tmp_path)))
    assert {slot.name: (slot.options, slot.weights) for slot in space.slots} == {
        "color": (("brown", "red"), (0.75, 0.25)),
        "skin/tone": (("fair", "dark"), (0.5, 0.5)),
    }


def test_wildcards_may_be_left_out(tmp_path: Path) -> None:
    space = category_space(load_category(write(tmp_path, wildcards=None, template="a {red|brown} mole")))
    assert space.size == 2


@pytest.mark.parametrize(
    ("files", "said"),
    [(None, "no such folder"), ({}, "no .txt file"), ({"a.txt": "# x\n\n"}, "a.txt: holds no option")],
)
def test_folder_without_options_is_refused(files: dict[str, str] | None, said: str, tmp_path: Path) -> None:
    if files is not None:
        (tmp_path / "lists").mkdir()
        for name, text in files.items():
            (tmp_path / "lists" / name).write_text(text)
    with pytest.raises(CategoryError, match=said) as caught:
        load_category(write(tmp_path))
    assert "moles.yaml: wildcards:" in str(caught.value)
