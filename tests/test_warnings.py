"""What our own code does that will stop working is an error in the tests."""

import warnings

import pytest


@pytest.mark.parametrize("kind", [DeprecationWarning, FutureWarning])
@pytest.mark.parametrize(
    "module", ["promptopt.study.run", "generators", "evaluation.metrics.kid", "studies.phantom"]
)
def test_warning_from_our_own_code_is_an_error(kind: type[Warning], module: str) -> None:
    with pytest.raises(kind):
        warnings.warn_explicit("soon gone", kind, "file.py", 1, module=module)


@pytest.mark.parametrize("module", ["torch.nn", "evaluation_of_others", "mkdocs"])
def test_warning_from_a_library_is_not(module: str) -> None:
    warnings.warn_explicit("soon gone", DeprecationWarning, "file.py", 1, module=module)
