"""Feature statistics: the same as NumPy's, however they were gathered, and never compared across encoders."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation import FeatureStatistics, frechet_distance
from evaluation.features.moments import StatisticsError

NAMED = {"encoder": "e" * 64, "preprocessing": "bicubic 299"}


def features(n: int, d: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2.0, size=(n, d)) + 10


@pytest.mark.parametrize("n", [2, 5, 6, 7, 8, 50])  # below, at and above d + 1
def test_equals_numpy(n: int) -> None:
    x = features(n)
    statistics = FeatureStatistics.of(x)
    covariance = np.cov(x, rowvar=False)
    assert (statistics.count, statistics.dim) == (n, 6)
    np.testing.assert_allclose(statistics.mean, x.mean(0), rtol=1e-14)
    np.testing.assert_allclose(statistics.covariance, covariance, atol=1e-12)
    factor = statistics.covariance_factor
    assert len(factor) <= min(n - 1, 6)
    np.testing.assert_allclose(factor.T @ factor, covariance, atol=1e-12)


def test_one_image_has_a_mean_and_no_scatter() -> None:
    statistics = FeatureStatistics.of([[1.0, 2.0]])
    assert statistics.count == 1
    assert not statistics.covariance.any()
    assert frechet_distance(statistics, features(9, 2)).status == "undefined"


@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 8), st.lists(st.integers(0, 30), max_size=4))
def test_neither_blocks_nor_merging_nor_order_matter(seed: int, n: int, d: int, cuts: list[int]) -> None:
    x = features(n, d, seed)
    whole = FeatureStatistics.of(x)
    blocks = [block for block in np.split(x, sorted(min(cut, n) for cut in cuts)) if len(block)]
    streamed = FeatureStatistics.of_stream(blocks)
    merged = FeatureStatistics.of(blocks[0])
    for block in blocks[1:]:
        merged = merged + FeatureStatistics.of(block)
    shuffled = FeatureStatistics.of(np.random.default_rng(seed).permutation(x))
    for other in (streamed, merged, shuffled):
        assert other.manifest == whole.manifest
        assert (other.contrasts is None) == (whole.contrasts is None) == (n > d + 1)
        np.testing.assert_allclose(other.mean, whole.mean, rtol=1e-13)
        np.testing.assert_allclose(other.scatter, whole.scatter, atol=1e-10)


def test_merging_leaves_its_parts_alone() -> None:
    a, b = FeatureStatistics.of(features(20)), FeatureStatistics.of(features(3, seed=1))
    before = a.scatter.copy(), a.mean.copy(), b.scatter.copy()
    _ = a + b, b + a, a + a
    for kept, now in zip(before, (a.scatter, a.mean, b.scatter), strict=True):
        np.testing.assert_array_equal(kept, now)


def test_the_digest_tells_the_data_apart() -> None:
    x = features(5)
    digest = FeatureStatistics.of(x).manifest.data
    assert len(digest) == 64
    changed = x.copy()
    changed[2, 3] = np.nextafter(changed[2, 3], 99)
    assert FeatureStatistics.of(changed).manifest.data != digest
    assert FeatureStatistics.of(x[[0, 0, 1, 2, 3, 4]]).manifest.data != digest
    assert FeatureStatistics.of(np.zeros((2, 3))).manifest == FeatureStatistics.of(-np.zeros((2, 3))).manifest


def test_far_from_the_origin_nothing_is_lost() -> None:
    x = np.random.default_rng(1).normal(size=(400, 5))
    far = FeatureStatistics.of_stream([x[:3] + 1e6, x[3:200] + 1e6, x[200:] + 1e6])
    np.testing.assert_allclose(far.covariance, np.cov(x, rowvar=False), atol=1e-8)


@pytest.mark.parametrize("n", [1, 4, 60])
def test_saved_and_loaded(tmp_path: Path, n: int) -> None:
    statistics = FeatureStatistics.of(features(n), **NAMED)
    path = statistics.save(tmp_path / "deep" / "reals.safetensors")
    again = FeatureStatistics.load(path)
    assert again.manifest == statistics.manifest
    np.testing.assert_array_equal(again.mean, statistics.mean)
    np.testing.assert_allclose(again.scatter, statistics.scatter, rtol=1e-12, atol=1e-12)
    other = features(30, seed=2)
    assert frechet_distance(other, again) == frechet_distance(other, statistics)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    header_size = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + header_size])["__metadata__"]
    assert json.loads(header["manifest"])["encoder"] == "e" * 64


def test_the_factor_is_saved_so_that_nobody_computes_it_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reals = FeatureStatistics.of(features(60), **NAMED)
    other = features(30, seed=2)
    expected = frechet_distance(other, reals)
    path = reals.save(tmp_path / "reals")
    header_size = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + header_size])["__metadata__"]
    assert "rank 6" in json.loads(header["manifest"])["factor"]
    again = FeatureStatistics.load(path)
    monkeypatch.setattr("evaluation.features.moments._cholesky", lambda _: pytest.fail("computed again"))
    assert frechet_distance(other, again) == expected
    assert again.manifest == reals.manifest
    merged = again + reals  # has no factor left that would no longer fit
    assert merged.factor is None
    np.testing.assert_allclose(merged.scatter, 2 * reals.scatter, rtol=1e-12, atol=1e-10)
    assert FeatureStatistics.load(again.save(tmp_path / "copy")).manifest == reals.manifest


def test_a_file_without_the_factor_is_read_as_before(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    from evaluation.features.moments import _checksum

    reals = FeatureStatistics.of(features(60), **NAMED)
    tensors = {"mean": load_file(reals.save(tmp_path / "new"))["mean"], "scatter": reals.scatter}
    manifest = json.dumps({**NAMED, "n": 60, "data": reals.manifest.data})
    header = {"format": "promptopt-feature-statistics", "version": "1", "manifest": manifest}
    save_file(tensors, tmp_path / "old", {**header, "checksum": _checksum(tensors, manifest)})
    old = FeatureStatistics.load(tmp_path / "old")
    assert (old.manifest, old.factor) == (reals.manifest, None)
    other = features(30, seed=2)
    assert frechet_distance(other, old) == frechet_distance(other, reals)


@pytest.mark.parametrize("lost", [0, 1, 3])
def test_factor_of_a_scatter_with_and_without_full_rank(lost: int) -> None:
    x = features(50)
    x[:, 6 - lost :] = x[:, :lost] * 2
    statistics = FeatureStatistics.of(x)
    factor = statistics.covariance_factor
    assert len(factor) == 6 - lost
    np.testing.assert_allclose(factor.T @ factor, np.cov(x, rowvar=False), atol=1e-12)


def test_what_names_no_encoder_is_not_saved(tmp_path: Path) -> None:
    for missing in NAMED:
        named = {key: value for key, value in NAMED.items() if key != missing}
        with pytest.raises(StatisticsError, match=rf"reals.*no {missing}"):
            FeatureStatistics.of(features(4), **named).save(tmp_path / "reals")
    assert not list(tmp_path.iterdir())


def test_files_that_cannot_be_trusted(tmp_path: Path) -> None:
    path = FeatureStatistics.of(features(60), **NAMED).save(tmp_path / "reals")
    content = path.read_bytes()
    with pytest.raises(StatisticsError, match="no such file"):
        FeatureStatistics.load(tmp_path / "absent")
    path.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    with pytest.raises(StatisticsError, match="does not fit its header"):
        FeatureStatistics.load(path)
    path.write_bytes(content.replace(b"bicubic", b"nearest"))
    with pytest.raises(StatisticsError, match="does not fit its header"):
        FeatureStatistics.load(path)
    path.write_bytes(content.replace(b"promptopt-feature-statistics", b"promptopt-feature-statistiks"))
    with pytest.raises(StatisticsError, match="statistiks"):
        FeatureStatistics.load(path)
    path.write_bytes(b"no tensors here")
    with pytest.raises(StatisticsError, match="not a readable"):
        FeatureStatistics.load(path)
    with pytest.raises(StatisticsError, match="cannot be written"):
        FeatureStatistics.of(features(4), **NAMED).save(path / "below a file")


@pytest.mark.parametrize("field", ["encoder", "preprocessing"])
def test_other_encoders_and_preprocessings_are_refused(field: str) -> None:
    a = FeatureStatistics.of(features(30), **NAMED)
    b = FeatureStatistics.of(features(30), **{**NAMED, field: "another"})
    for use in (lambda: frechet_distance(a, b), lambda: a + b):
        with pytest.raises(StatisticsError, match=rf"different {field}.*another"):
            use()
    unnamed = FeatureStatistics.of(features(20))
    assert frechet_distance(a, unnamed).value is not None  # as bare features, it says nothing about itself
    assert (unnamed + a).manifest.encoder == a.manifest.encoder
    assert replace(a.manifest, n=3).check_comparable(a.manifest) is None


def test_refused_input() -> None:
    with pytest.raises(ValueError, match="no features"):
        FeatureStatistics.of_stream([])
    with pytest.raises(ValueError, match="no features"):
        FeatureStatistics.of(np.empty((0, 3)))
    with pytest.raises(ValueError, match="block 1: row 2 "):
        FeatureStatistics.of_stream([features(3), np.full((3, 6), 1.0) * [[1], [1], [np.nan]]])
    with pytest.raises(ValueError, match="block 1 has 5 features"):
        FeatureStatistics.of_stream([features(3), features(3, 5)])
    with pytest.raises(StatisticsError, match="6 and of 5"):
        _ = FeatureStatistics.of(features(3)) + FeatureStatistics.of(features(3, 5))


def test_a_stream_is_looked_at_once_and_not_kept() -> None:
    import tracemalloc

    def blocks(count: int) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(0)
        for _ in range(count):
            yield rng.normal(size=(100, 32))

    FeatureStatistics.of_stream(blocks(2))  # imports are done
    peaks = []
    for count in (20, 200):
        tracemalloc.start()
        assert FeatureStatistics.of_stream(blocks(count)).count == 100 * count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
