"""From the address of an encoder to the encoder."""

from __future__ import annotations

from pathlib import Path

from evaluation.encoders.base import Encoder, EncoderError, TextEncoder
from promptopt.base import plugins
from promptopt.base.hub import HubAddress

EMBEDDED_CLIP = Path(__file__).resolve().parent.parent / "embedded" / "clip"
ADDRESSES = (
    "'embedded', a folder, 'open_clip:MODEL/TAG', 'hf:owner/name', 'timm:NAME[@FILE]', "
    "'torchvision:NAME@FILE', 'transformers:owner/name', 'dinov2:owner/name', 'inception', 'inception:FILE' "
    "or 'thumbnail'"
)


def load_encoder(uri: str | Path, *, device: str = "auto", revision: str | None = None) -> Encoder:
    """Load an encoder from its address.

    Args:
        uri: ``embedded`` (ships with the package), a folder in open_clip's format or of an image model of
            transformers, ``open_clip:MODEL/TAG`` (a model of open_clip's own list, say
            ``open_clip:ViT-B-32/laion2b_s34b_b79k``), ``hf:owner/name[@revision]`` (an open_clip or
            transformers model on the Hugging Face hub), ``inception`` (its weights from clean-fid's
            address), ``inception:FILE``, or ``thumbnail`` (colors on an 8 x 8 grid, no weights: the space in
            which copies are found). Of images alone: ``timm:NAME`` (timm's weights from the hub),
            ``timm:NAME@FILE`` and ``torchvision:NAME@FILE`` (a safetensors file), ``transformers:`` with a
            folder, ``owner/name[@revision]`` or ``hf:owner/name``, ``dinov2:`` with the same. ``name`` or
            ``name:rest`` is an encoder that an installed package registers, see `promptopt.base.plugins`.
        device: ``auto`` (an accelerator when there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        revision: commit, tag or branch of a model on the hub; the same as ``@revision``.

    Raises:
        EncoderError: nothing there, an unknown format, weights that are not safetensors, unknown tag.
        PluginError: the package that registers the name cannot be loaded.

    Example:
        >>> load_encoder("thumbnail").dim
        193
    """
    address = str(uri).strip()
    if not address:
        raise EncoderError(f"the encoder's address is empty; give {ADDRESSES}")
    if revision is not None and not _on_hub(address):
        raise EncoderError(
            f"{address}: a revision ({revision!r}) belongs to 'hf:owner/name' and 'transformers:owner/name' "
            "alone; leave it out"
        )
    if address == "inception" or address.startswith("inception:"):
        from evaluation.encoders.inception import InceptionEncoder

        file = address.removeprefix("inception").removeprefix(":")
        if not file:
            return InceptionEncoder.download(device=device)
        return InceptionEncoder.from_file(file, device=device, uri=address)
    if address == "thumbnail":
        from evaluation.encoders.thumbnail import ThumbnailEncoder

        return ThumbnailEncoder()
    if address.startswith(("timm:", "torchvision:")):
        from evaluation.encoders.image_network import ImageNetworkEncoder

        return ImageNetworkEncoder.from_address(address, device=device)
    if address.startswith(("transformers:", "dinov2:")):
        from evaluation.encoders.transformers_model import load_transformers

        return load_transformers(address, device=device, revision=revision)
    if (plugin := _from_plugin(address, device=device)) is not None:
        return plugin
    return _load_open_clip_or_transformers(address, device=device, revision=revision)


def load_text_encoder(uri: str | Path, *, device: str = "auto", revision: str | None = None) -> TextEncoder:
    """As `load_encoder`, for an encoder that must read texts too.

    Raises:
        EncoderError: as `load_encoder`, and for an encoder of images alone.
    """
    encoder = load_encoder(uri, device=device, revision=revision)
    if not isinstance(encoder, TextEncoder):
        raise EncoderError(
            f"{uri}: this encoder reads images alone, and texts are needed here; "
            "give 'embedded', a folder in open_clip's format, 'open_clip:MODEL/TAG' or 'hf:owner/name'"
        )
    return encoder


def _from_plugin(address: str, *, device: str) -> Encoder | None:
    if address == "embedded" or address.startswith(("hf:", "open_clip:")):
        return None
    name = plugins.scheme(address)
    if name is None:
        return None
    make = plugins.find(plugins.ENCODERS, name)
    if make is not None:
        encoder = make(address[len(name) + 1 :], device=device)
        if not isinstance(encoder, Encoder):
            raise EncoderError(
                f"{address}: the plug-in gave a {type(encoder).__name__}, which is no evaluation.Encoder"
            )
        return encoder
    if not Path(address).exists():
        known = ", ".join(plugins.names(plugins.ENCODERS)) or "none"
        raise EncoderError(
            f"{address}: no installed package registers an encoder {name!r} (there are: {known}); "
            f"install it, or give {ADDRESSES}"
        )
    return None


def _load_open_clip_or_transformers(address: str, *, device: str, revision: str | None) -> Encoder:
    if address == "embedded" and not (EMBEDDED_CLIP / "open_clip_config.json").is_file():
        raise EncoderError(
            f"{EMBEDDED_CLIP}: the embedded encoder has not been built; run scripts/build_embedded.py, "
            "or name another encoder (a folder, 'open_clip:MODEL/TAG', 'hf:owner/name')"
        )
    from evaluation.encoders.open_clip import OpenClipEncoder

    if address == "embedded":
        return OpenClipEncoder.from_folder(EMBEDDED_CLIP, device=device, uri="embedded")
    if address.startswith("open_clip:"):
        return OpenClipEncoder.from_registry(address.removeprefix("open_clip:"), device=device)
    if address.startswith("hf:"):
        name = address.removeprefix("hf:")
        if _hub_says_transformers(name, revision):
            from evaluation.encoders.transformers_model import TransformersEncoder

            uri = address if revision is None or "@" in address else f"{address}@{revision}"
            return TransformersEncoder.from_hub(name, device=device, revision=revision, uri=uri)
        return OpenClipEncoder.from_hub(name, device=device, revision=revision)
    folder = Path(address)
    if _is_transformers(folder):
        from evaluation.encoders.transformers_model import TransformersEncoder

        return TransformersEncoder.from_folder(folder, device=device)
    return OpenClipEncoder.from_folder(folder, device=device)


def _on_hub(address: str) -> bool:
    if address.startswith(("transformers:", "dinov2:")):
        return not Path(address.partition(":")[2]).is_dir()
    return address.startswith("hf:")


def _hub_says_transformers(name: str, revision: str | None) -> bool:
    """Whether a repository is a transformers model, by its configuration; False when that cannot be had."""
    from huggingface_hub import snapshot_download

    hub = HubAddress.parse(f"hf:{name}", revision=revision, error=EncoderError)
    try:
        folder = Path(
            snapshot_download(hub.repository, revision=hub.revision, allow_patterns=["*config.json"])
        )
    except (OSError, ValueError):
        return False  # the loader asks again, and says what is wrong
    return _is_transformers(folder)


def _is_transformers(folder: Path) -> bool:
    """Whether a folder holds a transformers model, and none of open_clip's."""
    if (folder / "open_clip_config.json").is_file() or not (folder / "config.json").is_file():
        return False
    from evaluation.encoders.transformers_model import model_type

    return model_type(folder) is not None
