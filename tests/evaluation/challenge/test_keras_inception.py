"""Keras's weights in torch's network: by shapes from Keras's own plan, and against plain NumPy."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.challenge import ChallengeError, gi2024
from evaluation.challenge.keras_inception import KerasInception, load_keras_inception

h5py = pytest.importorskip("h5py")


def keras_plan() -> list[tuple[int, int, int, int]]:
    """(height, width, in, out) of the 94 kernels in the order in which Keras makes them."""
    plan = [(3, 3, 3, 32), (3, 3, 32, 32), (3, 3, 32, 64), (1, 1, 64, 80), (3, 3, 80, 192)]
    for channels, pool in ((192, 32), (256, 64), (288, 64)):
        plan += [(1, 1, channels, 64), (1, 1, channels, 48), (5, 5, 48, 64)]
        plan += [(1, 1, channels, 64), (3, 3, 64, 96), (3, 3, 96, 96), (1, 1, channels, pool)]
    plan += [(3, 3, 288, 384), (1, 1, 288, 64), (3, 3, 64, 96), (3, 3, 96, 96)]
    for w in (128, 160, 160, 192):
        plan += [(1, 1, 768, 192), (1, 1, 768, w), (1, 7, w, w), (7, 1, w, 192)]
        plan += [(1, 1, 768, w), (7, 1, w, w), (1, 7, w, w), (7, 1, w, w), (1, 7, w, 192), (1, 1, 768, 192)]
    plan += [(1, 1, 768, 192), (3, 3, 192, 320)]
    plan += [(1, 1, 768, 192), (1, 7, 192, 192), (7, 1, 192, 192), (3, 3, 192, 192)]
    for channels in (1280, 2048):
        plan += [(1, 1, channels, 320), (1, 1, channels, 384), (1, 3, 384, 384), (3, 1, 384, 384)]
        plan += [(1, 1, channels, 448), (3, 3, 448, 384), (1, 3, 384, 384), (3, 1, 384, 384)]
        plan += [(1, 1, channels, 192)]
    return plan


def write_weights(path: Path) -> Path:
    """Random weights under the names of Keras's published file, in its layout."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:

        def put(layer: str, name: str, values: np.ndarray) -> None:
            file.create_dataset(f"{layer}/{layer}/{name}:0", data=values.astype(np.float32))

        for number, shape in enumerate(keras_plan(), start=1):
            deviation = np.sqrt(2 / np.prod(shape[:3]))
            put(
                f"conv2d_{number}",
                "kernel",
                rng.standard_normal(shape, dtype=np.float32) * np.float32(deviation),
            )
            norm, channels = f"batch_normalization_{number}", shape[3]
            put(norm, "beta", rng.normal(size=channels) * 0.1)
            put(norm, "moving_mean", rng.normal(size=channels) * 0.1)
            put(norm, "moving_variance", rng.uniform(0.5, 2, size=channels))
            file.create_group(f"activation_{number}")
        put("predictions", "kernel", rng.normal(size=(2048, 1000)) * 0.02)
        put("predictions", "bias", rng.normal(size=1000))
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("keras") / "weights.h5")


@pytest.fixture(scope="module")
def network(weights: Path) -> KerasInception:
    return load_keras_inception(weights, device="cpu")


def array(weights: Path, layer: str, name: str) -> np.ndarray:
    with h5py.File(weights) as file:
        return np.asarray(file[f"{layer}/{layer}/{name}:0"])


def convolve(x: np.ndarray, weights: Path, number: int, *, same: bool, stride: int = 1) -> np.ndarray:
    """One of Keras's conv, norm and relu blocks on (height, width, channels), window by window."""
    kernel = array(weights, f"conv2d_{number}", "kernel").astype(np.float64)
    height, width = kernel.shape[:2]
    if same:
        x = np.pad(x, ((height // 2,) * 2, (width // 2,) * 2, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (height, width), axis=(0, 1))[::stride, ::stride]
    out = np.einsum("ijchw,hwco->ijo", windows, kernel, optimize=True)
    norm = f"batch_normalization_{number}"
    mean, variance, beta = (array(weights, norm, n) for n in ("moving_mean", "moving_variance", "beta"))
    return np.maximum((out - mean) / np.sqrt(variance + 1e-3) + beta, 0)


def average_inside(x: np.ndarray) -> np.ndarray:
    """TensorFlow's 3 x 3 average with 'same' padding: over the pixels that exist."""
    out = np.empty_like(x)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = x[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].mean(axis=(0, 1))
    return out


@pytest.mark.slow
def test_every_kernel_lands_where_keras_has_it(weights: Path, network: KerasInception) -> None:
    plan = keras_plan()
    assert len(plan) == 94
    kernels = [p for p in network.network.parameters() if p.ndim == 4]
    for number, (shape, kernel) in enumerate(zip(plan, kernels, strict=True), start=1):
        expected = array(weights, f"conv2d_{number}", "kernel")
        assert expected.shape == shape
        np.testing.assert_array_equal(kernel.permute(2, 3, 1, 0).numpy(), expected)


def test_the_stem_computes_what_keras_does(weights: Path, network: KerasInception) -> None:
    import torch

    x = np.random.default_rng(1).uniform(-1, 1, size=(21, 17, 3))
    expected = convolve(x, weights, 1, same=False, stride=2)
    expected = convolve(expected, weights, 2, same=False)
    expected = convolve(expected, weights, 3, same=True)
    net = network.network
    with torch.inference_mode():
        y = torch.from_numpy(x).float().permute(2, 0, 1)[None]
        got = net.Conv2d_2b_3x3(net.Conv2d_2a_3x3(net.Conv2d_1a_3x3(y)))[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "first", "channels"), [("Mixed_5b", 6, 192), ("Mixed_6b", 31, 768), ("Mixed_7b", 77, 1280)]
)
def test_the_pooling_branch_averages_inside_the_image(
    weights: Path, network: KerasInception, name: str, first: int, channels: int
) -> None:
    import torch

    # the pooling branch is the last of its block: its convolution and its channels stand at the end
    last = {"Mixed_5b": 12, "Mixed_6b": 40, "Mixed_7b": 85}[name]
    x = np.random.default_rng(first).uniform(0, 1, size=(5, 6, channels))
    with torch.inference_mode():
        y = torch.from_numpy(x).float().permute(2, 0, 1)[None]
        got = getattr(network.network, name)(y)[0].permute(1, 2, 0).numpy()
    pooled = convolve(average_inside(x), weights, last, same=True)
    np.testing.assert_allclose(got[..., -pooled.shape[2] :], pooled, rtol=1e-4, atol=1e-4)
    plain = convolve(x, weights, first, same=True)
    np.testing.assert_allclose(got[..., : plain.shape[2]], plain, rtol=1e-4, atol=1e-4)


def test_softmax_is_the_head_on_the_pooled_features(weights: Path, network: KerasInception) -> None:
    images = np.random.default_rng(3).uniform(-1, 1, size=(2, 299, 299, 3)).astype(np.float32)
    got = network(images)
    assert got.pooled.shape == (2, 2048)
    logits = got.pooled.astype(np.float64) @ array(weights, "predictions", "kernel")
    logits += array(weights, "predictions", "bias")
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(got.softmax, expected / expected.sum(axis=1, keepdims=True), rtol=2e-3)
    np.testing.assert_allclose(got.softmax.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(network(images[1:]).softmax[0], got.softmax[1], rtol=1e-3)
    assert not network.published
    with pytest.raises(ChallengeError, match=r"shape \(2, 3, 299, 299\)"):
        network(images.transpose(0, 3, 1, 2))


def pictures(folder: Path, count: int, seed: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for i in range(count):
        pixels = rng.integers(0, 256, size=(64, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def tiny_network() -> KerasInception:
    """Mean colors in a 4 x 4 grid and a linear head: what the folders go through, without the wait."""
    import torch

    torch_state = torch.get_rng_state()
    torch.manual_seed(0)
    layers = {
        "grid": torch.nn.AdaptiveAvgPool2d(4),
        "dropout": torch.nn.Dropout(),
        "fc": torch.nn.Linear(48, 5),
    }
    network = torch.nn.Module()
    for name, layer in layers.items():
        network.add_module(name, layer)
    torch.set_rng_state(torch_state)
    return KerasInception(network, device="cpu", fingerprint="tiny", published=False)


def test_two_folders(tmp_path: Path) -> None:
    network = tiny_network()
    real, generated = pictures(tmp_path / "real", 3, 0), pictures(tmp_path / "generated", 4, 1)
    seen: list[tuple[int, int]] = []
    got = gi2024.score_folders(
        real, generated, weights=network, batch_size=2, splits=2, on_progress=lambda i, n: seen.append((i, n))
    )
    assert seen == [(2, 7), (3, 7), (5, 7), (7, 7)]
    assert [p.name for p in got.generated] == ["0.png", "1.png", "2.png", "3.png"]
    rows = [
        network(np.stack([gi2024.preprocess(np.asarray(Image.open(p))) for p in files])).softmax
        for files in (got.real, got.generated)
    ]
    assert got.frechet.value == pytest.approx(gi2024.frechet(*rows).value, rel=1e-4, abs=1e-9)
    expected = gi2024.inception_score(rows[1], splits=2)
    assert got.inception_score.average == pytest.approx(expected.average, rel=1e-5)
    assert got.weights == "tiny"
    mended = gi2024.score_folders(real, generated, weights=network, splits=2, corrected=True)
    assert mended.frechet.card.corrected
    assert "not a softmax" in str(mended.frechet.card)
    (real / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(ChallengeError, match=r"broken\.jpg: not a readable image"):
        gi2024.score_folders(real, generated, weights=network)
    with pytest.raises(ChallengeError, match="batch_size is 0"):
        gi2024.score_folders(real, generated, weights=network, batch_size=0)


def linked(weights: Path, path: Path, names: dict[str, str]) -> Path:
    """A file whose layers are links into `weights`, under other names."""
    with h5py.File(path, "w") as file:
        for new, old in names.items():
            file[new] = h5py.ExternalLink(str(weights), old)
    return path


def layer_names(weights: Path) -> dict[str, str]:
    with h5py.File(weights) as file:
        return {name: name for name in file}


def test_a_later_sessions_numbers_are_understood(weights: Path, tmp_path: Path) -> None:
    names = {
        re.sub(r"\d+$", lambda number: str(int(number[0]) + 94), name): name for name in layer_names(weights)
    }
    network = load_keras_inception(linked(weights, tmp_path / "later.h5", names), device="cpu")
    kernels = [p for p in network.network.parameters() if p.ndim == 4]
    for number in (1, 2, 94):
        expected = array(weights, f"conv2d_{number}", "kernel")
        np.testing.assert_array_equal(kernels[number - 1].permute(2, 3, 1, 0).numpy(), expected)


def test_wrong_files_are_named(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ChallengeError, match="no such file"):
        load_keras_inception(tmp_path / "gone.h5")
    (tmp_path / "text.h5").write_text("weights")
    with pytest.raises(ChallengeError, match="not a readable HDF5 file"):
        load_keras_inception(tmp_path / "text.h5")

    names = layer_names(weights)
    short = {new: old for new, old in names.items() if new != "conv2d_50"}
    with pytest.raises(ChallengeError, match="93 layers named conv2d_N"):
        load_keras_inception(linked(weights, tmp_path / "short.h5", short))
    swapped = {**names, "conv2d_7": "conv2d_8", "conv2d_8": "conv2d_7"}
    with pytest.raises(ChallengeError, match="convolution 7 of 94: 'kernel' has shape"):
        load_keras_inception(linked(weights, tmp_path / "swapped.h5", swapped))
    headless = {new: old for new, old in names.items() if new != "predictions"}
    with pytest.raises(ChallengeError, match="file with the top"):
        load_keras_inception(linked(weights, tmp_path / "headless.h5", headless))
    nan = {new: old for new, old in names.items() if new != "batch_normalization_3"}
    with h5py.File(linked(weights, tmp_path / "nan.h5", nan), "a") as file:
        file["batch_normalization_3/beta:0"] = np.full(64, np.nan)
    with pytest.raises(ChallengeError, match="convolution 3 of 94: 'beta' holds a NaN"):
        load_keras_inception(tmp_path / "nan.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ChallengeError, match="keras-weights"):
        load_keras_inception(weights)
