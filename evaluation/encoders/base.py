"""What an encoder is, and what all of them share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from promptopt.base.errors import PromptoptError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


class EncoderError(PromptoptError, ValueError):
    """An encoder cannot be found, read or trusted; the message names the file and the remedy."""


@runtime_checkable
class Encoder(Protocol):
    """Images to features. The same image gives the same row whatever else is in the call.

    Example:
        >>> from PIL import Image
        >>> from evaluation import load_encoder
        >>> encoder = load_encoder("thumbnail")
        >>> isinstance(encoder, Encoder), encoder.encode_images([Image.new("RGB", (32, 32))]).shape
        (True, (1, 193))
    """

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
    """An encoder whose texts live in the same space as its images (CLIP and its kin).

    Example:
        >>> from evaluation import load_text_encoder
        >>> encoder = load_text_encoder("embedded", device="cpu")
        >>> isinstance(encoder, TextEncoder), encoder.encode_texts(["a polyp"]).shape == (1, encoder.dim)
        (True, True)
    """

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


def feature_key(encoder: Encoder) -> str:
    """What features are kept under: the fingerprint, and what else their rounding depends on.

    The latter is an encoder's `computed_on`, where it has one; "" stands for one thread of a CPU and the
    batches that are usual there.
    """
    on = getattr(encoder, "computed_on", "")
    return f"{encoder.fingerprint} {on}" if on else encoder.fingerprint


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, or an EncoderError that names it."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise EncoderError(f"{path}: not JSON ({error}); write the file again") from error
    if not isinstance(document, dict):
        raise EncoderError(f"{path}: holds a {type(document).__name__}; expected an object")
    return document
