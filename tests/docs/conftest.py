"""The scripts that write parts of the site, as modules."""

import importlib.util
from types import ModuleType

import pytest

from tests.docs.pages import REPOSITORY


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    return _script("docs_reference")


@pytest.fixture(scope="session")
def docstrings() -> ModuleType:
    pytest.importorskip("griffe", reason="griffe is not installed: pip install 'promptopt[docs]'")
    return _script("docs_docstrings")
