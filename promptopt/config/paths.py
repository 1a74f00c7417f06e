"""Paths in a study file, made absolute once, when it is read."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, unquote

from promptopt.base.hub import with_prefix
from promptopt.base.plugins import scheme

_NAMES = ("embedded", "inception", "thumbnail")
_ELSEWHERE = ("hf:", "open_clip:")
_LORA = "+lora:"  # between a generator's URI and an adapter's
_CLIP_GUIDED, _INCEPTION = "clip-guided:", "inception:"
_FOLDERS = ("dinov2:", "transformers:")
_BACKBONES = ("timm:", "torchvision:")
_CONFIG = "?config="  # behind a checkpoint file: the name of an architecture, or a folder


def absolute_path(text: str, base: Path) -> str:
    """The path from `base`; `~` is the home folder."""
    return str((base / Path(text).expanduser()).resolve())


def absolute_folder_or_name(text: str, base: Path) -> str:
    """The path of a folder that is there; else the text, a name."""
    path = absolute_path(text, base)
    return path if Path(path).is_dir() else text


def absolute_uri(text: str, base: Path) -> str:
    """The URI of a network with every path in it absolute; names and addresses on the hub stay.

    ``owner/name`` becomes ``hf:owner/name`` where no such folder is in `base`.

    Adapters behind it (`MODEL+lora:PATH@SCALE`), the model and the CLIP of `clip-guided:MODEL?clip=PATH`, and
    the weights of `inception:FILE`, `timm:NAME@FILE`, `torchvision:NAME@FILE`, `dinov2:FOLDER` and
    `transformers:FOLDER` are made absolute too.

    >>> absolute_uri("sd+lora:hf:owner/name@0.5+lora:lora@1", Path("/models"))
    '/models/sd+lora:hf:owner/name@0.5+lora:/models/lora@1'
    >>> absolute_uri("clip-guided:embedded?clip=vit&mode=best", Path("/models"))
    'clip-guided:embedded?clip=/models/vit&mode=best'
    """
    if text.startswith(_CLIP_GUIDED):
        model, mark, settings = text.removeprefix(_CLIP_GUIDED).partition("?")
        pairs = [_setting(pair, base) for pair in settings.split("&")] if mark else []
        return f"{_CLIP_GUIDED}{absolute_uri(model, base) if model else ''}{mark}{'&'.join(pairs)}"
    return _LORA.join(_absolute(part, base) for part in text.split(_LORA))


def _setting(pair: str, base: Path) -> str:
    key, mark, value = pair.partition("=")
    if key != "clip" or not value:
        return pair
    address = unquote(value)
    absolute = absolute_uri(address, base)
    return pair if absolute == address else f"{key}{mark}{quote(absolute, safe='/:@+')}"


def _absolute(text: str, base: Path) -> str:
    if not text or text in _NAMES or (text.startswith(_ELSEWHERE) and _CONFIG not in text):
        return text
    if text.startswith(_INCEPTION):
        return _INCEPTION + absolute_path(text.removeprefix(_INCEPTION), base)
    if text.startswith(_BACKBONES):
        name, mark, file = text.partition("@")
        return f"{name}@{absolute_path(file, base)}" if mark and file else text
    if text.startswith(_FOLDERS):
        library, _, place = text.partition(":")
        return f"{library}:{absolute_folder_or_name(place, base)}"
    if _CONFIG in text:
        file, _, config = text.partition(_CONFIG)
        return f"{_absolute(file, base)}{_CONFIG}{absolute_folder_or_name(config, base)}"
    if (address := with_prefix(text, base)) != text:
        return address
    path = absolute_path(text, base)
    return text if scheme(text) is not None and not Path(path).exists() else path  # "name:rest" of a plug-in
