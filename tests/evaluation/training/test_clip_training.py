"""Training a CLIP: it learns, it resumes to the same bits, and open_clip reads what it wrote."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import evaluation.training.clip as clip_module
from evaluation.encoders.load import load_encoder
from evaluation.encoders.open_clip import build_open_clip
from evaluation.training.clip import encode_text, tokenize, train_clip
from evaluation.training.recipe import ClipModel, ClipSpec
from generators.training.push import files_to_push
from promptopt.base.training.errors import TrainingError
from promptopt.base.training.folder import held
from promptopt.base.training.progress import Progress
from studies.dataset import Dataset, Record

CONTEXT = 70
VISION = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16}
TEXT = {"context_length": CONTEXT, "width": 32, "heads": 2, "layers": 1}
CLASSES = {
    "polyps": ["a red polyp in the center", "a white polyp in the center"],
    "normal": ["normal mucosa"],
}
SPEC = ClipSpec(
    steps=6,
    batch_size=16,
    warmup_steps=2,
    save_every=3,
    model=ClipModel(embed_dim=16, vision_cfg=VISION, text_cfg=TEXT),
    zero_shot=CLASSES,
)


class Cut(Exception):  # noqa: N818
    """Stands for a kill."""


def cut_after(step: int) -> Callable[[Progress], None]:
    def stop(progress: Progress) -> None:
        if progress.step == step:
            raise Cut

    return stop


@pytest.fixture(scope="module")
def trained(squares: Dataset, tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_clip(
        SPEC, data=squares, out=tmp_path_factory.mktemp("clip") / "out", tokenizer=tokenizer_folder
    )


@pytest.mark.slow
def test_where_memory_runs_out_the_batch_is_compared_as_a_whole_all_the_same(
    squares: Dataset, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The contrastive loss sees every pair of the batch, however many images fit at a time."""
    spec = SPEC.model_copy(update={"steps": 2, "warmup_steps": 0, "validation_images": 8})
    out = {}
    for name, room in (("whole", 16), ("parts", 5)):
        real = clip_module._in_parts

        def short(encode: Any, inputs: Any, own: slice, *, most: int = room, real: Any = real) -> Any:
            if own.stop - own.start > most:
                raise RuntimeError("could not create a primitive")
            return real(encode, inputs, own)

        with monkeypatch.context() as patch:
            patch.setattr(clip_module, "_in_parts", short)
            folder = train_clip(spec, data=squares, out=tmp_path / name, tokenizer=tokenizer_folder)
        out[name] = load_file(folder / "open_clip_model.safetensors")
    start = {key: value for key, value in out["whole"].items() if value.is_floating_point()}
    for key, value in start.items():
        torch.testing.assert_close(out["parts"][key], value, rtol=1e-3, atol=2e-5, msg=key)


@pytest.mark.slow
def test_it_learns_the_pairs_of_a_handful(squares: Dataset, tokenizer_folder: Path, tmp_path: Path) -> None:
    """Sixteen pictures with captions of their own words, seen in training: all are found again."""
    chosen: dict[tuple[str, ...], Record] = {}
    for r in squares.where(pool="reference"):
        chosen.setdefault(r.text, r)
    records = list(chosen.values())[:16]
    seen = [
        Record(**{**vars(r), "pool": pool, "group": f"{pool}{r.group}"})
        for r in records
        for pool in ("reference", "validation")
    ]
    data = Dataset(root=squares.root, records=tuple(seen), fingerprint="handful")
    spec = SPEC.model_copy(
        update={"steps": 300, "learning_rate": 3e-3, "augmentation": 0.0, "save_every": 1000}
    )
    losses: list[float] = []
    out = train_clip(
        spec,
        data=data,
        out=tmp_path / "clip",
        tokenizer=tokenizer_folder,
        on_progress=lambda progress: losses.append(progress.loss),
    )
    assert losses[-1] < 0.5 < math.log(16)  # chance for sixteen distinct captions
    figures = json.loads((out / "metrics.json").read_text())["figures"]
    assert figures["image to text R@1 among 16"]["value"] > 0.9
    assert figures["text to image R@1 among 16"]["value"] > 0.9
    assert figures["zero-shot AUROC, polyps"]["value"] is not None


def test_the_folder_is_open_clips_and_small(trained: Path, squares: Dataset) -> None:
    import open_clip

    model = open_clip.create_model(f"local-dir:{trained}")
    assert model.logit_scale.item() <= math.log(100)
    encoder = load_encoder(trained)
    assert encoder.context_length == CONTEXT
    assert encoder.encode_texts(["a red polyp"]).shape == (1, 16)
    from safetensors.torch import load_file

    assert {t.dtype for t in load_file(trained / "open_clip_model.safetensors").values()} == {torch.float16}
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["encoder_fingerprint"] == encoder.fingerprint
    assert metrics["training_images"] == 128
    assert metrics["captions_cut_at_context_length"] == 0
    card = (trained / "README.md").read_text()
    assert squares.fingerprint in card
    assert "zero-shot accuracy" in card
    assert not (trained / "checkpoints").exists()
    assert files_to_push(trained)


def test_a_cut_run_ends_with_the_same_bits(
    trained: Path, squares: Dataset, tokenizer_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(Cut):
        train_clip(SPEC, data=squares, out=tmp_path, tokenizer=tokenizer_folder, on_progress=cut_after(5))
    steps: list[int] = []
    train_clip(
        SPEC,
        data=squares,
        out=tmp_path,
        tokenizer=tokenizer_folder,
        on_progress=lambda progress: steps.append(progress.step),
    )
    assert steps == [4, 5, 6]
    name = "open_clip_model.safetensors"
    assert (tmp_path / name).read_bytes() == (trained / name).read_bytes()


def test_a_trained_folder_can_be_trained_further(trained: Path, squares: Dataset, tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"model": None, "steps": 2, "train_text": False})
    out = train_clip(spec, data=squares, out=tmp_path / "more", init=trained)
    before, after = load_encoder(trained), load_encoder(out)
    assert before.fingerprint != after.fingerprint
    texts = ["a red polyp in the center", "normal mucosa"]
    np.testing.assert_allclose(before.encode_texts(texts), after.encode_texts(texts), atol=1e-5)
    from PIL import Image

    image = [Image.open(squares.paths()[0])]
    assert not np.allclose(before.encode_images(image), after.encode_images(image), atol=1e-5)


def test_training_does_not_touch_the_global_random_state(
    squares: Dataset, tokenizer_folder: Path, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_clip(SPEC.model_copy(update={"steps": 1}), data=squares, out=tmp_path, tokenizer=tokenizer_folder)
    assert torch.rand(3).equal(expected)


@pytest.mark.parametrize("pool", ["eos", "argmax", "last"])
def test_the_short_way_through_the_text_tower_is_exact(pool: str) -> None:
    config = {
        "embed_dim": 8,
        "vision_cfg": VISION,
        "text_cfg": {**TEXT, "vocab_size": 20, "pool_type": pool, "eos_id": 19},
    }
    model = build_open_clip(config, seed=0)
    tokens = torch.zeros(3, CONTEXT, dtype=torch.long)
    for row, length in enumerate((3, 9, 5)):
        tokens[row, : length - 1] = torch.arange(1, length)
        tokens[row, length - 1] = 19
    torch.testing.assert_close(encode_text(model, tokens), model.encode_text(tokens, normalize=True))


def test_captions_that_do_not_fit_are_counted(tokenizer_folder: Path) -> None:
    from open_clip.tokenizer import HFTokenizer

    tokenizer: Any = HFTokenizer(str(tokenizer_folder), context_length=6)
    # one letter a token: start, four letters and end fit exactly
    tokens, cut = tokenize(tokenizer, ["ab", "abcd", "abcde"])
    assert tokens.shape == (3, 6)
    assert cut == 1


def test_what_cannot_be_trained_is_refused(
    squares: Dataset, trained: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    with held(tmp_path), pytest.raises(TrainingError, match="another training writes there"):
        train_clip(SPEC, data=squares, out=tmp_path)
    with pytest.raises(TrainingError, match="'init' has no use"):
        train_clip(SPEC, data=squares, out=tmp_path, init=trained)
    without = SPEC.model_copy(update={"model": None})
    with pytest.raises(TrainingError, match="give the encoder to start from"):
        train_clip(without, data=squares, out=tmp_path)
    with pytest.raises(TrainingError, match="its own tokenizer"):
        train_clip(without, data=squares, out=tmp_path, init=trained, tokenizer=tokenizer_folder)
    with pytest.raises(TrainingError, match="no tokenizer here"):
        train_clip(SPEC, data=squares, out=tmp_path, tokenizer=tmp_path)
    with pytest.raises(TrainingError, match="distinct captions"):
        train_clip(SPEC, data=squares.where(category="normal"), out=tmp_path, tokenizer=tokenizer_folder)
    bad = SPEC.model_copy(
        update={"model": ClipModel(embed_dim=8, vision_cfg={**VISION, "patch_sizes": 3}, text_cfg=TEXT)}
    )
    with pytest.raises(TrainingError, match="patch_sizes"):
        train_clip(bad, data=squares, out=tmp_path, tokenizer=tokenizer_folder)
