"""The study file: what it accepts, and what it says when it does not."""

import json
from pathlib import Path

import pytest

from promptopt.base.seeds import seed_panel
from promptopt.config.paths import absolute_uri
from promptopt.config.study_file import (
    PhantomSettings,
    PhantomSource,
    StudyError,
    json_schema,
    load_study,
    study_from_mapping,
)
from promptopt.space.of_category import open_category

GOOD = """\
name: mine
category: polyps
data: {phantom: {images: 300, seed: 2}}
generator:
  uri: ../models/sd
  steps: 10
search:
  trials: 12
  sampler: tpe
aim: single
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_study_file_is_read_with_its_defaults(tmp_path: Path) -> None:
    config = load_study(write(tmp_path, GOOD))
    assert (config.name, config.search.trials, config.search.sampler, config.encoder) == (
        "mine",
        12,
        "tpe",
        "embedded",
    )
    assert isinstance(config.data, PhantomSource)
    assert config.data.phantom.images == 300


def test_relative_paths_start_at_the_study_file_and_names_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "studies"
    folder.mkdir()
    (tmp_path / "words").mkdir()
    more = """\
encoder: open_clip:ViT-B-32/laion2b_s34b_b79k
judge: ~/judge
confirm: {second_encoder: inception:weights.safetensors}
portfolio: {sentence_model: ../words}
preference: {source: ../runs/mine}
"""
    text = GOOD.replace("data: {phantom: {images: 300, seed: 2}}", "data: ../data")
    text = text.replace("category: polyps", "category: own.yaml")
    text = (
        text.replace("  sampler: tpe", "  sampler: tpe\n  warm_start: [../runs/first, /runs/second]") + more
    )
    config = load_study(write(folder, text))
    monkeypatch.chdir(tmp_path)
    assert config.generator.uri == f"{tmp_path}/models/sd"
    assert (config.category, config.data) == (f"{folder}/own.yaml", f"{tmp_path}/data")
    assert config.encoder == "open_clip:ViT-B-32/laion2b_s34b_b79k"
    assert config.judge == str(Path("~/judge").expanduser())
    assert config.confirm.second_encoder == f"inception:{folder}/weights.safetensors"
    assert config.portfolio.sentence_model == f"{tmp_path}/words"
    assert config.preference is not None
    assert config.preference.source == f"{tmp_path}/runs/mine"
    assert config.search.warm_start == (f"{tmp_path}/runs/first", "/runs/second")
    assert config.as_written(config.generator.uri) == "../models/sd"
    written = config.as_written(config.search.model_dump(mode="json"))
    assert written["warm_start"] == ["../runs/first", "/runs/second"]
    assert load_study(write(folder, GOOD)).category == "polyps"


@pytest.mark.parametrize(
    ("uri", "absolute"),
    [
        ("embedded", "embedded"),
        ("embedded-mine", "/base/embedded-mine"),
        ("hf:owner/name@2", "hf:owner/name@2"),
        ("../sd", "/sd"),
        ("/elsewhere/sd", "/elsewhere/sd"),
        ("embedded+lora:lora@0.5+lora:hf:o/n@2@1", "embedded+lora:/base/lora@0.5+lora:hf:o/n@2@1"),
        ("sd+lora:lora", "/base/sd+lora:/base/lora"),
        ("clip-guided:embedded?mode=best&n=4", "clip-guided:embedded?mode=best&n=4"),
        (
            "clip-guided:sd+lora:lora@0.5?clip=vit&mode=gradient&scale=10",
            "clip-guided:/base/sd+lora:/base/lora@0.5?clip=/base/vit&mode=gradient&scale=10",
        ),
        ("clip-guided:sd?clip=a%20b", "clip-guided:/base/sd?clip=/base/a%20b"),
        ("clip-guided:hf:owner/name?clip=open_clip:A/b", "clip-guided:hf:owner/name?clip=open_clip:A/b"),
        ("dinov2:owner/name", "dinov2:owner/name"),
        ("transformers:owner/name@v1", "transformers:owner/name@v1"),
        ("timm:resnet18.a1_in1k", "timm:resnet18.a1_in1k"),
        ("timm:resnet18@w/r18.safetensors", "timm:resnet18@/base/w/r18.safetensors"),
        ("torchvision:resnet18@../r18.safetensors", "torchvision:resnet18@/r18.safetensors"),
        ("thumbnail", "thumbnail"),
        ("inception", "inception"),
    ],
)
def test_every_path_in_a_uri_becomes_absolute_once(uri: str, absolute: str) -> None:
    assert absolute_uri(uri, Path("/base")) == absolute
    assert absolute_uri(absolute, Path("/elsewhere")) == absolute


def test_a_change_of_a_path_starts_at_the_study_file_too(tmp_path: Path) -> None:
    config = load_study(write(tmp_path, GOOD))
    changed = config.override({"encoder": "clip", "name": "other"})
    assert changed.encoder == f"{tmp_path}/clip"
    assert changed.as_written(changed.encoder) == "clip"
    assert changed.generator.uri == config.generator.uri
    assert changed.as_written(changed.generator.uri) == "../models/sd"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("  trials: 12", "  trails: 12", ["line 8", "search.trails", "unknown key", "'trials'"]),
        ("  trials: 12", "  trials: 0", ["line 8", "search.trials", "0", "greater than or equal to 1"]),
        ("  sampler: tpe", "  sampler: gpp", ["line 9", "search.sampler", "'gpp'", "'enumerate'"]),
        ("name: mine", "name: ../mine", ["line 1", "name", "'../mine'"]),
        ("name: mine\n", "", ["name", "missing"]),
        ("images: 300", "imges: 300", ["line 3", "data.phantom.imges", "unknown key", "'images'"]),
        ("images: 300", "images: many", ["line 3", "data.phantom.images", "'many'", "integer"]),
        ("  steps: 10", "  steps: 10\n  steps: 20", ["line 7", "generator.steps", "twice"]),
        ("  steps: 10", "  steps: [10", ["not valid YAML", "line"]),
        ("search:", "scores:\n  utility: 1\nsearch:", ["line 7", "scores", "unknown key", "'score'"]),
    ],
)
def test_a_wrong_study_file_names_file_line_key_value_and_remedy(
    tmp_path: Path, old: str, new: str, words: list[str]
) -> None:
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(StudyError) as caught:
        load_study(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "name:",
            "knobs: {steps: [3]}\nname:",
            "line 1: knobs: is now called generation_parameters. Rename it",
        ),
        ("  trials: 12", "  round: 3", "line 8: search.round: is now called search.proposals_per_step"),
        ("name:", "confirm: {level: 0.1}\nname:", "confirm.level: is now called confirm.alpha"),
    ],
)
def test_an_old_key_is_refused_with_the_new_name(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(StudyError) as caught:
        load_study(write(tmp_path, GOOD.replace(old, new, 1)))
    assert words in str(caught.value)


def test_every_fault_is_reported_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("trials: 12", "trials: -1").replace("steps: 10", "stepz: 10"))
    with pytest.raises(StudyError) as caught:
        load_study(path)
    assert "generator.stepz" in str(caught.value)
    assert "search.trials" in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(StudyError, match="not a mapping"):
        load_study(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="there is no such file"):
        load_study(tmp_path / "absent.yaml")


def test_all_weights_zero_is_refused() -> None:
    zero = {"alignment": 0, "utility": 0, "distance": 0}
    with pytest.raises(StudyError, match="every prompt would score the same"):
        study_from_mapping({"name": "a", "aim": "single", "category": "polyps", "data": "d", "score": zero})


def test_no_file_for_others_names_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    content = {
        "name": "a",
        "category": "polyps",
        "data": str(tmp_path / "data"),
        "encoder": f"{tmp_path}/clip",
    }
    content["generator"] = {"uri": f"{tmp_path}/sd+lora:{tmp_path}/lora@0.5"}
    config = study_from_mapping(content)
    assert config.as_written(config.generator.uri) == "~/sd+lora:~/lora@0.5"
    assert config.as_written(config.encoder) == "~/clip"
    assert study_from_mapping({**content, "encoder": "~/clip"}).encoder == config.encoder
    assert config.as_written(f"{tmp_path}er/clip") == f"{tmp_path}er/clip"


def test_overrides_are_checked_and_leave_the_original_alone(tmp_path: Path) -> None:
    config = load_study(write(tmp_path, GOOD))
    changed = config.override({"search.trials": 99, "name": "other"})
    assert (changed.search.trials, changed.name, config.search.trials) == (99, "other", 12)
    with pytest.raises(StudyError, match=r"search\.trials"):
        config.override({"search.trials": -1})


def test_the_schema_is_json_and_closed() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert schema["additionalProperties"] is False
    assert {"name"} <= set(schema["required"])


def test_seeds_are_disjoint_reproducible_and_grow_from_the_front() -> None:
    small = seed_panel(3, search_images=16, confirm_images=32)
    large = seed_panel(3, search_images=64, confirm_images=128)
    assert large.search[:16] == small.search
    assert large.confirmation[:32] == small.confirmation
    assert not set(large.search) & set(large.confirmation)
    assert len(set(large.search)) == 64
    assert seed_panel(4, search_images=16, confirm_images=32).search != small.search
    assert all(0 <= seed < 2**31 for seed in (*large.search, *large.confirmation))


def test_a_hospital_of_the_phantom_needs_fewer_images_and_a_name_that_exists():
    assert PhantomSettings(images=20, hospital="coast").test == 300
    study = {"name": "x", "aim": "single", "category": "polyps"}
    with pytest.raises(StudyError, match=r"data\.phantom.*60 or more where no hospital"):
        study_from_mapping({**study, "data": {"phantom": {"images": 20}}})
    with pytest.raises(StudyError, match="'cost' does not exist; choose home, coast"):
        study_from_mapping({**study, "data": {"phantom": {"hospital": "cost"}}})


def test_a_category_written_in_the_study_is_checked_like_the_rest(tmp_path: Path) -> None:
    text = GOOD.replace(
        "category: polyps\n",
        "category:\n  name: p\n  title: p\n  template: a polyp\n  text: [a polyp]\n  texts: [a polyp]\n"
        "  distractors: {n: [n]}\n  baseline: a polyp\n",
    )
    with pytest.raises(StudyError, match=r"study.yaml: category, line 6: text: .*did you mean 'texts'"):
        load_study(write(tmp_path, text))
    assert (
        load_study(write(tmp_path, text.replace("  text: [a polyp]\n", ""))).category["template"] == "a polyp"
    )


def test_a_folder_of_wildcards_in_the_study_begins_at_its_folder(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "color.txt").write_text("red\npink\n")
    text = GOOD.replace(
        "category: polyps\n",
        "category:\n  name: p\n  title: p\n  template: a __color__ polyp\n  wildcards: lists\n"
        "  texts: [a polyp]\n  distractors: {n: [n]}\n  baseline: a polyp\n",
    )
    found = open_category(load_study(write(tmp_path, text)))
    assert found.wildcards == {"color": ["red", "pink"]}


@pytest.mark.parametrize(
    ("uri", "wanted"),
    [
        ("owner/name", "hf:owner/name"),
        ("owner/name@v1+lora:style.safetensors@0.5", "hf:owner/name@v1+lora:{base}/style.safetensors@0.5"),
        ("models/sd", "{base}/models/sd"),
        ("a/b/c", "{base}/a/b/c"),
        ("sd.safetensors?config=sd21", "{base}/sd.safetensors?config=sd21"),
        ("sd.safetensors?config=models", "{base}/sd.safetensors?config={base}/models"),
        ("hf:owner/name/sd.safetensors?config=sd21", "hf:owner/name/sd.safetensors?config=sd21"),
    ],
)
def test_names_on_the_hub_and_checkpoint_files(uri: str, wanted: str, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    assert absolute_uri(uri, tmp_path) == wanted.format(base=tmp_path)
