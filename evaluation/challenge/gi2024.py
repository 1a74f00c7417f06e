"""The 2024 scorer (image synthesis): a Fréchet distance and an Inception score, both on 1000-way softmax.

Reimplemented from a description of the organizers' `evaluate_task_1.py`. What it computes under the name of
FID is none: see `FRECHET_FAULTS`. ``corrected=True`` mends what can be mended at each step.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.arrays import check_features, check_pair
from evaluation.challenge._moments import spread_distance
from evaluation.challenge.score import Card, ChallengeError, ChallengeScore
from promptopt.base.errors import ArgumentError
from promptopt.base.images import load_image, read_image

if TYPE_CHECKING:
    from PIL import Image

    from evaluation.challenge.keras_inception import KerasInception

SIDE = 299
SUFFIXES = ("png", "jpg", "jpeg")

EDITION = "MEDVQA-GI 2024"
RESIZE_FAULT = "np.resize refills a flat buffer: the first 299 x 299 x 3 values wrapped anew, not a resize"
FRECHET_FAULTS = (
    "features are Keras's 1000-way softmax, not Inception's 2048 pooled features: at most 2, and no FID",
    RESIZE_FAULT,
    "means in float32",
    "the trace of the matrix root is exact; the script's sqrtm agrees to rounding where it is sound",
)
SCORE_FAULTS = (
    RESIZE_FAULT,
    "contiguous splits of floor(n / splits) images in the order of the folder's listing, the tail dropped",
    "1e-16 added inside the logarithms, float32 throughout",
    "generated images alone: nothing is compared with real ones",
)
_EPS = 1e-16


@dataclass(frozen=True)
class Gi2024Frechet(ChallengeScore):
    """The 2024 "FID": not a FID.

    Attributes:
        value: from 0 to 2 on the softmax (rows on a simplex); None with fewer than two images in a set.
        n_real, n_generated: numbers of images.
    """

    NUMBERS: ClassVar[tuple[str, ...]] = ("value",)

    value: float | None
    n_real: int
    n_generated: int


@dataclass(frozen=True)
class Gi2024InceptionScore(ChallengeScore):
    """The 2024 Inception score.

    Attributes:
        average, std, median: over the groups; std with the number of groups in the denominator.
        groups: the score of each group, from 1 to the number of classes; empty when undefined.
        n: number of generated images, those of the dropped tail included.
    """

    NUMBERS: ClassVar[tuple[str, ...]] = ("average", "std", "median")

    average: float | None
    std: float | None
    median: float | None
    groups: tuple[float, ...]
    n: int


@dataclass(frozen=True)
class Gi2024Scores:
    """Both scores of two folders, and what they were computed from.

    Attributes:
        real, generated: the files, in the order used.
        weights: sha256 of the weights file.
        published_weights: whether it is the file that Keras itself downloads, as the script does.
    """

    frechet: Gi2024Frechet
    inception_score: Gi2024InceptionScore
    real: tuple[Path, ...]
    generated: tuple[Path, ...]
    weights: str
    published_weights: bool


def preprocess(image: ArrayLike | Image.Image, *, corrected: bool = False) -> NDArray[np.float32]:
    """An image as the network gets it, shape (299, 299, 3), float32.

    Faithful: the pixels as they come from the file, whatever their channels, flattened and cut or repeated
    to 299 x 299 x 3 values (`np.resize`), then ``x / 127.5 - 1``. A 512 x 512 image contributes its top
    34 %; of a gray one, three neighboring pixels become one colored pixel. Corrected: RGB, and Pillow's
    bicubic resize, which smooths before it shrinks.

    Args:
        image: 0 to 255, shape (height, width) or (height, width, channels), or a Pillow image. Corrected
            takes 1, 3 or 4 channels of uint8.

    Returns:
        values from -1 to 1 for 8-bit images.

    Raises:
        ChallengeError: no pixels, or (corrected) an array that is no 8-bit image.
    """
    from PIL import Image

    if corrected:
        picture = image if isinstance(image, Image.Image) else _as_picture(np.asarray(image))
        small = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        return np.asarray(small, dtype=np.float32) / np.float32(127.5) - np.float32(1)
    pixels = _raw(image) if isinstance(image, Image.Image) else np.asarray(image)
    if pixels.size == 0 or not np.issubdtype(pixels.dtype, np.number):
        raise ChallengeError(f"image has shape {pixels.shape}, {pixels.dtype}; expected pixels from 0 to 255")
    refilled = np.resize(pixels, (SIDE, SIDE, 3)).astype(np.float32)
    return refilled / np.float32(127.5) - np.float32(1)


def frechet(
    softmax_real: ArrayLike, softmax_generated: ArrayLike, *, corrected: bool = False
) -> Gi2024Frechet:
    """The 2024 "FID" of two matrices of softmax rows.

    ``|m_r - m_g|^2`` with means in float32, plus ``tr(S_r + S_g - 2 (S_r S_g)^(1/2))`` with `np.cov`'s
    covariances in float64; no epsilon. The trace of the root is taken from singular values: the same as
    SciPy's `sqrtm` where that is sound, and finite where it is not. Negative rounding is cut to 0.

    Args:
        softmax_real: shape (n, classes), rows that sum to 1.
        softmax_generated: shape (m, classes).
        corrected: means in float64 too; takes pooled features (any finite matrix) as well, which is what
            `score_folders` gives it.

    Raises:
        ValueError: shapes that do not fit, a NaN or infinity, or (faithful) rows that are no softmax.
    """
    names = ("softmax_real", "softmax_generated")
    real, generated = check_pair(softmax_real, softmax_generated, names=names)
    simplex = [_off_simplex(x) for x in (real, generated)]
    if not corrected:
        for rows, name, wrong in zip((real, generated), names, simplex, strict=True):
            _refuse(rows, name, wrong)
    deviations: tuple[str, ...] = FRECHET_FAULTS
    if corrected:
        on = "features as given, not a softmax" if any(len(w) for w in simplex) else "features are a softmax"
        deviations = (f"{on}; not the network of the FID", "the bias of few images is not removed")
    card = Card(EDITION, "Fréchet distance (the script's 'FID')", corrected, deviations)
    n, m = len(real), len(generated)
    if min(n, m) < 2:
        reason = f"{n} real and {m} generated images, and a covariance needs two; the script gives NaN"
        return Gi2024Frechet(card, reason, None, n, m)
    if corrected:
        shift = float(np.sum((real.mean(axis=0) - generated.mean(axis=0)) ** 2))
    else:
        # what the network gives is float32, and so are the script's means; its covariances are not
        single = [x.astype(np.float32) for x in (real, generated)]
        shift = float(np.sum((single[0].mean(axis=0) - single[1].mean(axis=0)) ** 2))
        real, generated = (x.astype(np.float64) for x in single)
    return Gi2024Frechet(card, "", max(shift + spread_distance(real, generated), 0.0), n, m)


def inception_score(
    softmax: ArrayLike, *, splits: int = 10, corrected: bool = False, seed: int = 0
) -> Gi2024InceptionScore:
    """The 2024 Inception score of softmax rows in the order of the folder's listing.

    Groups of ``floor(n / splits)`` consecutive images; each scores exp of the mean of
    ``sum p (log(p + 1e-16) - log(mean p + 1e-16))``, in float32. With fewer images than splits every group is
    empty: undefined here, NaN in the script. Up to ``2 splits - 1`` images every group holds one image and
    scores exactly 1, whatever it shows.

    Args:
        softmax: shape (n, classes), rows that sum to 1, in the order the script would list the files.
        splits: number of groups; the script's is 10.
        corrected: shuffled by `seed`, no image dropped, no epsilon (0 log 0 is 0), float64. It is still too
            low for few images a group.

    Raises:
        ValueError: rows that are no softmax, or fewer than one split.
    """
    if splits < 1:
        raise ArgumentError(f"splits is {splits}; expected 1 or more (the script has 10)")
    rows = check_features(softmax, "softmax")
    _refuse(rows, "softmax", _off_simplex(rows))
    deviations: tuple[str, ...] = SCORE_FAULTS
    if corrected:
        deviations = (f"shuffled by seed {seed}", "few images a group still make it too low")
    card = Card(EDITION, f"Inception score, {splits} groups", corrected, deviations)
    n = len(rows)
    if n < splits:
        reason = f"{n} images for {splits} groups leave them empty; the script gives NaN"
        return Gi2024InceptionScore(card, reason, None, None, None, (), n)
    if corrected:
        order = np.random.default_rng(seed).permutation(n)
        groups = np.array([_plain_score(rows[part]) for part in np.array_split(order, splits)])
    else:
        single = np.asarray(softmax, dtype=np.float32)
        size = n // splits
        parts = (single[i * size : (i + 1) * size] for i in range(splits))
        groups = np.array([_script_score(part) for part in parts], dtype=np.float32)
    return Gi2024InceptionScore(
        card,
        "",
        float(groups.mean()),
        float(groups.std()),
        float(np.median(groups)),
        tuple(float(group) for group in groups),
        n,
    )


def list_images(
    folder: str | Path, *, order: Literal["sorted", "listing"] = "sorted", corrected: bool = False
) -> list[Path]:
    """The images of a folder as the script would find them.

    Not recursive. Faithful: names that end in ``png``, ``jpg`` or ``jpeg``, dot or no dot, small letters only
    (``x.PNG`` is left out, ``notajpg`` taken). Corrected: files with these suffixes, dot included, in any
    case.

    Args:
        order: ``sorted`` by name, the same everywhere. ``listing``: as the file system lists them, which is
            the script's order; the groups of its Inception score depend on it and differ from disk to disk.

    Raises:
        ChallengeError: no such folder, or no image in it.
    """
    root = Path(folder)
    if order not in ("sorted", "listing"):
        raise ChallengeError(f"order is {order!r}; expected 'sorted' or 'listing'")
    try:
        names = os.listdir(root)  # noqa: PTH208 - the script's own call, whose order 'listing' promises
    except OSError as error:
        raise ChallengeError(
            f"{root}: cannot be listed ({error.strerror}); give a folder of images"
        ) from error
    if corrected:
        kept = [x for x in names if Path(x).suffix.lower()[1:] in SUFFIXES and (root / x).is_file()]
    else:
        kept = [x for x in names if x.endswith(SUFFIXES)]
    if not kept:
        raise ChallengeError(
            f"{root}: no name ends in {', '.join(SUFFIXES)} (small letters, no folders below); "
            f"{len(names)} other entries there"
        )
    return [root / name for name in (sorted(kept) if order == "sorted" else kept)]


def score_folders(
    real: str | Path,
    generated: str | Path,
    *,
    weights: str | Path | KerasInception,
    corrected: bool = False,
    order: Literal["sorted", "listing"] = "sorted",
    splits: int = 10,
    batch_size: int = 32,
    device: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> Gi2024Scores:
    """Score two folders as the script does, with Keras's InceptionV3 run by torch.

    Args:
        real, generated: folders, listed by `list_images`.
        weights: Keras's ``inception_v3_weights_tf_dim_ordering_tf_kernels.h5``, or a network that
            `keras_inception.load_keras_inception` made of it.
        corrected: images are resized, the Fréchet distance is taken on the 2048 pooled features in float64,
            the Inception score as in `inception_score` corrected.
        order: of the files; only the Inception score depends on it.
        on_progress: called with the number of images done and their total.

    Raises:
        ChallengeError: a folder or an image that cannot be read, or weights that are not Keras's.
    """
    from evaluation.challenge.keras_inception import KerasInception, load_keras_inception

    if batch_size < 1:
        raise ChallengeError(f"batch_size is {batch_size}; expected 1 or more")
    sets = [tuple(list_images(folder, order=order, corrected=corrected)) for folder in (real, generated)]
    net = weights if isinstance(weights, KerasInception) else load_keras_inception(weights, device=device)
    total, done = sum(len(files) for files in sets), 0
    pooled: list[NDArray[np.float32]] = []
    softmax: list[NDArray[np.float32]] = []
    for files in sets:
        parts = []
        for start in range(0, len(files), batch_size):
            batch = files[start : start + batch_size]
            parts.append(net(np.stack([_read(path, corrected=corrected) for path in batch])))
            done += len(batch)
            if on_progress is not None:
                on_progress(done, total)
        pooled.append(np.concatenate([part.pooled for part in parts]))
        softmax.append(np.concatenate([part.softmax for part in parts]))
    features = pooled if corrected else softmax
    return Gi2024Scores(
        frechet(features[0], features[1], corrected=corrected),
        inception_score(softmax[1], splits=splits, corrected=corrected),
        sets[0],
        sets[1],
        net.fingerprint,
        net.published,
    )


def _read(path: Path, *, corrected: bool) -> NDArray[np.float32]:
    # the script neither turns a picture nor scales its values
    read = read_image if corrected else load_image
    return preprocess(read(path, error=ChallengeError), corrected=corrected)


def _raw(image: Image.Image) -> NDArray[Any]:
    """The pixels with the channels of the file, as a reader without conversion gives them."""
    if image.mode == "P":  # colors by index: every reader looks them up
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    return np.asarray(image)


def _as_picture(pixels: NDArray[Any]) -> Image.Image:
    from PIL import Image

    flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    fits = flat.ndim == 2 or (flat.ndim == 3 and flat.shape[2] in (3, 4))
    if flat.dtype != np.uint8 or not fits or flat.size == 0:
        raise ChallengeError(
            f"image has shape {pixels.shape}, {pixels.dtype}; expected uint8, (height, width[, 1, 3 or 4])"
        )
    return Image.fromarray(flat)


def _off_simplex(rows: NDArray[np.float64]) -> NDArray[np.intp]:
    return np.flatnonzero((rows < 0).any(axis=1) | (np.abs(rows.sum(axis=1) - 1) > 1e-3))


def _refuse(rows: NDArray[np.float64], name: str, wrong: Sequence[int] | NDArray[np.intp]) -> None:
    if len(wrong):
        raise ChallengeError(
            f"{name}: row {wrong[0]} sums to {rows[wrong[0]].sum():.6g}, "
            f"its least entry is {rows[wrong[0]].min():.6g}; "
            "expected a softmax (entries from 0 on that sum to 1)"
        )


def _script_score(p: NDArray[np.float32]) -> float:
    mean = p.mean(axis=0, keepdims=True)
    divergence = (p * (np.log(p + np.float32(_EPS)) - np.log(mean + np.float32(_EPS)))).sum(axis=1)
    return float(np.exp(divergence.mean()))


def _plain_score(p: NDArray[np.float64]) -> float:
    from scipy.special import rel_entr

    p = p / p.sum(axis=1, keepdims=True)
    return float(np.exp(rel_entr(p, p.mean(axis=0, keepdims=True)).sum(axis=1).mean()))
