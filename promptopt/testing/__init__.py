"""Conformance suites, pytest classes: what generators, stores, engines, encoders, metrics, samplers must do.

Subclass one in a test module of your own and override the fixtures that its docstring names:

    from promptopt.testing.generators import GeneratorSuite

    class TestMine(GeneratorSuite):
        @pytest.fixture(scope="class")
        def load(self):
            return lambda: MyGenerator("weights.safetensors")

pytest then collects every test of the suite. Importing this package needs pytest.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    *(f"{__name__}.{name}" for name in ("encoders", "engines", "generators", "metrics", "samplers", "stores"))
)
