"""MakerSpec: all that a maker of images is told before its first request."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class MakerSpec:
    """Which generators a maker loads, how they compute, and where the images go.

    Attributes:
        generators: (address, fingerprint) of each generator; a maker with other weights ends.
        device: kind of device, "cpu" or "cuda".
        dtype, batch_size, compile: as `generators.load` takes them.
        versions: `ImageRequest.versions` of its images: libraries, batch, compiled or not, GPU. A maker with
            others ends.
        chunk: requests handed out at a time.
        threads: of the CPU, since rounding depends on their number.
        store: address of the image store, as the maker sees it.
        folder: from which relative addresses are meant; "" for the maker's own.
        encoders: addresses of the encoders whose features come back with each image.
        features: "module:function" that opens encoders: (addresses, device) -> (paths -> address -> rows).
    """

    generators: tuple[tuple[str, str], ...]
    device: str
    dtype: str = "auto"
    batch_size: int | None = None
    compile: Literal["auto", "on", "off"] = "auto"
    versions: str = ""
    chunk: int = 8
    threads: int = 1
    store: str
    folder: str = ""
    encoders: tuple[str, ...] = ()
    features: str = ""

    def to_json(self) -> str:
        """As one line of text, for a maker elsewhere."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> MakerSpec:
        """Inverse of `to_json`."""
        values = json.loads(text)
        pairs = tuple((uri, fingerprint) for uri, fingerprint in values.pop("generators"))
        return cls(generators=pairs, encoders=tuple(values.pop("encoders")), **values)
