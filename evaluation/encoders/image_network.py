"""Classifiers of timm and torchvision as encoders: what their last layer reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor, nn

from evaluation.arrays import check_features
from evaluation.encoders._batches import computed_on, encode_in_batches, exact_inference
from evaluation.encoders.backbones import (
    TIMM,
    TORCHVISION,
    InputPolicy,
    build_network,
    head_names,
    input_policy,
    read_weights,
    split_file,
)
from evaluation.encoders.base import EncoderError
from promptopt.base.devices import resolve_device
from promptopt.base.errors import ArgumentError
from promptopt.base.hub import HubAddress, downloading


class ImageNetworkEncoder:
    """A classifier in evaluation mode, float32, without its last layer. It reads images alone.

    Attributes:
        uri: the address it was loaded from.
        fingerprint: hex sha256 of weights, architecture and preprocessing policy.
        dim: what the last layer reads.
        classes: of the last layer in the weights; 0 where they have none.
        preprocessing: the policy: the whole frame is resized by PIL to the size that the published weights
            were trained at (no center crop: the ends of a wide frame are seen); mean and SD are theirs.
        probabilities: the last layer's softmax on features, (n, dim) -> (n, classes), float64; None where the
            weights have no last layer, or one that is not linear.
        batch_size: images a forward pass; a short batch is filled up, so that every pass has one shape.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        uri: str,
        fingerprint: str,
        policy: InputPolicy,
        heads: Sequence[str],
        classes: int,
        device: torch.device,
        batch_size: int | None = None,
    ) -> None:
        """Wrap a network; use `load_encoder` or `from_address` instead."""
        self.uri, self.fingerprint, self.classes = uri, fingerprint, classes
        self.preprocessing: Mapping[str, Any] = {**asdict(policy), "resize_mode": "squash"}
        self.batch_size = batch_size or (64 if device.type == "cuda" else 8)
        self.computed_on = computed_on(device, batch_size)
        self.probabilities: Callable[[ArrayLike], NDArray[np.float64]] | None = None
        head = network.get_submodule(heads[0])
        if isinstance(head, nn.Linear) and classes >= 2:
            self._weight = head.weight.detach().double().numpy()
            self._bias = 0.0 if head.bias is None else head.bias.detach().double().numpy()
            self.probabilities = self._probabilities
        for name in heads:
            network.set_submodule(name, nn.Identity())
        self._device = device
        self._network = network.to(device=device, dtype=torch.float32).eval().requires_grad_(False)
        self._policy = policy
        self._mean, self._std = (torch.tensor(v).view(3, 1, 1) for v in (policy.mean, policy.std))
        self.dim = self._width()

    @classmethod
    def from_address(
        cls, address: str, *, device: str = "auto", batch_size: int | None = None
    ) -> ImageNetworkEncoder:
        """Load ``timm:NAME``, ``timm:NAME@FILE`` or ``torchvision:NAME@FILE``.

        Without a file timm's own weights are fetched from the Hugging Face hub, as safetensors.

        Raises:
            EncoderError: an unknown name, no safetensors, or a file of another network.
        """
        architecture, file = split_file(address)
        heads = head_names(architecture)
        path = Path(file) if file is not None else _published(architecture)
        tensors, digest = read_weights(path, architecture, head=True)
        rows = tensors.get(f"{heads[0]}.weight")
        classes = 0 if rows is None else len(rows)
        policy = input_policy(architecture)
        with torch.random.fork_rng(devices=[]):  # every weight that counts is replaced
            network = build_network(architecture, max(2, classes))
        network.load_state_dict(tensors, strict=False)
        said = json.dumps([architecture, classes, asdict(policy)])
        return cls(
            network,
            uri=address,
            fingerprint=hashlib.sha256(f"{said} {digest}".encode()).hexdigest(),
            policy=policy,
            heads=heads,
            classes=classes,
            device=resolve_device(device, error=EncoderError),
            batch_size=batch_size,
        )

    def encode_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Features, shape (n, dim), float32, not normalized."""
        return encode_in_batches(
            images,
            size=self.batch_size,
            device=self._device,
            prepare=self._prepare,
            forward=self._network,
            dim=self.dim,
        )

    def _prepare(self, image: Image.Image) -> Tensor:
        height, width = self._policy.size
        small = image.convert("RGB").resize(
            (width, height), Image.Resampling[self._policy.interpolation.upper()]
        )
        pixels = torch.from_numpy(np.array(small, dtype=np.float32)).permute(2, 0, 1) / 255
        return (pixels - self._mean) / self._std

    def _width(self) -> int:
        with exact_inference(self._device):
            rows = self._network(torch.zeros(1, 3, *self._policy.size, device=self._device))
        if not isinstance(rows, Tensor) or rows.ndim != 2:
            raise EncoderError(
                f"{self.uri}: does not give one row of features an image; choose another network"
            )
        return int(rows.shape[1])

    def _probabilities(self, features: ArrayLike) -> NDArray[np.float64]:
        from scipy.special import softmax

        rows = check_features(features, "features")
        if rows.shape[1] != self.dim:
            raise ArgumentError(
                f"features have {rows.shape[1]} columns; expected {self.dim}, of this encoder"
            )
        return np.asarray(softmax(rows @ self._weight.T + self._bias, axis=1))


def _published(architecture: str) -> Path:
    """timm's file on the hub; torchvision publishes pickles alone."""
    if architecture.startswith(TORCHVISION):
        from torchvision import models

        known = list(models.get_model_weights(architecture.removeprefix(TORCHVISION)))
        url = known[-1].url if known else "its weights"
        raise EncoderError(
            f"{architecture}: torchvision publishes pickles alone, which are not read as they are. Fetch "
            f"{url}, then: promptopt convert FILE.pth FILE.safetensors --like {architecture}, and write "
            f"{architecture}@FILE.safetensors"
        )
    from huggingface_hub import hf_hub_download
    from timm.models import get_pretrained_cfg

    name = architecture.removeprefix(TIMM)
    stated = get_pretrained_cfg(name)
    if stated is None or not stated.hf_hub_id:
        raise EncoderError(f"{architecture}: timm publishes no weights of it; write {architecture}@FILE")
    address = HubAddress.parse(f"hf:{stated.hf_hub_id}", error=EncoderError)
    with downloading(address, error=EncoderError, instead=f"a file: {architecture}@FILE.safetensors"):
        return Path(hf_hub_download(address.repository, "model.safetensors"))
