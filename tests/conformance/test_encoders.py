"""Every encoder that ships, in the suite for encoders. A new encoder is one line in ENCODERS."""

from collections.abc import Callable

import pytest

from evaluation import Encoder, load_encoder
from promptopt.testing.encoders import EncoderSuite
from tests.evaluation.conftest import make_micro_clip
from tests.evaluation.encoders.small import (
    make_backbone,
    make_micro_dinov2,
    make_micro_vit,
    make_small_inception,
)

MAKERS = {
    "micro": lambda folder: str(make_micro_clip(folder)),
    "dinov2": lambda folder: f"dinov2:{make_micro_dinov2(folder)}",
    "vit": lambda folder: f"transformers:{make_micro_vit(folder)}",
    "timm": lambda folder: make_backbone(folder, "timm:test_vit"),
    "torchvision": lambda folder: make_backbone(folder, "torchvision:shufflenet_v2_x0_5"),
    "inception": lambda folder: f"inception:{make_small_inception(folder)}",
}
ENCODERS = [*MAKERS, "embedded", "thumbnail"]


class TestEncoders(EncoderSuite):
    @pytest.fixture(scope="class", params=ENCODERS)
    def uri(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
        if request.param in MAKERS:
            return MAKERS[request.param](tmp_path_factory.mktemp(request.param))
        return request.param

    @pytest.fixture(scope="class")
    def load(self, uri: str) -> Callable[[], Encoder]:
        return lambda: load_encoder(uri, device="cpu")

    def test_keeps_the_address_it_was_given(self, encoder: Encoder, uri: str) -> None:
        assert encoder.uri == uri
