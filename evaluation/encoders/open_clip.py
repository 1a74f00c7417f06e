"""Any open_clip model as an encoder: from a folder, from open_clip's own list, from the hub."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from evaluation.encoders._batches import computed_on, encode_in_batches, exact_inference, filled
from evaluation.encoders.base import EncoderError
from evaluation.encoders.open_clip_folder import (
    CONFIG,
    REMEDY,
    TEXT_TOWER_CONFIG,
    TOKENIZER_FILES,
    WEIGHT_NAMES,
    build_open_clip,
    fingerprint_of,
    is_text_tower,
    read_folder,
    save_open_clip,
)
from promptopt.base.devices import resolve_device
from promptopt.base.hub import HubAddress, downloading

__all__ = ["TOKENIZER_FILES", "OpenClipEncoder", "build_open_clip", "save_open_clip"]


class OpenClipEncoder:
    """An open_clip model in evaluation mode, float32, with its own preprocessing.

    Attributes:
        uri: the address it was loaded from.
        fingerprint: hex sha256 of weights, model configuration, tokenizer files and preprocessing policy.
        dim: length of a feature vector.
        logit_scale: exponential of the learned scale.
        context_length: number of tokens, both marks included, that a text may have.
        preprocessing: the policy: ``size``, ``mean``, ``std``, ``interpolation``, ``fill_color`` and
            ``resize_mode`` (``shortest`` resizes the short side and then **crops the center**: the ends of a
            wide frame are not seen; ``squash`` ignores the aspect ratio; ``longest`` pads).
        batch_size: images or texts a forward pass; a short batch is filled up and the surplus thrown away, so
            that every pass has one shape and a row does not depend on the company it is in.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        uri: str,
        fingerprint: str,
        device: torch.device,
        batch_size: int | None = None,
    ) -> None:
        """Wrap a loaded model; use `load_encoder` or one of the class methods instead."""
        from open_clip.transform import PreprocessCfg, image_transform_v2

        self.uri = uri
        self.fingerprint = fingerprint
        self.preprocessing: Mapping[str, Any] = dict(model.visual.preprocess_cfg)
        self.batch_size = batch_size or (64 if device.type == "cuda" else 8)
        self.computed_on = computed_on(device, batch_size)
        self._device = device
        self._model = model.to(device=device, dtype=torch.float32).eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self._transform = image_transform_v2(PreprocessCfg(**self.preprocessing), is_train=False)
        self.context_length = int(tokenizer.context_length)
        self.logit_scale = float(model.logit_scale.detach().exp().max())
        self.dim = int(self._forward_texts([""]).shape[1])

    @classmethod
    def from_folder(
        cls, folder: Path, *, device: str = "auto", uri: str | None = None, batch_size: int | None = None
    ) -> OpenClipEncoder:
        """Load a folder in open_clip's format; nothing is fetched when the folder is complete."""
        import open_clip

        folder = Path(folder)
        config, weights = read_folder(folder)
        overrides: dict[str, Any] = {}
        text = config["model_cfg"]["text_cfg"]
        if text.get("hf_model_name") and is_text_tower(folder / TEXT_TOWER_CONFIG):
            overrides["text_cfg"] = {**text, "hf_model_name": str(folder), "hf_model_pretrained": False}
        try:
            # the folder's absolute path also keeps open_clip from reading it as a name on the hub
            model = open_clip.create_model(
                f"local-dir:{folder.resolve()}", require_pretrained=True, **overrides
            )
        except (RuntimeError, ValueError, TypeError, KeyError, OSError) as error:
            raise EncoderError(
                f"{folder}: {weights.name} does not load into the model described in {CONFIG}: {error}"
            ) from error
        try:
            tokenizer = open_clip.get_tokenizer(f"local-dir:{folder.resolve()}")
        except (RuntimeError, ValueError, TypeError, KeyError, OSError) as error:
            raise EncoderError(
                f"{folder}: no usable tokenizer ({error}); {CONFIG} names text_cfg.hf_tokenizer_name="
                f"{text.get('hf_tokenizer_name')!r}, so tokenizer.json and tokenizer_config.json belong here"
            ) from error
        extras = [folder / name for name in (*TOKENIZER_FILES, TEXT_TOWER_CONFIG)]
        return cls(
            model,
            tokenizer,
            uri=uri or str(folder),
            fingerprint=fingerprint_of(weights, config["model_cfg"], model.visual.preprocess_cfg, extras),
            device=resolve_device(device, error=EncoderError),
            batch_size=batch_size,
        )

    @classmethod
    def from_registry(cls, name: str, *, device: str = "auto") -> OpenClipEncoder:
        """Load ``MODEL/TAG`` of open_clip's own list; fetched once, and safetensors alone."""
        import open_clip
        from open_clip.pretrained import download_pretrained

        architecture, _, tag = name.rpartition("/")
        uri = f"open_clip:{name}"
        if not architecture or not tag:
            raise EncoderError(
                f"{uri}: write 'open_clip:MODEL/TAG', say 'open_clip:ViT-B-32/laion2b_s34b_b79k'"
            )
        model_config = open_clip.get_model_config(architecture)
        if model_config is None:
            raise EncoderError(
                f"{uri}: open_clip has no model {architecture!r}; open_clip.list_models() prints the list"
            )
        entry = open_clip.get_pretrained_cfg(architecture, tag)
        if not entry:
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none"
            raise EncoderError(f"{uri}: {architecture} has no weights tagged {tag!r}; its tags: {tags}")
        try:
            weights = Path(download_pretrained(entry))
        except (OSError, RuntimeError) as error:
            raise EncoderError(
                f"{uri}: the weights could not be fetched ({error}); connect once, or give a folder"
            ) from error
        if weights.suffix != ".safetensors":
            raise EncoderError(f"{weights}: {uri} is published as a pickle; {REMEDY}")
        model = open_clip.create_model(architecture, pretrained=tag, require_pretrained=True)
        return cls(
            model,
            open_clip.get_tokenizer(architecture),
            uri=uri,
            fingerprint=fingerprint_of(weights, model_config, model.visual.preprocess_cfg, []),
            device=resolve_device(device, error=EncoderError),
        )

    @classmethod
    def from_hub(cls, name: str, *, device: str = "auto", revision: str | None = None) -> OpenClipEncoder:
        """Load ``owner/name[@revision]`` from the Hugging Face hub; no pickle is ever fetched."""
        from huggingface_hub import snapshot_download

        address = HubAddress.parse(f"hf:{name}", revision=revision, error=EncoderError)
        wanted = [CONFIG, *WEIGHT_NAMES, *TOKENIZER_FILES, TEXT_TOWER_CONFIG]
        with downloading(address, error=EncoderError):
            folder = snapshot_download(address.repository, revision=address.revision, allow_patterns=wanted)
        found = Path(folder)
        if (found / CONFIG).is_file() and not any((found / weights).is_file() for weights in WEIGHT_NAMES):
            raise EncoderError(
                f"{address}: its weights are published as a pickle; {REMEDY}: "
                f"promptopt convert {address} NEW_FOLDER, and name that folder"
            )
        return cls.from_folder(found, device=device, uri=str(address))

    def encode_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Features, shape (n, dim), float32, not normalized."""
        return encode_in_batches(
            images,
            size=self.batch_size,
            device=self._device,
            # palettes and transparency before the resize: interpolating them gives other colors
            prepare=lambda image: self._transform(image.convert("RGB")),
            forward=self._model.encode_image,
            dim=self.dim,
        )

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Features, shape (n, dim), float32, not normalized.

        A text of more than `context_length` tokens is cut at its end, and a `UserWarning` says how many were,
        and which is the longest: it never happens in silence.
        """
        if isinstance(texts, str):
            raise TypeError("encode_texts takes a sequence of texts; put the single text in a list")
        counts = [self.count_tokens(text) for text in texts]
        too_long = [i for i, count in enumerate(counts) if count > self.context_length]
        if too_long:
            worst = max(too_long, key=lambda i: counts[i])
            warnings.warn(
                f"{len(too_long)} of {len(texts)} texts are longer than the {self.context_length} tokens "
                f"{self.uri} reads and are cut; the longest has {counts[worst]}: {texts[worst]!r}",
                UserWarning,
                stacklevel=2,
            )
        blocks = [
            self._forward_texts(list(texts[start : start + self.batch_size]))
            for start in range(0, len(texts), self.batch_size)
        ]
        return np.concatenate(blocks) if blocks else np.zeros((0, self.dim), dtype=np.float32)

    def count_tokens(self, text: str) -> int:
        """Number of tokens of the whole text, marks included, before any cut."""
        inner = getattr(self._tokenizer, "tokenizer", None)
        if inner is None:  # open_clip's built-in CLIP vocabulary
            return len(self._tokenizer.encode(text)) + 2
        clean = getattr(self._tokenizer, "clean_fn", None)
        cleaned = clean(text) if clean is not None else text
        if getattr(self._tokenizer, "tokenizer_mode", ""):  # "clips": start, end and a class token of its own
            return len(inner(cleaned, add_special_tokens=False)["input_ids"]) + 3
        return len(inner(cleaned, truncation=False)["input_ids"])

    def _forward_texts(self, texts: list[str]) -> NDArray[np.float32]:
        tokens = self._tokenizer(texts)
        with exact_inference(self._device):
            rows = self._model.encode_text(filled(tokens, self.batch_size).to(self._device))
        return rows[: len(texts)].float().cpu().numpy()
