"""Recipes: what ships loads, and what is wrong is named."""

from pathlib import Path

import pytest

from evaluation.training.recipe import ClipSpec, JudgeSpec, RecipeError, load_recipe


def test_the_recipes_that_ship_load() -> None:
    tiny, finetune, judge = (load_recipe(name) for name in ("tiny-clip", "clip-finetune", "judge"))
    assert isinstance(tiny, ClipSpec)
    assert tiny.model is not None
    assert isinstance(finetune, ClipSpec)
    assert finetune.model is None
    assert isinstance(judge, JudgeSpec)


def test_changes_reach_keys_at_any_depth_and_keep_their_types() -> None:
    spec = load_recipe(
        "tiny-clip", changes=["steps=7", "learning_rate=3e-4", "model.embed_dim=32", "train_text=false"]
    )
    assert isinstance(spec, ClipSpec)
    assert spec.steps == 7
    assert spec.learning_rate == 3e-4
    assert spec.model is not None
    assert spec.model.embed_dim == 32
    assert spec.train_text is False


def test_a_recipe_of_ones_own_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("kind: judge\nsteps: 3\nlearning_rate: 1e-3\n")
    spec = load_recipe(tmp_path / "mine.yaml")
    assert spec.steps == 3
    assert spec.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["stepps=3"], "stepps"),
        (["steps=0"], r"tiny-clip\.yaml: steps: 0 is not allowed"),
        (["model.width=3"], r"model\.width"),
        (["steps"], "write KEY=VALUE"),
        (["seed.x=3"], "'seed' is not a mapping"),
        (["kind=vae"], "kind"),
    ],
)
def test_what_is_wrong_is_named(changes: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("tiny-clip", changes=changes)


def test_an_unknown_recipe_lists_those_that_ship() -> None:
    with pytest.raises(RecipeError, match="tiny-clip"):
        load_recipe("huge-clip")
    with pytest.raises(RecipeError, match="no such file"):
        load_recipe("../judge")


def test_a_file_that_is_not_a_mapping_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("- 1\n")
    with pytest.raises(RecipeError, match="mapping"):
        load_recipe(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("kind: [")
    with pytest.raises(RecipeError, match="not valid YAML"):
        load_recipe(tmp_path / "b.yaml")


def test_names_of_a_judge_need_an_answer_for_does_not_apply() -> None:
    with pytest.raises(RecipeError, match="none"):
        load_recipe("judge", changes=["names.color=[red, white]"])
