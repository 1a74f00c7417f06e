"""The same results with every version of the libraries that pyproject.toml allows, to a stated tolerance.

`scripts/test --oldest` and `--newest` run these. The record is of the versions that it names; another torch
adds up in another order, so that a pixel may differ by a level or two of 255, a feature in its last digits.
"""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.versions import record

LEVELS = 2  # of 255: the most that any channel of any pixel may differ
FEATURES = 2e-4  # the most that a feature may differ, of a length of about 10

TEXT_ADAPTER = record.ADAPTER / "text_encoder"


@pytest.fixture(scope="module")
def recorded() -> Any:
    return json.loads(record.RECORDED.read_text(encoding="utf-8"))


def test_pictures_are_those_on_record(recorded: Any) -> None:
    fingerprint, images = record.pictures()
    assert fingerprint == recorded["generator"]
    for row, image in enumerate(images):
        kept = np.asarray(Image.open(record.picture(row)).convert("RGB"), dtype=int)
        assert np.abs(np.asarray(image, dtype=int) - kept).max() <= LEVELS, record.PROMPTS[row]
        assert kept.std() > 20  # a picture, not one gray


def test_features_and_the_judges_reading_are_those_on_record(recorded: Any) -> None:
    now = record.measures()
    assert now["fingerprints"] == recorded["fingerprints"]
    for name in ("image_features", "text_features", "judge_colors"):
        np.testing.assert_allclose(now[name], recorded[name], atol=FEATURES, err_msg=name)


def test_peft_reads_the_text_encoders_adapter_of_another_version(recorded: Any) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Found missing adapter keys")
        np.testing.assert_allclose(record.adapted_states(), recorded["adapted_states"], atol=1e-4)


@pytest.mark.slow
def test_the_text_encoders_adapter_of_another_version_changes_the_pictures() -> None:
    plain, adapted = (record.pictures(f"embedded{end}")[1] for end in ("", f"+lora:{TEXT_ADAPTER}@3"))
    levels = [
        np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max()
        for one, other in zip(plain, adapted, strict=True)
    ]
    assert min(levels) > LEVELS  # on record: 168, 12 and 129
    assert max(levels) > 50
