"""Every example in a docstring runs and gives what it says."""

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    str(path.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__")
    for package in ("promptopt", "generators", "evaluation", "studies")
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 0
    assert found.failed == 0


def public_classes() -> list[type]:
    """The classes that the packages export, without those of errors, which their message explains."""
    packages = ("promptopt", "generators", "evaluation", "studies.phantom", "promptopt.space")
    modules = [importlib.import_module(package) for package in packages]
    exported = [getattr(module, name) for module in modules for name in module.__all__]
    classes = {one for one in exported if inspect.isclass(one) and not issubclass(one, Exception)}
    return sorted(classes, key=lambda one: (one.__module__, one.__name__))


@pytest.mark.parametrize("public", public_classes(), ids=lambda one: one.__name__)
def test_every_public_class_has_an_example(public: type) -> None:
    assert ">>> " in (public.__doc__ or ""), f"{public.__module__}.{public.__name__}"
