"""An open_clip model that gradients pass through: how well decoded pixels agree with a text."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch.nn import functional as F

from generators.errors import GeneratorError

_CONFIG = "open_clip_config.json"
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
_REMEDY = "give 'embedded', a folder in open_clip's format, or 'open_clip:MODEL/WEIGHTS'"


class Clip:
    """A CLIP in float32, for reading only.

    Attributes:
        fingerprint: sha256 (hexadecimal) of weights, configuration and tokenizer files.
        context_length: the longest text, in tokens, start and end included.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, address: str, fingerprint: str, device: torch.device
    ) -> None:
        """Wraps a loaded open_clip model; `load_clip` is the way to one."""
        own = model.visual.preprocess_cfg
        if own.get("resize_mode", "shortest") not in ("shortest", "squash"):
            raise GeneratorError(
                f"{address}: its preprocessing pads images (resize_mode {own['resize_mode']!r}), which is "
                "not done here; take a CLIP that resizes the shortest side or squashes"
            )
        self.fingerprint = fingerprint
        self.context_length = int(tokenizer.context_length)
        self._device = device
        self._model = model.to(device=device, dtype=torch.float32).eval().requires_grad_(False)
        self._tokenizer = tokenizer
        size = own["size"]
        self._size = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        self._squash = own.get("resize_mode") == "squash"
        self._mode = "bilinear" if own.get("interpolation") == "bilinear" else "bicubic"
        self._mean, self._deviation = (
            torch.tensor(own[name], device=device).view(1, 3, 1, 1) for name in ("mean", "std")
        )
        self.text = lru_cache(maxsize=512)(self._text)

    def count_tokens(self, text: str) -> int:
        """Tokens of the whole text, start and end included, before any cut."""
        inner = getattr(self._tokenizer, "tokenizer", None)
        if inner is None:  # open_clip's built-in vocabulary
            return len(self._tokenizer.encode(text)) + 2
        clean = getattr(self._tokenizer, "clean_fn", None)
        return len(inner(clean(text) if clean else text, truncation=False, verbose=False)["input_ids"])

    @torch.no_grad()
    def _text(self, text: str) -> torch.Tensor:
        """Unit vector (dim,) of a text."""
        rows = self._model.encode_text(self._tokenizer([text]).to(self._device))
        return F.normalize(rows.float(), dim=1)[0]

    def images(self, pixels: torch.Tensor) -> torch.Tensor:
        """Unit vectors (n, dim) of pixels (n, 3, height, width), -1 to 1; gradients pass through."""
        shown = (pixels.float() * 0.5 + 0.5).clamp(0, 1)
        shown = (self._fitted(shown).clamp(0, 1) - self._mean) / self._deviation
        return F.normalize(self._model.encode_image(shown).float(), dim=1)

    def _fitted(self, shown: torch.Tensor) -> torch.Tensor:
        height, width = self._size
        if self._squash:
            return self._resized(shown, (height, width))
        scale = max(height / shown.shape[2], width / shown.shape[3])
        target = (max(height, round(shown.shape[2] * scale)), max(width, round(shown.shape[3] * scale)))
        shown = self._resized(shown, target)
        top, left = (target[0] - height) // 2, (target[1] - width) // 2
        return shown[:, :, top : top + height, left : left + width]

    def _resized(self, shown: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        if tuple(shown.shape[2:]) == size:
            return shown
        return F.interpolate(shown, size=size, mode=self._mode, antialias=True, align_corners=False)


def load_clip(address: str, *, device: torch.device) -> Clip:
    """The CLIP at "embedded" (the small one in the package), in a folder, or "open_clip:MODEL/WEIGHTS".

    Raises:
        GeneratorError: it cannot be found, fetched or read, or its weights are a pickle.
    """
    import open_clip

    try:
        if address.startswith("open_clip:"):
            name, weights, config = _registered(address)
            model = open_clip.create_model(name[0], pretrained=name[1], require_pretrained=True)
            tokenizer = open_clip.get_tokenizer(name[0])
            files = [weights]
        else:
            folder = embedded_clip() if address == "embedded" else Path(address).expanduser()
            config, files = _folder(folder)
            # the absolute path keeps open_clip from reading the folder as a name on the hub
            local = f"local-dir:{folder.resolve()}"
            model = open_clip.create_model(local, require_pretrained=True)
            tokenizer = open_clip.get_tokenizer(local)
    except GeneratorError:
        raise
    except (RuntimeError, ValueError, TypeError, KeyError, OSError, SafetensorError) as error:
        raise GeneratorError(f"{address}: this CLIP cannot be loaded ({error}); {_REMEDY}") from error
    total = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for path in files:
        with path.open("rb") as file:
            total.update(f"\0{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}".encode())
    return Clip(model, tokenizer, address=address, fingerprint=total.hexdigest(), device=device)


def embedded_clip() -> Path:
    """Folder of the small CLIP that ships beside this package; found without running that package's code."""
    spec = find_spec("evaluation")
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "embedded" / "clip"
        if (folder / _CONFIG).is_file():
            return folder
    raise GeneratorError(f"clip=embedded: the small CLIP is not installed; {_REMEDY}")


def _folder(folder: Path) -> tuple[dict[str, Any], list[Path]]:
    path = folder / _CONFIG
    if not path.is_file():
        raise GeneratorError(f"{path} is missing, so this is no CLIP; {_REMEDY}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        text = config["model_cfg"]["text_cfg"]
        code = text.get("tokenizer_kwargs", {}).get("trust_remote_code")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise GeneratorError(f"{path}: not a configuration of open_clip ({error}); save it again") from error
    if code:
        raise GeneratorError(f"{path}: trust_remote_code would run code from the folder; remove the key")
    if text.get("hf_model_name"):
        raise GeneratorError(f"{path}: a text tower from the hub ({text['hf_model_name']}) is not read here")
    weights = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise GeneratorError(f"{folder / _WEIGHTS[0]} is missing; only safetensors weights are read")
    return config, [weights, *sorted(folder.glob("*token*.json")), *sorted(folder.glob("vocab*"))]


def _registered(address: str) -> tuple[tuple[str, str], Path, dict[str, Any]]:
    import open_clip
    from open_clip.pretrained import download_pretrained

    architecture, _, tag = address.removeprefix("open_clip:").rpartition("/")
    config = open_clip.get_model_config(architecture)
    entry = open_clip.get_pretrained_cfg(architecture, tag) if config is not None else None
    if not entry:
        raise GeneratorError(
            f"{address}: open_clip knows no such weights; open_clip.list_pretrained() prints them "
            "as pairs, to be written open_clip:MODEL/WEIGHTS"
        )
    weights = Path(download_pretrained(entry))
    if weights.suffix != ".safetensors":
        raise GeneratorError(
            f"{address}: published as a pickle, which can run code; take weights in safetensors"
        )
    return (architecture, tag), weights, config
