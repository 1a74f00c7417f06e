"""The Inception-v3 of 2015 that FID and IS are defined by, behind clean-fid's own resize.

One pass gives the 2048 pool features; the class probabilities follow from them and the network's output
weights (`InceptionEncoder.probabilities`), so that FID and IS come from one encoding.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from evaluation.arrays import check_features
from evaluation.encoders._batches import computed_on, encode_in_batches
from evaluation.encoders.base import EncoderError
from promptopt.base.devices import resolve_device
from promptopt.base.errors import ArgumentError
from promptopt.base.files import file_digest

TORCHSCRIPT = "inception-2015-12-05.pt"
STATE_DICT = "pt_inception-2015-12-05-6726825d.pth"
PUBLISHED = {
    "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4": TORCHSCRIPT,
    "6726825d": STATE_DICT,  # as far as the file's own name tells it
}
"""sha256 (or its beginning) of the two published files; the distance of other weights is not called FID."""
_MIXED = [f"Mixed_{name}" for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")]
FEATURES, CLASSES, SIDE = 2048, 1008, 299
_PIP = "pip install clean-fid"


class InceptionEncoder:
    """Inception-v3 (2015-12-05) in evaluation mode, float32, after clean-fid's resize.

    Attributes:
        uri: the address it was loaded from.
        fingerprint: hex sha256 of the weights file and the preprocessing policy.
        dim: 2048.
        classes: 1008, the width of the output layer.
        published: whether the file is one of the two published ones; only then is the distance FID.
        preprocessing: the policy: each channel resized in float32 by PIL's bicubic filter to 299x299, aspect
            ratio ignored, clipped to 0..255 and not rounded; then (x - 128) / 128.
        batch_size: images a forward pass; a short batch is filled up, so that every pass has one shape.
    """

    dim = FEATURES
    classes = CLASSES
    preprocessing: Mapping[str, Any] = {
        "resize": "clean-fid 'clean': PIL bicubic, float32 a channel, not rounded",
        "size": [SIDE, SIDE],
        "resize_mode": "squash",
        "scale": "(x - 128) / 128",
    }

    def __init__(
        self,
        layers: Callable[[torch.Tensor], torch.Tensor],
        weight: torch.Tensor,
        bias: torch.Tensor,
        *,
        uri: str,
        sha256: str,
        device: torch.device,
        batch_size: int | None = None,
    ) -> None:
        """Wrap loaded layers; use `load_encoder` or `from_file` instead."""
        self.uri = uri
        self.published = any(sha256.startswith(known) for known in PUBLISHED)
        policy = repr(sorted(self.preprocessing.items()))
        self.fingerprint = hashlib.sha256(f"inception {sha256} {policy}".encode()).hexdigest()
        self.batch_size = batch_size or (64 if device.type == "cuda" else 4)
        self.computed_on = computed_on(device, batch_size)
        self._layers = layers
        self._weight = weight.detach().to("cpu", torch.float64).numpy()
        self._bias = bias.detach().to("cpu", torch.float64).numpy()
        self._device = device
        self._resize = _clean_resizer()

    @classmethod
    def from_file(
        cls, path: str | Path, *, device: str = "auto", uri: str | None = None, batch_size: int | None = None
    ) -> InceptionEncoder:
        """Load the TorchScript file that clean-fid downloads, or pytorch-fid's state dict.

        Args:
            path: ``.pt`` (TorchScript with `layers` and `output`), ``.pth`` or ``.safetensors`` (state dict).

        Raises:
            EncoderError: no such file, not this network, or clean-fid is not installed.
        """
        path = Path(path)
        if not path.is_file():
            raise EncoderError(f"{path}: no such file; expected {TORCHSCRIPT} or {STATE_DICT}")
        _clean_resizer()
        target = resolve_device(device, error=EncoderError)
        sha256 = file_digest(path)
        read = _torchscript if path.suffix == ".pt" else _state_dict
        try:
            layers, weight, bias = read(path, target)
        except (RuntimeError, ValueError, AttributeError, KeyError, OSError, ImportError) as error:
            raise EncoderError(
                f"{path}: not the Inception network ({type(error).__name__}: {error}); expected "
                f"{TORCHSCRIPT} as clean-fid downloads it, or {STATE_DICT} of pytorch-fid"
            ) from error
        if tuple(weight.shape) != (CLASSES, FEATURES):
            raise EncoderError(
                f"{path}: its output layer has the shape {tuple(weight.shape)}; "
                f"expected {(CLASSES, FEATURES)}, the network of 2015-12-05"
            )
        return cls(
            layers,
            weight,
            bias,
            uri=uri or f"inception:{path}",
            sha256=sha256,
            device=target,
            batch_size=batch_size,
        )

    @classmethod
    def download(cls, *, device: str = "auto") -> InceptionEncoder:
        """Load the file from torch's cache folder, fetching it once from clean-fid's address.

        Raises:
            EncoderError: it is not there and cannot be fetched; the message says where to put it.
        """
        _clean_resizer()
        from cleanfid.downloads_helper import inception_url

        path = Path(torch.hub.get_dir()) / "checkpoints" / TORCHSCRIPT
        if not path.is_file():
            remedy = f"fetch {inception_url} elsewhere and put it at {path}, or give 'inception:PATH'"
            if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
                raise EncoderError(f"{path}: no such file, and HF_HUB_OFFLINE forbids to fetch it; {remedy}")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                torch.hub.download_url_to_file(
                    inception_url, str(path), hash_prefix=_published_hash(), progress=False
                )
            except (OSError, RuntimeError) as error:
                raise EncoderError(
                    f"{path}: no such file, and it cannot be fetched ({error}); {remedy}"
                ) from error
        return cls.from_file(path, device=device, uri="inception")

    def encode_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Pool features, shape (n, 2048), float32, 0 or more, not normalized."""
        rows = encode_in_batches(
            images,
            size=self.batch_size,
            device=self._device,
            prepare=lambda image: torch.from_numpy(self.prepare(image)),
            forward=lambda batch: self._layers((batch - 128) / 128).reshape(len(batch), -1),
            dim=FEATURES,
        )
        if rows.shape[1] != FEATURES:
            raise EncoderError(f"{self.uri}: gives {rows.shape[1]} features an image; expected {FEATURES}")
        return rows

    def prepare(self, image: Image.Image) -> NDArray[np.float32]:
        """What the network sees before its scaling: shape (3, 299, 299), float32, 0 to 255."""
        pixels = self._resize(np.asarray(image.convert("RGB")))
        return np.ascontiguousarray(np.moveaxis(pixels, 2, 0), dtype=np.float32)

    def probabilities(self, features: ArrayLike, *, bias: bool = False) -> NDArray[np.float64]:
        """Softmax of the network's output layer on pool features of `encode_images`.

        Args:
            features: shape (n, 2048).
            bias: whether to add the layer's bias. The published Inception Score leaves it out (an oversight
                of its first implementation, kept by StyleGAN2-ADA and torch-fidelity), and so does this.

        Returns:
            shape (n, 1008), float64, rows that sum to 1.

        Raises:
            ValueError: features of another width, or not finite.
        """
        from scipy.special import softmax

        rows = check_features(features, "features")
        if rows.shape[1] != FEATURES:
            raise ArgumentError(
                f"features have {rows.shape[1]} columns; expected {FEATURES}, of this encoder"
            )
        return softmax(rows @ self._weight.T + (self._bias if bias else 0.0), axis=1)


def build_inception(*, seed: int) -> torch.nn.Module:
    """The network's architecture (clean-fid's patched blocks) with random weights; its layers and `fc`.

    The global random state is left as it was.
    """
    from torchvision.models import inception_v3

    blocks = _cleanfid("inception_pytorch")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = inception_v3(weights=None, num_classes=CLASSES, aux_logits=False, init_weights=False)
        for name, widths in (("Mixed_5b", (192, 32)), ("Mixed_5c", (256, 64)), ("Mixed_5d", (288, 64))):
            setattr(net, name, blocks.FIDInceptionA(*widths))
        for name, width in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
            setattr(net, name, blocks.FIDInceptionC(768, channels_7x7=width))
        net.Mixed_7b = blocks.FIDInceptionE_1(1280)
        net.Mixed_7c = blocks.FIDInceptionE_2(2048)
    return net.eval()


def inception_layers(net: Any) -> torch.nn.Sequential:
    """The layers of `build_inception` up to the pool features, in their order."""
    return torch.nn.Sequential(
        net.Conv2d_1a_3x3,
        net.Conv2d_2a_3x3,
        net.Conv2d_2b_3x3,
        torch.nn.MaxPool2d(3, stride=2),
        net.Conv2d_3b_1x1,
        net.Conv2d_4a_3x3,
        torch.nn.MaxPool2d(3, stride=2),
        *(net.get_submodule(name) for name in _MIXED),
        torch.nn.AdaptiveAvgPool2d(1),
    ).eval()


def _torchscript(path: Path, device: torch.device) -> tuple[Any, torch.Tensor, torch.Tensor]:
    base = torch.jit.load(str(path), map_location=device).eval()
    return base.layers, base.output.weight, base.output.bias


def _state_dict(path: Path, device: torch.device) -> tuple[Any, torch.Tensor, torch.Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(path)
    elif path.suffix == ".pth":
        state = torch.load(path, map_location="cpu", weights_only=True)
    else:
        raise ArgumentError(f"the suffix {path.suffix!r} is none of .pt, .pth, .safetensors")
    net: Any = build_inception(seed=0)
    net.load_state_dict(state)
    layers = inception_layers(net).requires_grad_(False).to(device)
    return layers, net.fc.weight, net.fc.bias


def _published_hash() -> str:
    return next(digest for digest, name in PUBLISHED.items() if name == TORCHSCRIPT)


def _clean_resizer() -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    resizer: Callable[[NDArray[np.uint8]], NDArray[np.float32]] = _cleanfid("resize").build_resizer("clean")
    return resizer


def _cleanfid(module: str) -> Any:
    from importlib import import_module

    try:
        return import_module(f"cleanfid.{module}")
    except ModuleNotFoundError as error:
        raise EncoderError(f"inception: clean-fid is not installed ({error}); {_PIP}") from error
