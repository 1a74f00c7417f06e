"""DINOv2 (Oquab et al. 2023) as an encoder, from a transformers folder or the hub; safetensors alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from evaluation.encoders._batches import encode_in_batches
from evaluation.encoders.base import EncoderError, read_json
from promptopt.base.devices import resolve_device
from promptopt.base.files import file_digest
from promptopt.base.hub import HubAddress, downloading

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
PROCESSOR = "preprocessor_config.json"
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_SIDE = 224


class Dinov2Encoder:
    """A DINOv2 network in evaluation mode, float32: the class token after the last normalization.

    Attributes:
        uri: the address it was loaded from.
        fingerprint: hex sha256 of weights, configuration and preprocessing policy.
        dim: the network's width.
        preprocessing: the policy: the whole frame is resized by PIL's bicubic filter to a square (no center
            crop, unlike the model's own processor: the ends of a wide frame are seen, as in Stein et al.
            2023), of the processor's crop size or 224; mean and SD are the processor's, or ImageNet's.
        batch_size: images a forward pass; a short batch is filled up, so that every pass has one shape.
    """

    def __init__(
        self,
        model: Any,
        *,
        uri: str,
        fingerprint: str,
        preprocessing: Mapping[str, Any],
        device: torch.device,
        batch_size: int | None = None,
    ) -> None:
        """Wrap a loaded model; use `load_encoder`, `from_folder` or `from_hub` instead."""
        self.uri = uri
        self.fingerprint = fingerprint
        self.preprocessing = dict(preprocessing)
        self.dim = int(model.config.hidden_size)
        self.batch_size = batch_size or (64 if device.type == "cuda" else 4)
        self._device = device
        self._model = model.to(device=device, dtype=torch.float32).eval().requires_grad_(False)
        self._mean = torch.tensor(self.preprocessing["mean"]).view(3, 1, 1)
        self._std = torch.tensor(self.preprocessing["std"]).view(3, 1, 1)

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        *,
        device: str = "auto",
        uri: str | None = None,
        batch_size: int | None = None,
    ) -> Dinov2Encoder:
        """Load ``config.json`` and ``model.safetensors`` of a folder; nothing is fetched.

        Raises:
            EncoderError: no such folder, not DINOv2, weights that are missing, a pickle, or do not fit.
        """
        from safetensors import SafetensorError
        from transformers import Dinov2Config, Dinov2Model

        folder = Path(folder)
        if not is_dinov2(folder):
            raise EncoderError(
                f"{folder}: no {CONFIG} with model_type 'dinov2'; give a folder that "
                "transformers' save_pretrained wrote, or 'dinov2:owner/name'"
            )
        weights = folder / WEIGHTS
        if not weights.is_file():
            others = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth"))
            hint = (
                f"; {others[0]} is a pickle, which can run code: save it again as safetensors"
                if others
                else ""
            )
            raise EncoderError(f"{folder}: no {WEIGHTS}{hint}")
        document = read_json(folder / CONFIG)
        policy = _policy(folder, int(document.get("patch_size", 14)))
        try:
            config = Dinov2Config.from_dict(document)
            # transformers may fill a model with random weights before it reads the file
            with torch.random.fork_rng(devices=[]):
                model, info = Dinov2Model.from_pretrained(
                    folder,
                    config=config,
                    use_safetensors=True,
                    local_files_only=True,
                    output_loading_info=True,
                )
        except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
            raise EncoderError(f"{weights}: does not load into the model of {CONFIG}: {error}") from error
        if info["missing_keys"]:
            raise EncoderError(
                f"{weights}: lacks {len(info['missing_keys'])} weights, "
                f"say {sorted(info['missing_keys'])[0]!r}; save the model again"
            )
        digest = hashlib.sha256(json.dumps([document, policy], sort_keys=True).encode())
        digest.update(bytes.fromhex(file_digest(weights)))
        return cls(
            model,
            uri=uri or str(folder),
            fingerprint=digest.hexdigest(),
            preprocessing=policy,
            device=resolve_device(device, error=EncoderError),
            batch_size=batch_size,
        )

    @classmethod
    def from_hub(
        cls, name: str, *, device: str = "auto", revision: str | None = None, uri: str | None = None
    ) -> Dinov2Encoder:
        """Load ``owner/name[@revision]`` from the Hugging Face hub; no pickle is ever fetched."""
        from huggingface_hub import snapshot_download

        address = HubAddress.parse(f"dinov2:{name}", revision=revision, prefix="dinov2:", error=EncoderError)
        with downloading(address, error=EncoderError, instead=f"a folder with {CONFIG} and {WEIGHTS}"):
            folder = snapshot_download(
                address.repository, revision=address.revision, allow_patterns=[CONFIG, WEIGHTS, PROCESSOR]
            )
        return cls.from_folder(folder, device=device, uri=uri or str(address))

    def encode_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Class tokens, shape (n, dim), float32, not normalized."""
        return encode_in_batches(
            images,
            size=self.batch_size,
            device=self._device,
            prepare=self._prepare,
            forward=lambda batch: self._model(pixel_values=batch).pooler_output,
            dim=self.dim,
        )

    def _prepare(self, image: Image.Image) -> torch.Tensor:
        side = self.preprocessing["size"][0]
        small = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(small, dtype=np.float32)).permute(2, 0, 1) / 255
        return (pixels - self._mean) / self._std


def is_dinov2(folder: Path) -> bool:
    """Whether a folder holds a transformers configuration of DINOv2."""
    path = folder / CONFIG
    return path.is_file() and read_json(path).get("model_type") == "dinov2"


def _policy(folder: Path, patch: int) -> dict[str, Any]:
    processor = read_json(folder / PROCESSOR) if (folder / PROCESSOR).is_file() else {}
    crop = processor.get("crop_size") or {}
    side = int(crop.get("height", _SIDE)) if isinstance(crop, dict) else int(crop)
    if side % patch:
        raise EncoderError(
            f"{folder / PROCESSOR}: crop_size is {side}, not a multiple of the patch size {patch}; correct it"
        )
    return {
        "size": [side, side],
        "resize_mode": "squash",
        "interpolation": "PIL bicubic, antialiased, rounded",
        "mean": processor.get("image_mean", _IMAGENET["image_mean"]),
        "std": processor.get("image_std", _IMAGENET["image_std"]),
    }
