"""The 2025 scorer (subtask 2): fidelity, agreement, diversity and FBD from features of BiomedCLIP.

Reimplemented from a description of the organizers' `submission_task2.py`. The features are the CLS token of
the last hidden state of ``ikim-uk-essen/BiomedCLIP_ViT_patch16_224``; which encoder they come from is the
caller's affair, and only scores of that one compare with published ones.
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.arrays import check_pair
from evaluation.challenge._moments import spread_distance
from evaluation.challenge.score import Card, ChallengeError, ChallengeScore

EDITION = "MEDVQA-GI 2025, subtask 2"
METRIC = "fidelity, agreement, diversity, FBD"
FAULTS = (
    "only the pairs that begin in the first half of the prompts are scored, in FBD too",
    "the Fréchet distance of a prompt rests on its 10 images: rank-deficient and biased upwards",
    "features are not normalized for the Fréchet distances: fidelity depends on their scale",
    "a pair's real images are those of its first prompt; in FBD an image counts once for each pair it serves",
    "the trace of the matrix root is exact; the script's sqrtm of a singular product adds rounding",
)
MENDED = (
    "all pairs; each prompt against its own real images; every real image once in FBD",
    "features scaled to length 1 everywhere: not on the scale of published fidelity and FBD",
    "the bias of a Fréchet distance from few images remains",
)

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Gi2025Scores(ChallengeScore):
    """The four numbers of the 2025 script.

    Attributes:
        fidelity: mean over pairs of ``1000 / (1 + mean FD of the two prompts to their real images)``; 0 to
            1000, higher is better.
        agreement: mean over pairs of the mean cosine between an image of one and of the other; -1 to 1.
        diversity: mean over prompts of the mean Euclidean distance between two of its images, features
            scaled to length 1; 0 to 2.
        fbd: Fréchet distance between generated and real features; 0 or more, lower is better.
        pairs: number of prompt pairs scored, of `prompts` // 2.
        prompts: number of prompts.
    """

    NUMBERS: ClassVar[tuple[str, ...]] = ("fidelity", "agreement", "diversity", "fbd")

    fidelity: float | None
    agreement: float | None
    diversity: float | None
    fbd: float | None
    pairs: int
    prompts: int

    def public(self) -> dict[str, float | None]:
        """The numbers as the script publishes them: its names, two decimals."""
        values = {name.upper() if name == "fbd" else name: getattr(self, name) for name in self.NUMBERS}
        return {name: None if value is None else round(value, 2) for name, value in values.items()}


def scores(
    generated: ArrayLike,
    real: ArrayLike,
    real_mapping: Mapping[int | str, Iterable[Hashable]] | Sequence[Iterable[Hashable]],
    *,
    real_ids: Sequence[Hashable] | None = None,
    images_per_prompt: int = 10,
    corrected: bool = False,
) -> Gi2025Scores:
    """Score generated images against the real ones that their prompts describe.

    Prompts 1 and 2 are two wordings of one reality, so are 3 and 4, and so on. Faithful: pairs start at
    positions ``range(0, prompts // 2, 2)``, so about half of them are left out. Corrected: see `MENDED`.

    Args:
        generated: features, shape (prompts * images_per_prompt, d), all images of prompt 1, then of prompt 2.
        real: features, shape (m, d).
        real_mapping: which real images belong to each prompt. A mapping from the prompt's number, counted
            from 1 as in the file names and as int or text (the organizers' JSON), or a sequence in prompt
            order. The images are rows of `real`, counted from 0, or entries of `real_ids`.
        real_ids: name of each row of `real` (``img_id`` in the organizers' data).
        images_per_prompt: 10 in the script.

    Returns:
        None for a number that the script would make NaN, with the reason in `undefined`.

    Raises:
        ChallengeError: not ``prompts * images_per_prompt`` images (the script's own check), a prompt or a
            real image that is missing, or (corrected) an odd number of prompts.
        ValueError: shapes that do not fit, a NaN or an infinity.
    """
    rows, targets = check_pair(generated, real, names=("generated", "real"))
    if images_per_prompt < 1:
        raise ChallengeError(f"images_per_prompt is {images_per_prompt}; expected 1 or more (the script: 10)")
    belonging = _belonging(real_mapping, real_ids, len(targets))
    prompts = len(belonging)
    if len(rows) != prompts * images_per_prompt:
        raise ChallengeError(
            f"generated has {len(rows)} images; {prompts} prompts in real_mapping with {images_per_prompt} "
            f"images each make {prompts * images_per_prompt}"
        )
    if corrected and prompts % 2:
        raise ChallengeError(f"{prompts} prompts make no pairs; two wordings of each reality are expected")
    card = Card(EDITION, METRIC, corrected, MENDED if corrected else FAULTS)
    starts = range(0, prompts if corrected else prompts // 2, 2)
    if not starts:
        reason = f"{prompts} prompts leave no pair to score; the script gives NaN"
        return Gi2025Scores(card, reason, None, None, None, None, 0, prompts)
    sets = rows.reshape(prompts, images_per_prompt, -1)
    if corrected:
        sets, targets = _unit(sets), _unit(targets)

    fidelities: list[float | None] = []
    agreements, diversities = [], []
    for a in starts:
        of_a, of_b = targets[belonging[a]], targets[belonging[a + 1 if corrected else a]]
        apart = [_distance(sets[a], of_a), _distance(sets[a + 1], of_b)]
        known = [d for d in apart if d is not None]
        fidelities.append(1000 / (1 + sum(known) / 2) if len(known) == 2 else None)
        units = _unit(sets[a]), _unit(sets[a + 1])
        agreements.append(float((units[0] @ units[1].T).mean()))
        diversities += [_spread(unit) for unit in units]
    used = np.concatenate([np.arange(a, a + 2) for a in starts])
    serving = [belonging[i] for i in (used if corrected else used[::2])]
    pool = np.concatenate(serving)
    fbd = _distance(sets[used].reshape(-1, rows.shape[1]), targets[np.unique(pool) if corrected else pool])
    return _result(card, fidelities, agreements, diversities, fbd, corrected=corrected, prompts=prompts)


def list_images(folder: str | Path, *, prompts: int, images_per_prompt: int = 10) -> list[Path]:
    """The generated images in the order that `scores` expects their features in.

    Raises:
        ChallengeError: not ``prompts * images_per_prompt`` files that end in ``.png`` (the script's check),
            or one of ``prompt0001_img0001.png`` … is missing, both numbers counted from 1.
    """
    root = Path(folder)
    try:
        present = {name for name in os.listdir(root) if name.endswith(".png")}  # noqa: PTH208 - names alone
    except OSError as error:
        raise ChallengeError(f"{root}: cannot be listed ({error.strerror}); give the image folder") from error
    expected = [
        f"prompt{prompt:04d}_img{image:04d}.png"
        for prompt in range(1, prompts + 1)
        for image in range(1, images_per_prompt + 1)
    ]
    if len(present) != len(expected):
        raise ChallengeError(
            f"{root}: {len(present)} .png files; {prompts} prompts with {images_per_prompt} images each make "
            f"{len(expected)}"
        )
    missing = [name for name in expected if name not in present]
    if missing:
        raise ChallengeError(
            f"{root}: {missing[0]} is missing ({len(missing)} of {len(expected)} are); "
            f"found instead: {sorted(present - set(expected))[0]}"
        )
    return [root / name for name in expected]


def _belonging(
    real_mapping: Mapping[int | str, Iterable[Hashable]] | Sequence[Iterable[Hashable]],
    real_ids: Sequence[Hashable] | None,
    count: int,
) -> list[NDArray[np.intp]]:
    """Rows of the real features for each prompt, in prompt order."""
    if isinstance(real_mapping, Mapping):
        numbered: dict[int, Iterable[Hashable]] = {}
        for key, value in real_mapping.items():
            if not re.fullmatch(r"\d+", str(key)) or int(key) in numbered:
                raise ChallengeError(f"real_mapping: key {key!r} is no prompt number, or occurs twice")
            numbered[int(key)] = value
        missing = sorted(set(range(1, len(numbered) + 1)) - set(numbered))
        if missing:
            raise ChallengeError(
                f"real_mapping: prompt {missing[0]} is missing (keys run from {min(numbered)} to "
                f"{max(numbered)}); prompts are counted from 1"
            )
        listed = [numbered[number] for number in range(1, len(numbered) + 1)]
    else:
        listed = list(real_mapping)
    known: Mapping[Hashable, int] = {row: row for row in range(count)}
    if real_ids is not None:
        if len(real_ids) != count or len(set(real_ids)) != count:
            raise ChallengeError(
                f"real_ids has {len(real_ids)} names for {count} rows of real; one each, no two same"
            )
        known = {name: row for row, name in enumerate(real_ids)}
    found = []
    for number, images in enumerate(listed, start=1):
        images = list(images)
        lost = [image for image in images if image not in known]
        if lost:
            where = "real_ids" if real_ids is not None else f"the rows of real, 0 to {count - 1}"
            raise ChallengeError(f"real_mapping: prompt {number} names {lost[0]!r}, which is not in {where}")
        found.append(np.array([known[image] for image in images], dtype=np.intp))
    return found


def _unit(x: Matrix) -> Matrix:
    """Rows of length 1; one of zeros stays as it is, as in the script."""
    lengths = np.linalg.norm(x, axis=-1, keepdims=True)
    return np.asarray(x / np.where(lengths == 0, 1.0, lengths), dtype=np.float64)


def _distance(a: Matrix, b: Matrix) -> float | None:
    if min(len(a), len(b)) < 2:
        return None
    return float(np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2)) + spread_distance(a, b)


def _spread(unit: Matrix) -> float | None:
    from scipy.spatial.distance import pdist

    return float(pdist(unit).mean()) if len(unit) > 1 else None


def _result(
    card: Card,
    fidelities: Sequence[float | None],
    agreements: Sequence[float],
    diversities: Sequence[float | None],
    fbd: float | None,
    *,
    corrected: bool,
    prompts: int,
) -> Gi2025Scores:
    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        # one NaN makes the script's mean a NaN; mended, what has a value is averaged
        whole = len(known) == len(values) or (corrected and known)
        return float(np.mean(known)) if whole else None

    reasons = []
    short = sum(value is None for value in fidelities)
    if short:
        reasons.append(f"{short} of {len(fidelities)} pairs have fewer than two images on a side of the FD")
    if None in diversities:
        reasons.append("one image a prompt has no diversity")
    if fbd is None:
        reasons.append("FBD needs two generated and two real images")
    numbers = mean(fidelities), float(np.mean(agreements)), mean(diversities), fbd
    return Gi2025Scores(card, "; ".join(reasons), *numbers, len(agreements), prompts)
