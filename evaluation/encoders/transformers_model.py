"""Image models of transformers (DINOv2 and the like) as encoders; safetensors alone, no remote code."""

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

from evaluation.encoders._batches import computed_on, encode_in_batches, exact_inference
from evaluation.encoders.base import EncoderError, read_json
from promptopt.base.devices import resolve_device
from promptopt.base.files import file_digest
from promptopt.base.hub import HubAddress, downloading

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
PROCESSOR = "preprocessor_config.json"
TRANSFORMERS, DINOV2 = "transformers:", "dinov2:"
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_SIDE = 224
_CLASS_TOKENS = ("cls_token", "class_embedding", "class_token")


class TransformersEncoder:
    """An image model of transformers in evaluation mode, float32. It reads images alone.

    A feature is the model's pooled output where the weights have one (DINOv2: the class token after the last
    normalization; CLIP and SigLIP: the image's projection), else the last layer's class token, or the mean
    over its places where there is none.

    Attributes:
        uri: the address it was loaded from.
        fingerprint: hex sha256 of weights, configuration and preprocessing policy.
        dim: length of a feature vector.
        preprocessing: the policy: the whole frame is resized by PIL's bicubic filter to a square (no center
            crop, unlike the model's own processor: the ends of a wide frame are seen, as in Stein et al.
            2023), of the processor's crop size or size, else the configuration's (DINOv2: 224); mean and SD
            are the processor's, or ImageNet's.
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
        pooled: bool = True,
        batch_size: int | None = None,
    ) -> None:
        """Wrap a loaded model; use `load_encoder`, `from_folder` or `from_hub` instead."""
        self.uri = uri
        self.fingerprint = fingerprint
        self.preprocessing = dict(preprocessing)
        self.batch_size = batch_size or (64 if device.type == "cuda" else 4)
        self.computed_on = computed_on(device, batch_size)
        self._device, self._pooled = device, pooled
        self._model = model.to(device=device, dtype=torch.float32).eval().requires_grad_(False)
        self._class_token = any(name.endswith(_CLASS_TOKENS) for name, _ in model.named_parameters())
        self._mean = torch.tensor(self.preprocessing["mean"]).view(3, 1, 1)
        self._std = torch.tensor(self.preprocessing["std"]).view(3, 1, 1)
        self.dim = self._width()

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        *,
        device: str = "auto",
        uri: str | None = None,
        batch_size: int | None = None,
    ) -> TransformersEncoder:
        """Load ``config.json`` and ``model.safetensors`` of a folder; nothing is fetched.

        Raises:
            EncoderError: no such folder, not an image model, weights that are missing, a pickle, or do not
                fit.
        """
        from safetensors import SafetensorError
        from transformers import AutoConfig, AutoModel

        folder = Path(folder)
        if model_type(folder) is None:
            raise EncoderError(
                f"{folder}: no {CONFIG} with a model_type; give a folder that transformers' "
                "save_pretrained wrote, or 'transformers:owner/name'"
            )
        weights = folder / WEIGHTS
        if not weights.is_file():
            raise EncoderError(f"{folder}: no {WEIGHTS}{_pickle_hint(folder)}")
        document = read_json(folder / CONFIG)
        policy = _policy(folder, document)
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            # transformers may fill a model with random weights before it reads the file
            with torch.random.fork_rng(devices=[]):
                model, info = AutoModel.from_pretrained(
                    folder,
                    config=config,
                    use_safetensors=True,
                    local_files_only=True,
                    trust_remote_code=False,
                    output_loading_info=True,
                )
        except (OSError, ValueError, RuntimeError, TypeError, KeyError, SafetensorError) as error:
            raise EncoderError(f"{weights}: does not load into the model of {CONFIG}: {error}") from error
        if model.main_input_name != "pixel_values" and not hasattr(model, "get_image_features"):
            raise EncoderError(
                f"{folder}: a {document['model_type']} model reads {model.main_input_name}, not images; give "
                "an image model"
            )
        missing = sorted(info["missing_keys"])
        lacks = [key for key in missing if not key.startswith("pooler.")]
        if lacks:
            raise EncoderError(
                f"{weights}: lacks {len(lacks)} weights, say {lacks[0]!r}; save the model again"
            )
        digest = hashlib.sha256(json.dumps([document, policy], sort_keys=True).encode())
        digest.update(bytes.fromhex(file_digest(weights)))
        return cls(
            model,
            uri=uri or str(folder),
            fingerprint=digest.hexdigest(),
            preprocessing=policy,
            pooled=not missing,
            device=resolve_device(device, error=EncoderError),
            batch_size=batch_size,
        )

    @classmethod
    def from_hub(
        cls,
        name: str,
        *,
        device: str = "auto",
        revision: str | None = None,
        prefix: str = TRANSFORMERS,
        uri: str | None = None,
    ) -> TransformersEncoder:
        """Load ``owner/name[@revision]`` from the Hugging Face hub; no pickle is ever fetched."""
        from huggingface_hub import snapshot_download

        address = HubAddress.parse(f"{prefix}{name}", revision=revision, prefix=prefix, error=EncoderError)
        with downloading(address, error=EncoderError, instead=f"a folder with {CONFIG} and {WEIGHTS}"):
            folder = snapshot_download(
                address.repository, revision=address.revision, allow_patterns=[CONFIG, WEIGHTS, PROCESSOR]
            )
        return cls.from_folder(folder, device=device, uri=uri or str(address))

    def encode_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Features, shape (n, dim), float32, not normalized."""
        return encode_in_batches(
            images,
            size=self.batch_size,
            device=self._device,
            prepare=self._prepare,
            forward=self._forward,
            dim=self.dim,
        )

    def _prepare(self, image: Image.Image) -> torch.Tensor:
        side = self.preprocessing["size"][0]
        small = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(small, dtype=np.float32)).permute(2, 0, 1) / 255
        return (pixels - self._mean) / self._std

    def _forward(self, batch: torch.Tensor) -> torch.Tensor:
        both = hasattr(self._model, "get_image_features")  # an image model beside a text model
        given = self._model.get_image_features(pixel_values=batch) if both else self._model(batch)
        if isinstance(given, torch.Tensor):
            return given
        rows = getattr(given, "pooler_output", None)
        if rows is None or not self._pooled:
            rows = given.last_hidden_state
            if rows.ndim == 3:  # (n, places, features)
                rows = rows[:, 0] if self._class_token else rows.mean(dim=1)
        return rows.flatten(2).mean(dim=2) if rows.ndim == 4 else rows

    def _width(self) -> int:
        side = self.preprocessing["size"][0]
        try:
            with exact_inference(self._device):
                return int(self._forward(torch.zeros(1, 3, side, side, device=self._device)).shape[1])
        except (ValueError, RuntimeError, AttributeError, TypeError) as error:
            raise EncoderError(
                f"{self.uri}: does not encode an image of {side} x {side} pixels ({error}); give the size in "
                f"{PROCESSOR}, or another model"
            ) from error


def load_transformers(
    address: str, *, device: str = "auto", revision: str | None = None
) -> TransformersEncoder:
    """Load ``transformers:`` or ``dinov2:`` with a folder, ``owner/name[@revision]`` or ``hf:owner/name``.

    Raises:
        EncoderError: as `TransformersEncoder.from_folder`; behind ``dinov2:`` another model.
    """
    prefix = DINOV2 if address.startswith(DINOV2) else TRANSFORMERS
    place = address.removeprefix(prefix)
    if Path(place).is_dir():
        if prefix == DINOV2 and model_type(Path(place)) != "dinov2":
            raise EncoderError(
                f"{place}: no {CONFIG} with model_type 'dinov2'; give such a folder, or "
                f"{TRANSFORMERS}{place} for another model"
            )
        return TransformersEncoder.from_folder(place, device=device, uri=address)
    given = address if revision is None or "@" in place else f"{address}@{revision}"
    return TransformersEncoder.from_hub(
        place.removeprefix("hf:"), device=device, revision=revision, prefix=prefix, uri=given
    )


def model_type(folder: Path) -> str | None:
    """What a transformers configuration says the model is; None where there is none."""
    path = folder / CONFIG
    found = read_json(path).get("model_type") if path.is_file() else None
    return found if isinstance(found, str) and found else None


def _pickle_hint(folder: Path) -> str:
    others = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth"))
    if not others:
        return ""
    return f"; {others[0]} is a pickle, which can run code: promptopt convert {folder} FOLDER writes it anew"


def _policy(folder: Path, document: Mapping[str, Any]) -> dict[str, Any]:
    processor = read_json(folder / PROCESSOR) if (folder / PROCESSOR).is_file() else {}
    own = document.get("model_type") == "dinov2"
    keys = (
        ("crop_size",)
        if own
        else ("crop_size", "size")
        if processor.get("do_center_crop", True)
        else ("size",)
    )
    sides = [side for key in keys if (side := _side(processor.get(key))) is not None]
    side = sides[0] if sides else None
    if side is None:
        seen = document if own else {**document, **document.get("vision_config", {})}
        size = None if own else seen.get("image_size")  # DINOv2's is that of its training's last steps
        side = size if isinstance(size, int) else _SIDE
    patch = int(document.get("patch_size", 14)) if own else 1
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


def _side(size: Any) -> int | None:
    """Pixels of a processor's size: a number, {height, width} or {shortest_edge}."""
    if isinstance(size, Mapping):
        size = size.get("height", size.get("shortest_edge"))
    return size if isinstance(size, int) and size > 0 else None
