"""Keras's InceptionV3 with its ImageNet weights, run by torch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluation.challenge.score import ChallengeError
from promptopt.base.devices import resolve_device
from promptopt.base.files import file_digest

if TYPE_CHECKING:
    import torch

PUBLISHED_MD5 = "9a0d58056eeedaa3f26cb7ebd46da564"
"""Of the file that Keras downloads, by Keras's own source."""

FILE = "inception_v3_weights_tf_dim_ordering_tf_kernels.h5"
CONVOLUTIONS = 94


@dataclass(frozen=True, eq=False)
class Activations:
    """What one pass gives: pooled features (n, 2048) and softmax rows (n, 1000), float32."""

    pooled: NDArray[np.float32]
    softmax: NDArray[np.float32]


class KerasInception:
    """The network with weights in it; called with images (n, 299, 299, 3), float32, -1 to 1.

    Attributes:
        fingerprint: sha256 of the weights file.
        published: whether that is the file which Keras itself downloads.
    """

    def __init__(self, network: torch.nn.Module, *, device: str, fingerprint: str, published: bool) -> None:
        self.network: Any = network.to(device).eval()
        self.device = device
        self.fingerprint = fingerprint
        self.published = published

    def __call__(self, images: NDArray[np.float32]) -> Activations:
        """Raises ChallengeError for another shape."""
        import torch

        if images.ndim != 4 or images.shape[1:] != (299, 299, 3):
            raise ChallengeError(f"images have shape {images.shape}; expected (n, 299, 299, 3)")
        with torch.inference_mode():
            x = torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32)).to(self.device)
            pooled = _pooled(self.network, x.permute(0, 3, 1, 2))
            softmax = torch.softmax(self.network.fc(pooled), dim=1)
        return Activations(pooled.cpu().numpy(), softmax.cpu().numpy())


def build_network() -> torch.nn.Module:
    """torchvision's Inception v3 made to compute what Keras's does; its weights are not set.

    Two things differ. Keras's batch normalization has no scale: torch's stays at 1. Its average pooling
    inside the blocks divides by the pixels inside the image, torchvision's by nine, padding included.
    """
    import torch
    from torchvision.models.inception import Inception3

    with torch.device("meta"):  # 24 million numbers that the file replaces need not be drawn
        network = Inception3(aux_logits=False, transform_input=False, init_weights=False)
    network = network.to_empty(device="cpu")
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)
    for block in network.children():
        if hasattr(block, "branch_pool"):
            block.branch_pool.register_forward_pre_hook(_inside_average)
    return network.requires_grad_(False).eval()


def load_keras_inception(path: str | Path, *, device: str = "auto") -> KerasInception:
    """Read Keras's weights file into the network.

    Layers are matched by the number in their names: Keras numbers them in the order in which they are made,
    and torchvision registers its own in that order. Kernels turn from (height, width, in, out) to (out, in,
    height, width).

    Args:
        path: Keras's ``inception_v3_weights_tf_dim_ordering_tf_kernels.h5`` (with the top), or a legacy
            ``.h5`` that Keras saved from the same network.
        device: ``auto`` (an accelerator when there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ChallengeError: h5py is not installed, no such file, not HDF5, a layer or array that is missing, of
            another shape, or not finite.
    """

    file = Path(path)
    layers = read_layers(file)
    network = build_network()
    convolutions: list[Any] = [m for m in network.modules() if _is_convolution_with_norm(m)]
    for number, (module, conv, norm) in enumerate(
        zip(
            convolutions,
            _numbered(layers, "conv2d", file),
            _numbered(layers, "batch_normalization", file),
            strict=True,
        ),
        start=1,
    ):
        where = f"{file}: convolution {number} of {CONVOLUTIONS}"
        _put(module.conv.weight, conv, "kernel", where, axes=(3, 2, 0, 1))
        _put(module.bn.bias, norm, "beta", where)
        _put(module.bn.running_mean, norm, "moving_mean", where)
        _put(module.bn.running_var, norm, "moving_variance", where)
    if "predictions" not in layers:
        raise ChallengeError(f"{file}: no layer 'predictions'; give the file with the top, {FILE}")
    head: Any = network.fc
    _put(head.weight, layers["predictions"], "kernel", f"{file}: predictions", axes=(1, 0))
    _put(head.bias, layers["predictions"], "bias", f"{file}: predictions")
    sha256 = file_digest(file)
    with file.open("rb") as stream:
        md5 = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    return KerasInception(
        network, device=str(resolve_device(device)), fingerprint=sha256, published=md5 == PUBLISHED_MD5
    )


def read_layers(file: Path) -> dict[str, dict[str, NDArray[Any]]]:
    """Arrays by layer and name (``kernel``, ``beta`` …) of a legacy Keras ``.h5``, whole model or weights.

    Raises:
        ChallengeError: h5py is not installed, no such file, or not such a file.
    """
    try:
        import h5py
    except ImportError as error:
        raise ChallengeError(
            f"{file}: reading Keras's weights needs h5py; install it: pip install 'promptopt[keras-weights]'"
        ) from error
    if not file.is_file():
        raise ChallengeError(f"{file}: no such file; give Keras's {FILE}")
    layers: dict[str, dict[str, NDArray[Any]]] = {}
    try:
        with h5py.File(file, "r") as content:
            root = content.get("model_weights", content)
            for layer, group in root.items():
                arrays: dict[str, NDArray[Any]] = {}

                def keep(name: str, item: Any, arrays: dict[str, NDArray[Any]] = arrays) -> None:
                    if isinstance(item, h5py.Dataset):
                        arrays[name.rsplit("/", 1)[-1].split(":")[0]] = np.asarray(item)

                if isinstance(group, h5py.Group):
                    group.visititems(keep)
                layers[layer] = arrays
    except OSError as error:
        raise ChallengeError(f"{file}: not a readable HDF5 file ({error}); give Keras's {FILE}") from error
    return layers


def _numbered(
    layers: Mapping[str, dict[str, NDArray[Any]]], kind: str, file: Path
) -> list[dict[str, NDArray[Any]]]:
    """Layers of one kind by the number in their names; a name without one counts as 0."""
    found = {
        int(match[1] or 0): arrays
        for layer, arrays in layers.items()
        if (match := re.fullmatch(rf"{kind}(?:_(\d+))?", layer)) and arrays
    }
    numbers = sorted(found)
    if len(numbers) != CONVOLUTIONS or numbers[-1] - numbers[0] != CONVOLUTIONS - 1:
        raise ChallengeError(
            f"{file}: {len(numbers)} layers named {kind}_N; InceptionV3 has {CONVOLUTIONS}, numbered without "
            f"a gap: give Keras's {FILE} (a legacy .h5, not .weights.h5 or .keras of Keras 3)"
        )
    return [found[number] for number in numbers]


def _put(
    target: torch.Tensor,
    arrays: Mapping[str, NDArray[Any]],
    name: str,
    where: str,
    *,
    axes: tuple[int, ...] = (0,),
) -> None:
    import torch

    if name not in arrays:
        raise ChallengeError(f"{where}: no array '{name}', only {sorted(arrays)}; give Keras's {FILE}")
    array = np.asarray(arrays[name])
    turned = array.transpose(axes) if array.ndim == len(axes) else array
    if turned.shape != tuple(target.shape):
        raise ChallengeError(
            f"{where}: '{name}' has shape {array.shape}, which does not become {tuple(target.shape)}; "
            f"give Keras's {FILE}"
        )
    if not np.isfinite(array).all():
        raise ChallengeError(f"{where}: '{name}' holds a NaN or an infinity; fetch the file again")
    with torch.no_grad():
        target.copy_(torch.from_numpy(np.array(turned, dtype=np.float32)))


def _is_convolution_with_norm(module: Any) -> bool:
    from torchvision.models.inception import BasicConv2d

    return isinstance(module, BasicConv2d)


def _inside_average(module: Any, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    """From an average over 3 x 3 with zeros around the image to one over the pixels inside it."""
    from torch.nn import functional

    (x,) = inputs
    inside = functional.avg_pool2d(x.new_ones(1, 1, *x.shape[2:]), kernel_size=3, stride=1, padding=1)
    return (x / inside,)


def _pooled(network: Any, x: torch.Tensor) -> torch.Tensor:
    """All children in order, up to the dropout and the head."""
    for name, layer in network.named_children():
        if name == "dropout":
            break
        x = layer(x)
    return x.flatten(1)
