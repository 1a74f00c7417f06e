"""What an encoder is, and how one is found from its address."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from promptopt.base.errors import PromptoptError
from promptopt.base.hub import HubAddress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

EMBEDDED_CLIP = Path(__file__).resolve().parent.parent / "embedded" / "clip"
ADDRESSES = (
    "'embedded', a folder, 'open_clip:MODEL/TAG', 'hf:owner/name', 'dinov2:owner/name', 'inception', "
    "'inception:FILE' or 'thumbnail'"
)


class EncoderError(PromptoptError, ValueError):
    """An encoder cannot be found, read or trusted; the message names the file and the remedy."""


@runtime_checkable
class Encoder(Protocol):
    """Images to features. The same image gives the same row whatever stands beside it in the call."""

    @property
    def uri(self) -> str:
        """The address it was loaded from."""

    @property
    def fingerprint(self) -> str:
        """Hex sha256 of all that can change a feature: weights, architecture, preprocessing."""

    @property
    def dim(self) -> int:
        """Length of a feature vector."""

    def encode_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Features of the images, shape (n, dim), float32, not normalized; (0, dim) for no images."""


@runtime_checkable
class TextEncoder(Encoder, Protocol):
    """An encoder whose texts live in the same space as its images (CLIP and its kin)."""

    @property
    def logit_scale(self) -> float:
        """What a cosine is multiplied by before a softmax (the exponential of the learned parameter)."""

    @property
    def context_length(self) -> int:
        """Number of tokens a text may have, start and end marks included."""

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Features of the texts, shape (n, dim), float32, not normalized; warns when a text is too long."""

    def count_tokens(self, text: str) -> int:
        """Number of tokens of the whole text, start and end marks included, before any cut."""


def load_encoder(uri: str | Path, *, device: str = "auto", revision: str | None = None) -> Encoder:
    """Load an encoder from its address.

    Args:
        uri: ``embedded`` (ships with the package), a folder in open_clip's format or of a DINOv2 model of
            transformers, ``open_clip:MODEL/TAG`` (a model of open_clip's own list, say
            ``open_clip:ViT-B-32/laion2b_s34b_b79k``), ``hf:owner/name[@revision]`` (an open_clip or DINOv2
            model on the Hugging Face hub), ``dinov2:`` with a folder or owner/name, ``inception`` (its
            weights from clean-fid's address), ``inception:FILE``, or ``thumbnail`` (colors on an 8 x 8
            grid, no weights: the space in which copies are found).
        device: ``auto`` (an accelerator when there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        revision: commit, tag or branch of a model on the hub; the same as ``@revision``.

    Raises:
        EncoderError: nothing there, an unknown format, weights that are not safetensors, unknown tag.
    """
    address = str(uri).strip()
    if not address:
        raise EncoderError(f"the encoder's address is empty; give {ADDRESSES}")
    on_hub = address.startswith("hf:") or (
        address.startswith("dinov2:") and not Path(address.removeprefix("dinov2:")).is_dir()
    )
    if revision is not None and not on_hub:
        raise EncoderError(
            f"{address}: a revision ({revision!r}) belongs to 'hf:owner/name' alone; leave it out"
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
    if address.startswith("dinov2:"):
        from evaluation.encoders.dinov2 import Dinov2Encoder

        name = address.removeprefix("dinov2:")
        if on_hub:
            return Dinov2Encoder.from_hub(name, device=device, revision=revision)
        return Dinov2Encoder.from_folder(name, device=device, uri=address)
    return _load_open_clip_or_dinov2(address, device=device, revision=revision)


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


def _load_open_clip_or_dinov2(address: str, *, device: str, revision: str | None) -> Encoder:
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
        if _hub_says_dinov2(name, revision):
            from evaluation.encoders.dinov2 import Dinov2Encoder

            uri = address if revision is None or "@" in address else f"{address}@{revision}"
            return Dinov2Encoder.from_hub(name, device=device, revision=revision, uri=uri)
        return OpenClipEncoder.from_hub(name, device=device, revision=revision)
    folder = Path(address)
    if not (folder / "open_clip_config.json").is_file() and (folder / "config.json").is_file():
        from evaluation.encoders.dinov2 import Dinov2Encoder, is_dinov2

        if is_dinov2(folder):
            return Dinov2Encoder.from_folder(folder, device=device)
    return OpenClipEncoder.from_folder(folder, device=device)


def _hub_says_dinov2(name: str, revision: str | None) -> bool:
    """Whether a repository is DINOv2's, by its configuration; False when that cannot be had."""
    from huggingface_hub import snapshot_download

    hub = HubAddress.parse(f"hf:{name}", revision=revision, error=EncoderError)
    try:
        folder = Path(
            snapshot_download(hub.repository, revision=hub.revision, allow_patterns=["*config.json"])
        )
    except (OSError, ValueError):
        return False  # the loader asks again, and says what is wrong
    from evaluation.encoders.dinov2 import is_dinov2

    return not (folder / "open_clip_config.json").is_file() and is_dinov2(folder)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, or an EncoderError that names it."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise EncoderError(f"{path}: not JSON ({error}); write the file again") from error
    if not isinstance(document, dict):
        raise EncoderError(f"{path}: holds a {type(document).__name__}; expected an object")
    return document
