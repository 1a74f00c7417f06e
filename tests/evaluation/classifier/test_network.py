"""Fine-tuning: learns what is there, repeats itself, starts from given weights, refuses others."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import resnet18

from evaluation import ClassifierError, LabeledImages, NetworkLearner, five_arms
from evaluation.classifier.network import read_pixels


def pictures(n: int, *, seed: int, name: str) -> LabeledImages:
    """16 x 16 noise, reddish or bluish."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(60, 160, size=(n, 16, 16, 3))
    kinds = np.arange(n) % 2
    pixels[kinds == 0, ..., 0] += 80
    pixels[kinds == 1, ..., 2] += 80
    return LabeledImages.of(pixels.astype(np.uint8), [("red", "blue")[k] for k in kinds], name=name)


@pytest.mark.slow
def test_arms_of_a_network_that_learns_colors():
    notes = []
    result = five_arms(
        pictures(16, seed=0, name="train"),
        pictures(40, seed=1, name="test"),
        synthetic_train=pictures(40, seed=2, name="made"),
        arms=["S->R"],
        seeds=[0],
        resamples=100,
        learner=NetworkLearner(steps=14, batch_size=8, device="cpu", augmentation=0.0),
        on_progress=lambda done, total, note: notes.append((done, total)),
    )
    assert notes == [(i, 28) for i in range(1, 29)]  # two trainings, the same steps for 16 and 40 images
    assert result.settings["learner"] == "resnet18"
    assert result.row("S->R").estimates["auroc"].value > 0.9


def test_same_seed_same_network_and_the_global_stream_is_left_alone():
    state, images = torch.random.get_rng_state(), pictures(12, seed=0, name="x")
    learner, truth = NetworkLearner(steps=2, batch_size=4, device="cpu"), np.arange(12) % 2
    first, again, other = (
        learner.fit(images.inputs, truth, classes=2, seed=seed, on_step=lambda: None)(images.inputs)
        for seed in (3, 3, 4)
    )
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)
    np.testing.assert_allclose(first.sum(axis=1), 1)
    assert torch.equal(state, torch.random.get_rng_state())


def test_starts_from_a_file_of_weights(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        given = resnet18(num_classes=7).state_dict()
    file = tmp_path / "weights.safetensors"
    save_file({key: value for key, value in given.items() if "num_batches" not in key}, file)
    learner = NetworkLearner(steps=1, weights=file)
    network = learner._network(3, seed=0)
    for key, value in network.state_dict().items():
        if key.startswith("fc."):
            assert len(value) == 3
        else:
            assert torch.equal(value, given[key]), key
    assert len(learner.settings()["weights_sha256"]) == 64


def test_wrong_weights_are_refused_before_any_training(tmp_path):
    given = {key: value for key, value in resnet18().state_dict().items() if not key.startswith("fc.")}
    faults = {
        "missing": {key: value for key, value in given.items() if key != "conv1.weight"},
        r"shape \(3,\)": given | {"bn1.bias": torch.zeros(3)},
        "no such tensor": given | {"extra": torch.zeros(3)},
        "not finite": given | {"bn1.bias": torch.full((64,), torch.nan)},
    }
    for said, tensors in faults.items():
        save_file(tensors, tmp_path / "w.safetensors")
        with pytest.raises(ClassifierError, match=said):
            NetworkLearner(weights=tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").write_bytes(b"nothing")
    with pytest.raises(ClassifierError, match="damaged"):
        NetworkLearner(weights=tmp_path / "w.safetensors")
    with pytest.raises(ClassifierError, match="No such file"):
        NetworkLearner(weights=tmp_path / "gone.safetensors")
    with pytest.raises(ClassifierError, match="safetensors alone"):
        NetworkLearner(weights=tmp_path / "w.pth")


@pytest.mark.parametrize(
    "change", [{"steps": 0}, {"batch_size": 1}, {"learning_rate": 0}, {"augmentation": -1}]
)
def test_settings_out_of_range(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        NetworkLearner(**change)


def test_features_are_refused_and_a_loss_that_explodes_is_said():
    with pytest.raises(ClassifierError, match="uint8 pixels"):
        NetworkLearner(steps=1).fit(
            np.zeros((4, 3)), np.arange(4) % 2, classes=2, seed=0, on_step=lambda: None
        )
    images = pictures(8, seed=0, name="x")
    for steps in (8, 1):  # in the last step too
        wild = NetworkLearner(steps=steps, batch_size=4, learning_rate=1e30, device="cpu")
        with pytest.raises(ClassifierError, match="lower learning_rate"):
            wild.fit(images.inputs, np.arange(8) % 2, classes=2, seed=0, on_step=lambda: None)


def test_pixels_from_files(tmp_path):
    Image.new("L", (40, 20), 100).save(tmp_path / "a.png")
    pixels = read_pixels([tmp_path / "a.png"], 16)
    assert pixels.shape == (1, 16, 16, 3)
    assert np.all(pixels == 100)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:50])
    with pytest.raises(ClassifierError, match=r"b\.png"):
        read_pixels([tmp_path / "b.png"], 16)
    with pytest.raises(ClassifierError, match="8 pixels"):
        read_pixels([], 8)
