"""Any open_clip model as an encoder, and the writing of a folder that open_clip reads.

The folder is open_clip's own ``local-dir:`` layout::

    open_clip_config.json         {"model_cfg": {...}, "preprocess_cfg": {...}}
    open_clip_model.safetensors   the weights (float32 or float16; computed in float32)
    tokenizer.json ...            a Hugging Face tokenizer, when text_cfg.hf_tokenizer_name is set

In this layout open_clip takes the tokenizer from the folder whenever ``hf_tokenizer_name`` is not empty,
whatever its value, so that a model with a vocabulary of its own needs no network. Without that key it takes
its own built-in CLIP vocabulary, which needs none either. A text tower from transformers (``hf_model_name``)
asks the hub for its configuration unless the folder holds it as ``config.json``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from evaluation.encoders.backend import EncoderError

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"
# open_clip prefers these two over any pickle in the same folder, in this order
WEIGHT_NAMES = (WEIGHTS, "open_clip_pytorch_model.safetensors")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
)
TEXT_TOWER_CONFIG = "config.json"


class OpenClipEncoder:
    """An open_clip model in evaluation mode, float32, with its own preprocessing.

    Attributes:
        uri: the address it was loaded from.
        fingerprint: hex sha256 of weights, model configuration, tokenizer files and preprocessing policy.
        dim: length of a feature vector.
        logit_scale: exponential of the learnt scale.
        context_length: number of tokens, both marks included, that a text may have.
        preprocessing: the policy: ``size``, ``mean``, ``std``, ``interpolation``, ``fill_color`` and
            ``resize_mode`` (``shortest`` resizes the short side and then **crops the centre**: the ends of a
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
        config, weights = _read_folder(folder)
        overrides: dict[str, Any] = {}
        text = config["model_cfg"]["text_cfg"]
        if text.get("hf_model_name") and _is_text_tower(folder / TEXT_TOWER_CONFIG):
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
            fingerprint=_fingerprint(weights, config["model_cfg"], model.visual.preprocess_cfg, extras),
            device=_device(device),
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
            raise EncoderError(f"{weights}: {uri} is published as a pickle; {_REMEDY}")
        model = open_clip.create_model(architecture, pretrained=tag, require_pretrained=True)
        return cls(
            model,
            open_clip.get_tokenizer(architecture),
            uri=uri,
            fingerprint=_fingerprint(weights, model_config, model.visual.preprocess_cfg, []),
            device=_device(device),
        )

    @classmethod
    def from_hub(cls, name: str, *, device: str = "auto", revision: str | None = None) -> OpenClipEncoder:
        """Load ``owner/name[@revision]`` from the Hugging Face hub; no pickle is ever fetched."""
        from huggingface_hub import snapshot_download

        repository, _, pinned = name.partition("@")
        if pinned and revision and pinned != revision:
            raise EncoderError(f"hf:{name}: two revisions, {pinned!r} and {revision!r}; give one")
        revision = revision or pinned or None
        if repository.count("/") != 1 or not all(repository.split("/")):
            raise EncoderError(f"hf:{name}: write 'hf:owner/name' or 'hf:owner/name@revision'")
        wanted = [CONFIG, *WEIGHT_NAMES, *TOKENIZER_FILES, TEXT_TOWER_CONFIG]
        try:
            folder = Path(snapshot_download(repository, revision=revision, allow_patterns=wanted))
        except (OSError, ValueError) as error:
            raise EncoderError(
                f"hf:{name}: cannot be fetched ({error}); check the name, or connect once to fill the cache"
            ) from error
        uri = f"hf:{repository}" + (f"@{revision}" if revision else "")
        return cls.from_folder(folder, device=device, uri=uri)

    def encode_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Features, shape (n, dim), float32, not normalised."""
        blocks = []
        for start in range(0, len(images), self.batch_size):
            chunk = images[start : start + self.batch_size]
            # palettes and transparency before the resize: interpolating them gives other colours
            batch = torch.stack([self._transform(image.convert("RGB")) for image in chunk])
            with self._inference():
                blocks.append(self._rows(self._model.encode_image(self._fill(batch)), len(batch)))
        return np.concatenate(blocks) if blocks else np.zeros((0, self.dim), dtype=np.float32)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Features, shape (n, dim), float32, not normalised.

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
        with self._inference():
            return self._rows(self._model.encode_text(self._fill(tokens)), len(texts))

    def _fill(self, batch: torch.Tensor) -> torch.Tensor:
        missing = self.batch_size - len(batch)
        filled = torch.cat([batch, batch[:1].expand(missing, *batch.shape[1:])]) if missing > 0 else batch
        return filled.to(self._device)

    @staticmethod
    def _rows(features: torch.Tensor, count: int) -> NDArray[np.float32]:
        return features[:count].float().cpu().numpy()

    @contextmanager
    def _inference(self) -> Iterator[None]:
        # TF32 convolutions, on by default on recent cards, keep 10 bits of mantissa
        exact = (
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
            if self._device.type == "cuda"
            else nullcontext()
        )
        with torch.inference_mode(), exact:
            yield


_REMEDY = (
    "a pickle can run code when it is opened, so only safetensors are read. Convert it once on a machine you "
    "can spare, with torch.load(file, weights_only=True) and safetensors.torch.save_file(...), and name it "
    + WEIGHTS
)


def build_open_clip(
    config: Mapping[str, Any], *, seed: int, preprocess: Mapping[str, Any] | None = None
) -> Any:
    """A model with random weights from open_clip's ``model_cfg`` (``embed_dim``, ``vision_cfg``...).

    Args:
        config: the model's configuration; with ``custom_text`` the text tower is a module of its own.
        seed: of the initial weights; the global random state is left as it was.
        preprocess: entries of open_clip's ``PreprocessCfg`` that differ from its defaults.

    Returns:
        a `torch.nn.Module` in training mode, whose ``visual.preprocess_cfg`` is set.
    """
    from open_clip.model import CLIP, CustomTextCLIP, set_model_preprocess_cfg

    arguments = deepcopy(dict(config))
    custom_text = arguments.pop("custom_text", False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = (CustomTextCLIP if custom_text else CLIP)(**arguments)
    set_model_preprocess_cfg(model, _preprocessing(model.visual.image_size, preprocess))
    return model


def save_open_clip(
    folder: str | Path,
    model: Any,
    config: Mapping[str, Any],
    tokenizer_folder: str | Path | None,
    *,
    preprocess: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write a model as a folder in open_clip's format, which `load_encoder` and open_clip itself read.

    Args:
        folder: made when absent; files of the same names are replaced, each in one step.
        model: an open_clip model.
        config: its ``model_cfg``; ``text_cfg.hf_tokenizer_name`` is set when a tokenizer is copied.
        tokenizer_folder: a Hugging Face tokenizer to copy; None for open_clip's built-in CLIP vocabulary.
        preprocess: entries of ``PreprocessCfg``; without it, those that the model carries.
        dtype: type of the stored weights, `torch.float32` or `torch.float16` (half the size).

    Returns:
        the folder.

    Raises:
        EncoderError: no tokenizer in `tokenizer_folder`.
    """
    from safetensors.torch import save_file

    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    model_config = deepcopy(dict(config))
    if tokenizer_folder is not None:
        found = [Path(tokenizer_folder) / name for name in TOKENIZER_FILES]
        found = [path for path in found if path.is_file()]
        if not any(path.name in ("tokenizer.json", "vocab.json", "vocab.txt") for path in found):
            raise EncoderError(
                f"{tokenizer_folder}: no tokenizer here; expected tokenizer.json or vocab.json"
            )
        model_config["text_cfg"]["hf_tokenizer_name"] = "tokenizer.json"
        for path in found:
            if path.resolve() != (target / path.name).resolve():
                shutil.copyfile(path, target / path.name)
    carried = preprocess if preprocess is not None else getattr(model.visual, "preprocess_cfg", None)
    document = {"model_cfg": model_config, "preprocess_cfg": _preprocessing(model.visual.image_size, carried)}
    tensors = {
        name: tensor.detach()
        .to("cpu", dtype if tensor.is_floating_point() else tensor.dtype)
        .clone()
        .contiguous()
        for name, tensor in model.state_dict().items()
    }
    partial = target / (WEIGHTS + ".part")
    save_file(tensors, partial, metadata={"format": "pt"})
    partial.replace(target / WEIGHTS)
    partial = target / (CONFIG + ".part")
    partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    partial.replace(target / CONFIG)
    return target


def _preprocessing(size: Any, overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    merged = merge_preprocess_dict(asdict(PreprocessCfg()), dict(overrides or {}))
    return {**merged, "size": size}


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise EncoderError(f"device {name!r}: {error}; give 'auto', 'cpu', 'cuda' or 'cuda:N'") from error


def _read_folder(folder: Path) -> tuple[dict[str, Any], Path]:
    if not folder.is_dir():
        raise EncoderError(
            f"{folder}: no such folder; give 'embedded', a folder in open_clip's format, "
            "'open_clip:MODEL/TAG' or 'hf:owner/name'"
        )
    path = folder / CONFIG
    if not path.is_file():
        raise EncoderError(f"{folder}: no {CONFIG}; an open_clip folder holds it beside {WEIGHTS}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise EncoderError(f"{path}: not JSON ({error}); write the file again") from error
    model_config = config.get("model_cfg") if isinstance(config, dict) else None
    if not isinstance(model_config, dict):
        raise EncoderError(f"{path}: no 'model_cfg' object; open_clip's layout is {{'model_cfg': ..., ...}}")
    for key in ("embed_dim", "vision_cfg", "text_cfg"):
        if key not in model_config:
            raise EncoderError(f"{path}: model_cfg lacks {key!r}; it has {sorted(model_config)}")
    kwargs = model_config["text_cfg"].get("tokenizer_kwargs") or {}
    if kwargs.get("trust_remote_code"):
        raise EncoderError(
            f"{path}: text_cfg.tokenizer_kwargs asks for trust_remote_code, which runs code from the folder; "
            "remove the key"
        )
    for name in WEIGHT_NAMES:
        if (folder / name).is_file():
            return config, folder / name
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt"))
    if pickles:
        raise EncoderError(f"{folder / pickles[0]}: {_REMEDY}")
    others = sorted(p.name for p in folder.glob("*.safetensors"))
    hint = f"; rename {others[0]} if that is it" if others else ""
    raise EncoderError(f"{folder}: no weights; expected {WEIGHTS}{hint}")


def _is_text_tower(path: Path) -> bool:
    """Whether a config.json describes a text tower that open_clip can build (not, say, a whole CLIPModel)."""
    if not path.is_file():
        return False
    from open_clip.hf_configs import arch_dict

    return json.loads(path.read_text(encoding="utf-8")).get("model_type") in arch_dict


def _fingerprint(
    weights: Path, model_config: Mapping[str, Any], preprocessing: Mapping[str, Any], extras: Sequence[Path]
) -> str:
    digest = hashlib.sha256()
    policy = {"model": model_config, "preprocessing": preprocessing}
    digest.update(json.dumps(policy, sort_keys=True).encode())
    for path in (weights, *(extra for extra in extras if extra.is_file())):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256")
        # a name of its own for the weights: the same weights under open_clip's two names are one encoder
        label = "weights" if path == weights else path.name
        digest.update(f"\n{label} {content.hexdigest()}".encode())
    return digest.hexdigest()
