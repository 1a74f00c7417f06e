"""Inception: clean-fid's pixels, clean-fid's features, and the class probabilities from the same pass."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation import load_encoder
from evaluation.encoders.base import EncoderError
from evaluation.encoders.inception import (
    PUBLISHED,
    STATE_DICT,
    TORCHSCRIPT,
    InceptionEncoder,
    build_inception,
    inception_layers,
)
from evaluation.encoders.load import load_text_encoder
from tests.evaluation.encoders.small import make_small_inception

cleanfid_resize = pytest.importorskip("cleanfid.resize")


class Scripted(torch.nn.Module):
    """The whole network in the published file's form."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.layers = inception_layers(net)
        self.output = net.fc

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.output(self.layers((x - 128) / 128).flatten(1)), dim=1)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The real architecture with random weights in both forms."""
    folder = tmp_path_factory.mktemp("whole")
    net = build_inception(seed=3)
    torch.jit.script(Scripted(net)).save(str(folder / TORCHSCRIPT))
    torch.save(net.state_dict(), folder / STATE_DICT)
    return {"folder": folder, "net": net}


@pytest.mark.parametrize("size", [(64, 64), (640, 480), (299, 299), (33, 500)])
def test_pixels_are_clean_fids_to_the_last_bit(size: tuple[int, int], tmp_path: Path) -> None:
    encoder = load_encoder(f"inception:{make_small_inception(tmp_path)}", device="cpu")
    image = picture(*size)
    expected = cleanfid_resize.make_resizer("PIL", False, "bicubic", (299, 299))(np.asarray(image))
    np.testing.assert_array_equal(encoder.prepare(image), expected.transpose(2, 0, 1))  # type: ignore[attr-defined]


@pytest.mark.slow
def test_features_are_those_of_clean_fid_itself(whole: dict[str, Any], tmp_path: Path) -> None:
    from cleanfid.fid import get_files_features
    from cleanfid.inception_torchscript import InceptionV3W

    images = [picture(80, 60, seed=1), picture(50, 70, seed=2)]
    files = [str(tmp_path / f"{i}.png") for i in range(2)]
    for image, file in zip(images, files, strict=True):
        image.save(file)
    model = InceptionV3W(str(whole["folder"]), download=False)
    with torch.no_grad():
        theirs = get_files_features(
            files,
            model=model,
            num_workers=0,
            batch_size=2,
            device=torch.device("cpu"),
            mode="clean",
            verbose=False,
        )
    ours = load_encoder(f"inception:{whole['folder'] / TORCHSCRIPT}", device="cpu").encode_images(images)
    assert ours.shape == (2, 2048)
    assert np.ptp(ours) > 0
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_both_files_and_one_pass_for_features_and_probabilities(whole: dict[str, Any]) -> None:
    encoder = InceptionEncoder.from_file(whole["folder"] / STATE_DICT, device="cpu", batch_size=1)
    image = picture(64, 64)
    features = encoder.encode_images([image])
    pixels = torch.from_numpy(encoder.prepare(image))[None]
    with torch.inference_mode():
        direct = Scripted(whole["net"])(pixels).numpy()
    np.testing.assert_allclose(encoder.probabilities(features, bias=True), direct, rtol=1e-4, atol=1e-7)
    unbiased = encoder.probabilities(features)
    logits = features.astype(float) @ whole["net"].fc.weight.detach().numpy().T.astype(float)
    np.testing.assert_allclose(np.log(unbiased), logits - np.log(np.exp(logits).sum()), rtol=1e-5)
    assert unbiased.shape == (1, 1008)
    scripted = InceptionEncoder.from_file(whole["folder"] / TORCHSCRIPT, device="cpu", batch_size=1)
    np.testing.assert_allclose(scripted.encode_images([image]), features, rtol=1e-4, atol=1e-6)
    assert scripted.fingerprint != encoder.fingerprint


def test_only_the_published_file_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    path = make_small_inception(tmp_path)
    assert not InceptionEncoder.from_file(path).published
    monkeypatch.setitem(PUBLISHED, hashlib.sha256(path.read_bytes()).hexdigest(), TORCHSCRIPT)
    assert InceptionEncoder.from_file(path).published


def test_offline_says_which_file_and_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    expected = str(tmp_path / "hub" / "checkpoints" / TORCHSCRIPT)
    with pytest.raises(EncoderError, match=r"cannot be fetched \(no network\); .* put it at") as caught:
        load_encoder("inception", device="cpu")
    assert expected in str(caught.value)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(EncoderError, match="HF_HUB_OFFLINE"):
        load_encoder("inception", device="cpu")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True, exist_ok=True)
    make_small_inception(tmp_path / "hub" / "checkpoints")
    assert load_encoder("inception", device="cpu").uri == "inception"


def test_without_clean_fid_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    path = make_small_inception(tmp_path)
    monkeypatch.setitem(sys.modules, "cleanfid.resize", None)
    with pytest.raises(EncoderError, match="pip install clean-fid"):
        load_encoder(f"inception:{path}", device="cpu")


def test_what_is_no_inception_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"nowhere.pt: no such file"):
        load_encoder(f"inception:{tmp_path / 'nowhere.pt'}")
    (tmp_path / "text.pt").write_text("no network")
    with pytest.raises(EncoderError, match=r"text.pt: not the Inception network"):
        load_encoder(f"inception:{tmp_path / 'text.pt'}")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(EncoderError, match=r"other.pth: not the Inception network"):
        load_encoder(f"inception:{tmp_path / 'other.pth'}")
    with pytest.raises(EncoderError, match=r"shape \(1000, 2048\)"):
        load_encoder(f"inception:{make_small_inception(tmp_path, classes=1000)}")
    path = make_small_inception(tmp_path)
    with pytest.raises(EncoderError, match="images alone"):
        load_text_encoder(f"inception:{path}")
    with pytest.raises(ValueError, match="expected 2048"):
        InceptionEncoder.from_file(path).probabilities(np.ones((1, 4)))


def test_building_leaves_the_global_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    first, again = build_inception(seed=1), build_inception(seed=1)
    torch.testing.assert_close(first.state_dict(), again.state_dict())
    torch.testing.assert_close(torch.random.get_rng_state(), before)
