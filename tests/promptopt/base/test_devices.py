"""Devices by the names that people give."""

import pytest
import torch

from promptopt.base.devices import DeviceError, default_dtype, resolve_device
from promptopt.base.errors import PromptoptError


@pytest.mark.parametrize("count", [0, 2])
def test_names_stand_for_what_the_machine_has(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if count else "cpu")
    if count:
        assert resolve_device("cuda") == torch.device("cuda")
        assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(DeviceError, match=rf"'cuda:{count}' is not there: this machine has {count} CUDA"):
        resolve_device(f"cuda:{count}")


@pytest.mark.parametrize(
    "name", ["", "gpu", "cuda:", "cuda:-1", "cuda:1 ", "mps", "meta", "cpu:0", "cuda:\u0661"]
)
def test_other_names_are_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(PromptoptError, match=r"is unknown\. Take auto, cpu, cuda or cuda:N"):
        resolve_device(name)


def test_the_callers_error_is_raised() -> None:
    class OwnError(PromptoptError):
        pass

    with pytest.raises(OwnError):
        resolve_device("gpu", error=OwnError)


def test_a_gpu_computes_in_half_precision() -> None:
    assert default_dtype(torch.device("cpu")) == "float32"
    assert default_dtype(torch.device("cuda:3")) == "float16"
