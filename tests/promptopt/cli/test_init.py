"""`promptopt init` and `promptopt study check`, as a new user calls them."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from promptopt.cli.main import main
from promptopt.config.study_file import load_study
from promptopt.space.of_category import class_studies, compile_space, open_category
from studies.dataset import Record, read_dataset, write_metadata
from studies.phantom import write_phantom
from tests.studies.medvqa_gi.conftest import scene


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data set of three labels with the captions of their classes."""
    root = tmp_path_factory.mktemp("photos") / "data"
    (root / "images").mkdir(parents=True)
    records = []
    for i in range(36):
        label = ("polyp", "flat_polyp", "normal: {clean}")[i % 3]
        pool = ("reference", "validation", "test")[i // 12]
        scene(i).save(root / "images" / f"{i}.png")
        text = f"a colonoscopy image of {label.replace('_', ' ')}"
        records.append(Record(f"images/{i}.png", (text,), label, label, "here", str(i), pool))  # type: ignore[arg-type]
    write_metadata(root, records)
    return root


def invoke(*words: str, say: str | None = None) -> tuple[int, str]:
    done = CliRunner().invoke(main, list(words), input=say)
    return done.exit_code, done.output


def test_it_writes_a_study_that_loads_and_words_that_compile(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = invoke("init", "--data", str(photos), "--budget", "100", "--no-measure")
    assert code == 0, said
    config = load_study("first.yaml")
    assert config.set.budget == 100
    assert config.data == str(photos)
    assert list(config.classes) == ["flat_polyp", "normal: {clean}", "polyp"]
    assert config.generator.uri == str(tmp_path / "work" / "sd" / "pipeline")
    for label, own in class_studies(config).items():
        category = open_category(own)
        space = compile_space(category, "first.yaml")
        assert space.size == 108
        words = label.replace("_", " ")
        assert category.baseline == f"a colonoscopy image of {words}"
        assert all(words in one.prompt for one in space.distinct(200))
        assert len(category.distractors) == 2
    assert "At most 1,800 images" in said  # 3 classes x (100 + 5 methods x 100)
    assert re.search(r"promptopt train clip --data .* --out work.clip --init embedded\n", said)
    assert re.search(r"promptopt train sd --data .* --encoder work.clip\n", said)
    assert "promptopt study run first.yaml" in said


def test_it_overwrites_nothing_and_names_what_is_wrong(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("first.yaml").write_text("mine")
    plain = ("init", "--data", str(photos), "--no-measure")
    assert invoke(*plain)[0] == 2
    assert Path("first.yaml").read_text() == "mine"
    for options, message in [
        (("--classes", "polyp"), "two classes or more"),
        (("--classes", "polyp,nothing"), "'nothing' is no label"),
        (("--generator", "embedded", "--name", "x"), "generator.uri: embedded was trained on the phantom"),
    ]:
        code, said = invoke(*plain, *options)
        assert code == 2
        assert message in said.replace("\n", " ")
    assert [path.name for path in tmp_path.iterdir()] == ["first.yaml"]
    code, said = invoke("init")
    assert code == 2
    assert "promptopt data prepare folders" in said.replace("\n", " ")


def test_the_next_commands_start_here_wherever_the_study_lies(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my data").symlink_to(photos)
    monkeypatch.chdir(tmp_path)
    code, said = invoke("init", "--data", "my data", "--out", "studies/new", "--no-measure")
    assert code == 0, said
    clip, sd, check, run = (shlex.split(line) for line in said.split("Next:")[1].strip().splitlines())
    for words in (clip, sd):
        assert Path(words[words.index("--data") + 1]).samefile(photos)
    assert sd[sd.index("--encoder") + 1] == "work/clip"
    assert check[3] == run[3] == "studies/new/first.yaml"
    assert Path(run[3]).is_file()


def test_on_a_terminal_it_asks(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("promptopt.cli.init._on_terminal", lambda: True)
    code, said = invoke("init", "--no-measure", say=f"{photos}\nflat_polyp,polyp\n\n\n50\n")
    assert code == 0, said
    content = yaml.safe_load(Path("first.yaml").read_text())
    assert (list(content["classes"]), content["set"]["budget"]) == (["flat_polyp", "polyp"], 50)


@pytest.mark.slow
def test_the_study_passes_its_check_and_the_cost_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_phantom("data", images=16, test=8, hospital="coast")
    assert len(read_dataset("data")) == 48
    code, said = invoke("init", "--data", "data", "--out", "studies", "--budget", "16")
    assert code == 0, said
    assert "on this machine" in said
    assert "train" not in said.split("Next:")[1]
    code, said = invoke("study", "check", "studies/first.yaml", "--set", "confirm.images=8")
    assert code == 0, said
    assert "polyp: 81 prompts; real images: reference 8, validation 8, test 8" in said
    assert "at most 112 images. No faults found." in said
    assert "fewer than 32 real images" in said.replace("\n", " ")
    assert not Path("runs").exists()
