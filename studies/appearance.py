"""How a picture looks, as numbers read off its pixels: what words such as "dim" or "blurred" speak of."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 64
"""Pictures are measured at this side, so that large and small ones compare."""

Pixels = NDArray[np.float64]


def appearance(image: Image.Image) -> dict[str, float]:
    """The value of each of MEASURES for one picture.

    - ``brightness``: mean luma (0 to 1) of what is not black edge
    - ``sharpness``: log of the median absolute Laplacian of the luma
    - ``evenness``: minus the spread (standard deviation) of the luma, blurred to an 8x8 grid
    - ``vividness``: mean of (max - min) / max over the colors
    - ``redness``: minus the median hue, 0 for red and -1 for yellow
    - ``highlights``: share of pixels nearly white, in percent
    - ``black_edge``: share of the picture that is black and touches its border, in percent

    >>> round(appearance(Image.new("RGB", (128, 128), (128, 64, 64)))["vividness"], 2)
    0.5
    """
    rgb = np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64) / 255
    edge = _black_edge(rgb)
    tissue = ~edge if (~edge).sum() > SIDE else np.ones_like(edge)
    return {name: float(measure(rgb, tissue)) for name, measure in MEASURES.items()}


def _luma(rgb: Pixels) -> Pixels:
    return np.asarray(rgb @ np.array([0.299, 0.587, 0.114]))


def _black_edge(rgb: Pixels) -> NDArray[np.bool_]:
    from scipy.ndimage import label

    parts, _ = label(rgb.max(axis=2) < 0.12)
    border = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    return np.asarray(np.isin(parts, border[border > 0]))


def _sharpness(rgb: Pixels, tissue: NDArray[np.bool_]) -> float:
    from scipy.ndimage import binary_erosion, laplace

    inside = binary_erosion(tissue, iterations=2)
    inside = inside if inside.any() else tissue
    return float(np.log(np.median(np.abs(laplace(_luma(rgb))[inside])) + 1e-4))


def _evenness(rgb: Pixels, tissue: NDArray[np.bool_]) -> float:
    luma = np.where(tissue, _luma(rgb), np.nan)
    blocks = luma.reshape(8, SIDE // 8, 8, SIDE // 8).swapaxes(1, 2).reshape(64, -1)
    known = np.isfinite(blocks).mean(axis=1) > 0.5
    return -float(np.nanmean(blocks[known], axis=1).std()) if known.any() else 0.0


def _vividness(rgb: Pixels, tissue: NDArray[np.bool_]) -> float:
    high, low = rgb.max(axis=2)[tissue], rgb.min(axis=2)[tissue]
    return float(((high - low) / (high + 1e-3)).mean())


def _redness(rgb: Pixels, tissue: NDArray[np.bool_]) -> float:
    red, green, blue = (rgb[tissue, channel] for channel in range(3))
    # The hue where red prevails, in sixths of the circle: 0 is red, 1 yellow.
    return -float(np.median((green - blue) / (red - np.minimum(green, blue) + 1e-3)))


MEASURES: dict[str, Callable[[Pixels, NDArray[np.bool_]], float]] = {
    "brightness": lambda rgb, tissue: float(_luma(rgb)[tissue].mean()),
    "sharpness": _sharpness,
    "evenness": _evenness,
    "vividness": _vividness,
    "redness": _redness,
    "highlights": lambda rgb, tissue: 100 * float((rgb.min(axis=2)[tissue] > 0.72).mean()),
    "black_edge": lambda rgb, tissue: 100 * float(1 - tissue.mean()),
}
