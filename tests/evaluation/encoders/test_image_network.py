"""Networks of timm and torchvision: real ImageNet features, the libraries' own numbers, refusals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation import (
    FeatureStore,
    fit_probe,
    frechet_distance,
    load_encoder,
    load_text_encoder,
    memorization,
)
from evaluation.challenge import gi2024
from evaluation.encoders.backbones import build_network
from evaluation.encoders.base import EncoderError
from tests.evaluation.encoders.small import make_backbone, make_lite0

DAISY, BUILDINGS = 985, {442: "bell cote", 449: "boathouse", 663: "monastery", 698: "palace"}


def samples() -> list[Image.Image]:
    """A Chinese pavilion and a flower, scikit-learn's own."""
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(pixels) for pixels in load_sample_images().images]


def crops(image: Image.Image, count: int, *, seed: int) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    places = rng.integers(0, [image.width - 200, image.height - 200], (count, 2)).tolist()
    return [image.crop((x, y, x + 200, y + 200)) for x, y in places]


@pytest.fixture(scope="module")
def lite0(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_encoder(make_lite0(tmp_path_factory.mktemp("lite0")), device="cpu")


@pytest.fixture(scope="module")
def shown(lite0: Any) -> dict[str, np.ndarray]:
    """Features of crops: two sets of the pavilion, one of the flower, mirrored ones of the first."""
    from PIL import ImageOps

    pavilion, flower = samples()
    first = crops(pavilion, 8, seed=0)
    sets = {
        "pavilion": first,
        "more pavilion": crops(pavilion, 8, seed=1),
        "flower": crops(flower, 8, seed=2),
        "copies": [ImageOps.mirror(image) for image in first[:4]],
    }
    return {name: lite0.encode_images(images) for name, images in sets.items()}


@pytest.mark.slow
def test_imagenet_classes_of_photographs(lite0: Any) -> None:
    pavilion, flower = lite0.probabilities(lite0.encode_images(samples()))
    assert (lite0.dim, lite0.classes) == (1280, 1000)
    assert int(np.argmax(flower)) == DAISY
    assert set(np.argsort(-pavilion)[:3].tolist()) <= set(BUILDINGS)


def test_features_and_softmax_are_timms_own(lite0: Any) -> None:
    import timm

    file = lite0.uri.partition("@")[2]
    model = timm.create_model("tf_efficientnet_lite0", checkpoint_path=file).eval()
    image = samples()[0]
    small = np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    batch = torch.from_numpy(((small - 0.5) / 0.5).transpose(2, 0, 1)[None])
    with torch.inference_mode():
        features = model.forward_head(model.forward_features(batch), pre_logits=True).numpy()
        softmax = model(batch).softmax(dim=1).numpy()
    rows = lite0.encode_images([image])
    np.testing.assert_allclose(rows, features, atol=1e-4)
    np.testing.assert_allclose(lite0.probabilities(rows), softmax, atol=1e-5)


def test_distance_probe_and_copies_in_real_features(shown: dict[str, np.ndarray]) -> None:
    near = frechet_distance(shown["more pavilion"], shown["pavilion"]).value
    far = frechet_distance(shown["flower"], shown["pavilion"]).value
    assert near is not None
    assert far is not None
    assert near < far / 2
    both = np.concatenate([shown["pavilion"], shown["flower"]])
    probe = fit_probe(both, np.arange(16) < 8, seed=0)
    assert np.all(probe.log_odds(shown["more pavilion"]) > 0)
    found = memorization(shown["copies"], shown["pavilion"], shown["more pavilion"], quantile=0.2)
    assert found.nearest.tolist() == list(range(4))


def test_the_2024_scorer_on_a_softmax_of_1000_classes(lite0: Any, shown: dict[str, np.ndarray]) -> None:
    softmax = {name: lite0.probabilities(rows) for name, rows in shown.items()}
    near = gi2024.frechet(softmax["pavilion"], softmax["more pavilion"]).value
    far = gi2024.frechet(softmax["pavilion"], softmax["flower"]).value
    assert near is not None
    assert far is not None
    assert 0 <= near < far <= 2
    one = gi2024.inception_score(softmax["pavilion"], splits=1).average
    two = gi2024.inception_score(np.concatenate([softmax["pavilion"], softmax["flower"]]), splits=1).average
    assert one is not None
    assert two is not None
    assert 1 <= one < two <= 1000


@pytest.mark.parametrize("architecture", ["torchvision:squeezenet1_1", "timm:test_vit", "timm:test_resnet"])
def test_what_the_last_layer_reads(architecture: str, tmp_path: Path) -> None:
    uri = make_backbone(tmp_path, architecture)
    encoder: Any = load_encoder(uri, device="cpu")
    image = samples()[1]
    rows = encoder.encode_images([image])
    network = build_network(architecture, 5).eval()
    from safetensors.torch import load_file

    network.load_state_dict(load_file(uri.partition("@")[2]))
    with torch.inference_mode():
        softmax = network(encoder._prepare(image)[None]).softmax(dim=1).numpy()
    if architecture.endswith("squeezenet1_1"):  # its last layer is a convolution before the pooling
        assert encoder.probabilities is None
        assert rows.shape == (1, 512)
    else:
        np.testing.assert_allclose(encoder.probabilities(rows), softmax, atol=1e-5)
    assert encoder.classes == 5


def test_weights_without_a_last_layer_have_no_classes(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    uri = make_backbone(tmp_path, "timm:test_resnet")
    file = Path(uri.partition("@")[2])
    whole = load_encoder(uri, device="cpu")
    save_file({k: v for k, v in load_file(file).items() if not k.startswith("fc.")}, file)
    encoder: Any = load_encoder(uri, device="cpu")
    assert (encoder.classes, encoder.probabilities) == (0, None)
    assert encoder.fingerprint != whole.fingerprint
    np.testing.assert_allclose(encoder.encode_images(samples()), whole.encode_images(samples()), atol=1e-6)


@pytest.mark.slow
def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="'timm:nonesuch' is no network"):
        load_encoder("timm:nonesuch@weights.safetensors")
    uri = make_backbone(tmp_path, "timm:test_resnet")
    file = uri.partition("@")[2]
    with pytest.raises(EncoderError, match=r"tensor .* give the weights of a timm:test_vit"):
        load_encoder(f"timm:test_vit@{file}")
    with pytest.raises(EncoderError, match="cannot be read"):
        load_encoder(f"timm:test_resnet@{tmp_path / 'gone.safetensors'}")
    Path(file).write_bytes(Path(file).read_bytes()[:2000])
    with pytest.raises(EncoderError, match="damaged or cut short"):
        load_encoder(uri)
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(EncoderError, match=r"promptopt convert w.pth w.safetensors --like timm:test_resnet"):
        load_encoder(f"timm:test_resnet@{tmp_path / 'w.pth'}")
    with pytest.raises(EncoderError, match=r"torchvision publishes pickles.*download.pytorch.org.*resnet18"):
        load_encoder("torchvision:resnet18")
    with pytest.raises(EncoderError, match="reads images alone"):
        load_text_encoder(make_backbone(tmp_path, "timm:test_vit"))


def test_timms_own_weights_are_asked_for_as_safetensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = make_backbone(tmp_path, "timm:test_vit", classes=1000).partition("@")[2]
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *names: asked.append(names) or file)
    encoder = load_encoder("timm:test_vit.r160_in1k", device="cpu")
    assert asked == [("timm/test_vit.r160_in1k", "model.safetensors")]
    image = tmp_path / "a.png"
    samples()[0].resize((64, 48)).save(image)
    assert FeatureStore(tmp_path / "f.sqlite").features(encoder, [image]).shape == (1, encoder.dim)

    def offline(*_: str) -> None:
        raise OSError("offline")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(EncoderError, match=r"cannot be downloaded \(offline\).*timm:test_vit.r160_in1k@FILE"):
        load_encoder("timm:test_vit.r160_in1k")
