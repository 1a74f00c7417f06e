"""Keys and values of cross-attention, computed once a prompt and not once a step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_LAYERS = ("attn2.to_k", "attn2.to_v")  # of diffusers' transformer blocks, the ones that read the text


class _Once:
    """A layer's forward that is computed anew only for another input tensor."""

    def __init__(self, layer: torch.nn.Module) -> None:
        self._layer = layer
        self._source: torch.Tensor | None = None
        self._made: Any = None

    def __call__(self, text: torch.Tensor) -> Any:
        if text is not self._source:
            self._source, self._made = text, type(self._layer).forward(self._layer, text)
        return self._made


@contextmanager
def text_once(unet: torch.nn.Module) -> Iterator[None]:
    """Within, the UNet's layers that read the text alone run once a tensor of embeddings: the same numbers.

    Not for a compiled UNet, whose graph would be captured anew with what is remembered.
    """
    layers = [module for name, module in unet.named_modules() if name.endswith(_LAYERS)]
    for layer in layers:
        layer.forward = _Once(layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward
