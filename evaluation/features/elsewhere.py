"""Features where the images are made, by the name that whoever makes them is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.encoders.base import Encoder
from evaluation.encoders.load import load_encoder
from evaluation.features.feature_store import encode_pictures, pictures

OPENER = "evaluation.features.elsewhere:open_encoders"
"""`open_encoders` as "module:function"."""


def open_encoders(
    addresses: Sequence[str], device: str, *, known: Mapping[str, Encoder] | None = None
) -> Callable[[Sequence[Path]], Mapping[str, NDArray[np.float32]]]:
    """Encoders as one function: image files to address -> features (n, dim), as a `FeatureStore` has them.

    Args:
        addresses: as `load_encoder` takes them.
        device: as `load_encoder` takes it.
        known: encoders by address that are not loaded.

    Raises:
        EncoderError: as `load_encoder`.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> file = Path(tempfile.mkdtemp()) / "red.png"
        >>> Image.new("RGB", (8, 8), "red").save(file)
        >>> open_encoders(["thumbnail"], "cpu")([file])["thumbnail"].shape
        (1, 193)
    """
    encoders = {
        address: (known or {}).get(address) or load_encoder(address, device=device) for address in addresses
    }

    def encode(paths: Sequence[Path]) -> Mapping[str, NDArray[np.float32]]:
        images = pictures(paths)
        return {address: encode_pictures(encoder, images, paths) for address, encoder in encoders.items()}

    return encode
