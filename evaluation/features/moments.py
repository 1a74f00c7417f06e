"""Mean and scatter of a set of features: all that the Fréchet distance needs of it, and small to keep."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.arrays import check_features
from promptopt.base.errors import ArgumentError, PromptoptError
from promptopt.base.files import write_bytes

Matrix = NDArray[np.float64]

BLOCK = 4096
"""Rows of a block that are centered at a time."""

_FORMAT = "promptopt-feature-statistics"
_VERSIONS = ("1", "2")
"""2: a file with the covariance's factor in place of the scatter."""


class StatisticsError(PromptoptError, ValueError):
    """Statistics cannot be read, saved or compared; the message names the file or field and the remedy."""


@dataclass(frozen=True)
class StatisticsManifest:
    """Where statistics come from.

    Attributes:
        encoder: the encoder's fingerprint; None when the caller did not say.
        preprocessing: what happened to the images before it (resize, crop), in words; None when not said.
        n: number of images.
        data: hex digest of the features: the sum modulo 2^256 of the sha256 of every row (float64, little
            endian). The same for the same rows in any order, in any blocks, streamed or merged.

    Example:
        >>> first = StatisticsManifest("a" * 64, "resized to 64", 20, "f" * 64)
        >>> first.check_comparable(StatisticsManifest("a" * 64, None, 30, "e" * 64))
    """

    encoder: str | None
    preprocessing: str | None
    n: int
    data: str

    def check_comparable(self, other: StatisticsManifest) -> None:
        """Refuse another encoder or another preprocessing; what one side did not state is not compared.

        Raises:
            StatisticsError: naming the field and both values.
        """
        for name in ("encoder", "preprocessing"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine is not None and theirs is not None and mine != theirs:
                raise StatisticsError(
                    f"statistics of different {name}: {mine!r} and {theirs!r}; features are comparable only "
                    f"when both sets went through the same {name}, so compute one of them again"
                )


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Count, mean and scatter of features in float64; values that can be merged (``+``), saved and compared.

    Up to d + 1 images the scatter is kept as n - 1 rows with ``rows.T @ rows == scatter`` (Helmert contrasts:
    exact, and the Fréchet distance stays low-rank); beyond, as a d x d matrix.

    Attributes:
        manifest: encoder, preprocessing, n and digest of the data.
        mean: shape (d,).
        contrasts: shape (n - 1, d), or None.
        dense_scatter: shape (d, d), or None.
        factor: the `covariance_factor` as it was saved, or None; one of the three is there.

    Example:
        >>> import numpy as np
        >>> features = np.random.default_rng(0).normal(size=(20, 3))
        >>> whole = FeatureStatistics.of(features)
        >>> parts = FeatureStatistics.of_stream([features[:5], features[5:]])
        >>> whole.manifest.n, bool(np.allclose(whole.mean, parts.mean))
        (20, True)
    """

    manifest: StatisticsManifest
    mean: Matrix
    contrasts: Matrix | None
    dense_scatter: Matrix | None
    factor: Matrix | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls, features: ArrayLike, *, encoder: str | None = None, preprocessing: str | None = None
    ) -> FeatureStatistics:
        """Statistics of features in memory, shape (n, d), n >= 1; arguments and errors as `of_stream`."""
        return cls.of_stream([features], encoder=encoder, preprocessing=preprocessing)

    @classmethod
    def of_stream(
        cls, blocks: Iterable[ArrayLike], *, encoder: str | None = None, preprocessing: str | None = None
    ) -> FeatureStatistics:
        """Statistics of blocks of features, each of shape (n_i, d), looked at once.

        Memory: about d^2 numbers and a few blocks, however many images there are (Chan, Golub and LeVeque
        1979).

        Args:
            blocks: any iterable; empty blocks are allowed.
            encoder: fingerprint of the encoder, needed for `save`.
            preprocessing: what happened to the images before it, needed for `save`.

        Raises:
            ValueError: no row at all, blocks of different widths, or a feature that is not finite.
        """
        sums: _Sums | None = None
        for position, block in enumerate(blocks):
            rows = check_features(block, f"block {position}")
            if sums is None:
                sums = _Sums(rows.shape[1])
            elif rows.shape[1] != len(sums.mean):
                raise ArgumentError(
                    f"block {position} has {rows.shape[1]} features an image, those before it "
                    f"{len(sums.mean)}; all blocks must come from the same encoder"
                )
            for start in range(0, len(rows), BLOCK):
                sums.add(rows[start : start + BLOCK])
        if sums is None or sums.count == 0:
            raise ArgumentError("no features at all; statistics need one image or more")
        return sums.finish(encoder, preprocessing)

    @property
    def count(self) -> int:
        """Number of images."""
        return self.manifest.n

    @property
    def dim(self) -> int:
        """Number of features an image."""
        return len(self.mean)

    @property
    def scatter(self) -> Matrix:
        """Sum of the outer products of the centered rows, shape (d, d)."""
        if self.dense_scatter is not None:
            return self.dense_scatter
        if self.factor is not None:
            return (self.factor.T @ self.factor) * max(self.count - 1, 1)
        assert self.contrasts is not None  # the class's invariant
        return self.contrasts.T @ self.contrasts

    @property
    def covariance(self) -> Matrix:
        """Scatter over n - 1, shape (d, d); zeros for a single image."""
        return self.scatter / max(self.count - 1, 1)

    @cached_property
    def covariance_factor(self) -> Matrix:
        """Rows F, at most d of them, with ``F.T @ F`` the covariance.

        For more than d images a Cholesky factor, pivoted where the scatter lacks full rank; computed when
        first asked for and then kept, and saved with the statistics.
        """
        if self.factor is not None:
            return self.factor
        scale = 1 / np.sqrt(max(self.count - 1, 1))
        if self.contrasts is not None:
            return self.contrasts * scale
        assert self.dense_scatter is not None  # the class's invariant
        return _cholesky(self.dense_scatter) * scale

    def __add__(self, other: FeatureStatistics) -> FeatureStatistics:
        return self.merge(other)

    def merge(self, other: FeatureStatistics) -> FeatureStatistics:
        """Statistics of both sets together, as if their rows had been streamed one after the other.

        Raises:
            StatisticsError: another encoder, preprocessing or width.
        """
        check_same_space(self, other)
        sums = _Sums(self.dim)
        for part in (self, other):
            sums.merge(part)
        mine, theirs = self.manifest, other.manifest
        return sums.finish(mine.encoder or theirs.encoder, mine.preprocessing or theirs.preprocessing)

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file with the manifest as JSON in its header; returns its path.

        For more than d images the covariance's factor goes in, not the scatter (which follows from it), so
        that whoever loads the file need not compute it; the file's manifest says so.

        Raises:
            StatisticsError: no encoder or no preprocessing named, or a place that cannot be written.
        """
        from safetensors.numpy import save

        path = Path(path)
        for name in ("encoder", "preprocessing"):
            if getattr(self.manifest, name) is None:
                raise StatisticsError(
                    f"{path}: these statistics name no {name}, so nobody could tell later what they may be "
                    f"compared with; give {name}=... when they are computed"
                )
        tensors = {"mean": self.mean}
        facts = asdict(self.manifest)
        if self.contrasts is not None:
            tensors["contrasts"] = np.ascontiguousarray(self.contrasts)
        else:
            tensors["factor"] = np.ascontiguousarray(self.covariance_factor)
            facts["factor"] = f"Cholesky, F^T F is the covariance, rank {len(tensors['factor'])}"
        manifest = json.dumps(facts)
        header = {
            "format": _FORMAT,
            "version": "2" if "factor" in tensors else "1",
            "manifest": manifest,
            "checksum": _checksum(tensors, manifest),
        }
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, save(tensors, metadata=header))
        except OSError as error:
            raise StatisticsError(f"{path}: cannot be written ({error}); give a writable place") from error
        return path

    @classmethod
    def load(cls, path: str | Path) -> FeatureStatistics:
        """Read what `save` wrote.

        Raises:
            StatisticsError: no such file, another format or version, or damaged content.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(path)
        if not path.is_file():
            raise StatisticsError(f"{path}: no such file; FeatureStatistics.save writes one")
        try:
            with safe_open(path, framework="np") as file:
                header = file.metadata() or {}
                tensors: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise StatisticsError(f"{path}: not a readable safetensors file ({error})") from error
        if header.get("format") != _FORMAT or header.get("version") not in _VERSIONS:
            raise StatisticsError(
                f"{path}: format {header.get('format')!r}, version {header.get('version')!r}; expected "
                f"{_FORMAT!r}, {' or '.join(_VERSIONS)}: compute the statistics again"
            )
        damaged = StatisticsError(f"{path}: its content does not fit its header; compute it again")
        try:
            facts = json.loads(header["manifest"])
            facts.pop("factor", None)  # how it was made, in words
            manifest = StatisticsManifest(**facts)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise damaged from error
        if header.get("checksum") != _checksum(tensors, header["manifest"]):
            raise damaged
        if set(tensors) not in ({"mean", "contrasts"}, {"mean", "scatter"}, {"mean", "factor"}):
            raise damaged
        scatter = tensors.get("scatter")
        # dpstrf and dsyrk take Fortran order without a copy; the matrix is symmetric
        dense = None if scatter is None else scatter.T
        return cls(manifest, tensors["mean"], tensors.get("contrasts"), dense, tensors.get("factor"))


def check_same_space(a: FeatureStatistics, b: FeatureStatistics) -> None:
    """Refuse statistics that come from different encoders, preprocessings or widths (`StatisticsError`)."""
    a.manifest.check_comparable(b.manifest)
    if a.dim != b.dim:
        raise StatisticsError(
            f"statistics of {a.dim} and of {b.dim} features an image; both must come from the same encoder"
        )


class _Sums:
    """The running state behind `of_stream` and `merge`."""

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.mean = np.zeros(dim)
        self.digest = 0
        self.contrasts: list[Matrix] = []
        self.scatter: Matrix | None = None

    def add(self, rows: Matrix) -> None:
        """Take in a block of rows."""
        if len(rows) == 0:
            return
        mean = rows.mean(axis=0)
        centered = rows - mean
        digest = sum(int.from_bytes(hashlib.sha256(row).digest(), "big") for row in _little_endian(rows))
        if self.count + len(rows) - 1 <= len(self.mean):
            self._join(len(rows), mean, digest, _helmert(centered))
        else:
            self._join(len(rows), mean, digest, centered)

    def merge(self, part: FeatureStatistics) -> None:
        """Take in the statistics of other rows."""
        digest = int(part.manifest.data, 16)
        if part.contrasts is not None:
            self._join(part.count, part.mean, digest, part.contrasts)
            return
        if self.scatter is None:
            self.scatter = _gram(self.contrasts, len(self.mean))
            self.contrasts = []
        self.scatter += part.scatter
        self._join(part.count, part.mean, digest, np.empty((0, len(self.mean))))

    def finish(self, encoder: str | None, preprocessing: str | None) -> FeatureStatistics:
        manifest = StatisticsManifest(encoder, preprocessing, self.count, f"{self.digest:064x}")
        if self.scatter is None:
            rows = [np.empty((0, len(self.mean))), *self.contrasts]
            return FeatureStatistics(manifest, self.mean, np.concatenate(rows), None)
        upper = self.scatter
        lower = np.tril_indices(len(upper), -1)
        upper[lower] = upper.T[lower]
        return FeatureStatistics(manifest, self.mean, None, upper)

    def _join(self, count: int, mean: Matrix, digest: int, rows: Matrix) -> None:
        """Chan's update; the two means differ by one more contrast."""
        total = self.count + count
        gap = mean - self.mean
        between = gap * np.sqrt(self.count * count / total)
        added = [rows, between[None, :]] if self.count else [rows]
        if self.scatter is None and total - 1 <= len(self.mean):
            self.contrasts += added
        else:
            if self.scatter is None:
                self.scatter = _gram(self.contrasts, len(self.mean))
                self.contrasts = []
            for part in added:
                self.scatter = _add_gram(self.scatter, part)
        self.mean = self.mean + gap * (count / total)
        self.count = total
        self.digest = (self.digest + digest) % 2**256


def _gram(parts: list[Matrix], dim: int) -> Matrix:
    gram = np.zeros((dim, dim), order="F")
    for part in parts:
        gram = _add_gram(gram, part)
    return gram


def _add_gram(gram: Matrix, rows: Matrix) -> Matrix:
    """Add rows^T rows to the upper triangle of gram, in place."""
    from scipy.linalg.blas import dsyrk

    if len(rows) == 0:
        return gram
    return dsyrk(1.0, rows.T, beta=1.0, c=gram, overwrite_c=1)


def _cholesky(scatter: Matrix) -> Matrix:
    """Rows R with ``R.T @ R`` the matrix; pivoted, about three times as slow, where it lacks full rank."""
    from scipy.linalg.lapack import dpotrf, dpstrf

    dim = len(scatter)
    # LAPACK's own tolerance of a pivot that is only rounding
    least = dim * np.finfo(np.float64).eps * float(np.diag(scatter).max())
    factor, failed = dpotrf(scatter, lower=0, clean=1)
    if not failed and float(np.diag(factor).min()) ** 2 > 10 * least:
        return np.ascontiguousarray(factor)
    factor, pivots, rank, _ = dpstrf(scatter, lower=0)
    rows = np.empty((rank, dim))
    rows[:, pivots - 1] = np.triu(factor)[:rank]
    return rows


def _helmert(centered: Matrix) -> Matrix:
    """n - 1 contrasts of n centered rows, of the same scatter: each row against the mean of those before."""
    before = np.arange(1, len(centered))[:, None]
    means = np.cumsum(centered, axis=0)[:-1] / before
    return (centered[1:] - means) * np.sqrt(before / (before + 1))


def _little_endian(rows: Matrix) -> NDArray[Any]:
    # + 0.0: minus zero equals zero and must have the same digest
    return np.ascontiguousarray(rows + 0.0, dtype="<f8")


def _checksum(tensors: dict[str, Matrix], manifest: str) -> str:
    digest = hashlib.sha256(manifest.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].shape} {tensors[name].dtype}\n".encode())
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return digest.hexdigest()
