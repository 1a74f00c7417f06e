"""An encoder judges what it recognizes on real images, and nothing else."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from evaluation.metrics.alignment import ClassWeights, margins
from evaluation.report.calibration import CalibrationError, calibrate

WEIGHTS = ClassWeights(("polyps", "instruments", "blurred"), np.eye(4)[:3], 10.0)


def real(n: int = 40) -> tuple[np.ndarray, list[str]]:
    """Polyps lie along their text, instruments along nothing in particular."""
    rng = np.random.default_rng(0)
    names = ["polyps", "instruments"] * n
    features = rng.normal(size=(2 * n, 4))
    features[::2, 0] += 3
    return features, names


def test_auroc_of_each_category_that_the_images_show() -> None:
    features, names = real()
    found = calibrate(features, names, WEIGHTS, allow_below=True)
    assert set(found.auroc) == {"polyps", "instruments"}
    expected = roc_auc_score(np.array(names) == "polyps", margins(features, WEIGHTS, target="polyps"))
    assert found.auroc["polyps"].value == pytest.approx(expected)
    assert found.passes("polyps")
    assert found.require("polyps").n == 40
    assert json.loads(json.dumps(found.to_dict()))["floor"] == 0.7


def test_below_the_floor_is_refused_unless_told_otherwise() -> None:
    features, names = real()
    with pytest.raises(CalibrationError, match=r"'polyps': AUROC 0\.\d+ on real images .* is below 0.999"):
        calibrate(features, names, WEIGHTS, floor=0.999)
    found = calibrate(features, names, WEIGHTS, floor=0.999, allow_below=True)
    assert not found.passes("polyps")
    with pytest.raises(CalibrationError, match="below"):
        found.require("polyps")


def test_one_category_alone_cannot_be_calibrated() -> None:
    features, _ = real()
    with pytest.raises(CalibrationError, match="must show it and others"):
        calibrate(features, ["polyps"] * len(features), WEIGHTS)
    lone = calibrate(features, ["polyps"] * len(features), WEIGHTS, allow_below=True)
    assert lone.auroc["polyps"].status == "undefined"
    assert not lone.passes("polyps")


def test_wrong_input_is_named() -> None:
    features, names = real()
    with pytest.raises(
        CalibrationError, match=r"show ulcers, the texts describe polyps, instruments, blurred"
    ):
        calibrate(features, ["ulcers"] * len(features), WEIGHTS)
    with pytest.raises(ValueError, match="80 images and 79 categories"):
        calibrate(features, names[1:], WEIGHTS)
    with pytest.raises(ValueError, match="floor is 2"):
        calibrate(features, names, WEIGHTS, floor=2)
    with pytest.raises(CalibrationError, match="'snare' was not calibrated"):
        calibrate(features, names, WEIGHTS, allow_below=True).require("snare")


def test_near_duplicates_widen_the_interval_where_groups_are_known() -> None:
    features, names = real()
    repeated = np.repeat(features, 4, axis=0)
    shown = [name for name in names for _ in range(4)]
    groups = [str(i // 4) for i in range(len(shown))]
    plain = calibrate(repeated, shown, WEIGHTS, allow_below=True).auroc["polyps"]
    grouped = calibrate(repeated, shown, WEIGHTS, groups=groups, allow_below=True).auroc["polyps"]
    assert grouped.value == plain.value
    assert grouped.high - grouped.low > 1.7 * (plain.high - plain.low)  # type: ignore[operator]
    assert "80 groups" in grouped.method
