"""What an encoder is, and how one is found from its address."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

EMBEDDED_CLIP = Path(__file__).resolve().parent.parent / "embedded" / "clip"


class EncoderError(ValueError):
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
        """Features of the images, shape (n, dim), float32, not normalised; (0, dim) for no images."""


@runtime_checkable
class TextEncoder(Encoder, Protocol):
    """An encoder whose texts live in the same space as its images (CLIP and its kin)."""

    @property
    def logit_scale(self) -> float:
        """What a cosine is multiplied by before a softmax (the exponential of the learnt parameter)."""

    @property
    def context_length(self) -> int:
        """Number of tokens a text may have, start and end marks included."""

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Features of the texts, shape (n, dim), float32, not normalised; warns when a text is too long."""

    def count_tokens(self, text: str) -> int:
        """Number of tokens of the whole text, start and end marks included, before any cut."""


def load_encoder(uri: str | Path, *, device: str = "auto", revision: str | None = None) -> TextEncoder:
    """Load an encoder from its address.

    Args:
        uri: ``embedded`` (ships with the package), a folder in open_clip's format, ``open_clip:MODEL/TAG``
            (a model of open_clip's own list, say ``open_clip:ViT-B-32/laion2b_s34b_b79k``) or
            ``hf:owner/name[@revision]`` (an open_clip model on the Hugging Face hub).
        device: ``auto`` (an accelerator when there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        revision: commit, tag or branch of an ``hf:`` model; the same as ``@revision``.

    Raises:
        EncoderError: nothing there, not open_clip's format, weights that are not safetensors, unknown tag.
    """
    address = str(uri).strip()
    if not address:
        raise EncoderError(
            "the encoder's address is empty; "
            "give 'embedded', a folder, 'open_clip:MODEL/TAG' or 'hf:owner/name'"
        )
    if revision is not None and not address.startswith("hf:"):
        raise EncoderError(
            f"{address}: a revision ({revision!r}) belongs to 'hf:owner/name' alone; leave it out"
        )
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
        return OpenClipEncoder.from_hub(address.removeprefix("hf:"), device=device, revision=revision)
    return OpenClipEncoder.from_folder(Path(address), device=device)
