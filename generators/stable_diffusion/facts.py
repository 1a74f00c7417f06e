"""What requests say of the runtime that makes their images, be it of another machine. No torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RuntimeFacts:
    """What of a runtime can change a pixel.

    Attributes:
        device: kind of device, "cpu" or "cuda".
        dtype: "float32", "float16" or "bfloat16".
        batch_size: images a forward pass.
        compiled: whether the networks go through torch.compile.
        versions: as `ImageRequest.versions`.
    """

    device: str
    dtype: str
    batch_size: int
    compiled: bool
    versions: str


def parts(versions: str) -> dict[str, str]:
    """Name -> value of `ImageRequest.versions`.

    Example:
        >>> parts("torch=2.9;batch=8")
        {'torch': '2.9', 'batch': '8'}
    """
    return dict(part.partition("=")[::2] for part in versions.split(";"))
