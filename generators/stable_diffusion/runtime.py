"""How a generator computes: device, number format, rows a pass, compiled or not, and what of it rounds."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from subprocess import SubprocessError

import torch

from generators.errors import GeneratorError
from generators.stable_diffusion.facts import RuntimeFacts
from promptopt.base.devices import default_dtype, resolve_device

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

logger = logging.getLogger(__name__)

_LIBRARIES = ("diffusers", "torch", "transformers")
_COMPILE = ("auto", "on", "off")


@cache
def _version(library: str) -> str:
    # importlib parses the package's metadata each time, which took longer than the rest of a request
    return version(library)


def _gpu(device: torch.device) -> tuple[str, ...]:
    """The kind of GPU and its libraries: another kind rounds otherwise, under the same kind of device."""
    name = torch.cuda.get_device_name(device).replace(";", ",").replace("=", ":")
    return f"gpu={name}", f"cuda={torch.version.cuda}", f"cudnn={torch.backends.cudnn.version()}"


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Where and how forward passes run.

    Attributes:
        device: a CPU or CUDA device.
        dtype_name: "float32", "float16" or "bfloat16".
        batch_size: images a forward pass; a short batch is filled up.
        compiled: whether UNet and VAE decoder go through `torch.compile`, one fixed shape at a time.
        threads: of the CPU, since rounding depends on their number.
    """

    device: torch.device
    dtype_name: str
    batch_size: int
    compiled: bool
    threads: int = 1

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.dtype_name]

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def versions(self) -> str:
        """`ImageRequest.versions`: the libraries and everything else here that changes rounding."""
        parts = [f"{name}={_version(name)}" for name in _LIBRARIES]
        parts.append(f"batch={self.batch_size}")
        if self.on_gpu:
            parts += ["layout=channels_last", *_gpu(self.device)]
        elif self.threads > 1:
            parts.append(f"threads={self.threads}")  # one is not named: keys stay those of before
        if self.compiled:
            parts.append("compile=on")
        return ";".join(parts)

    @property
    def facts(self) -> RuntimeFacts:
        """The same as plain values."""
        return RuntimeFacts(
            device=self.device.type,
            dtype=self.dtype_name,
            batch_size=self.batch_size,
            compiled=self.compiled,
            versions=self.versions,
        )

    @contextmanager
    def own_threads(self) -> Iterator[None]:
        """On a CPU, the threads that `versions` names, whatever the process has set since."""
        before = torch.get_num_threads()
        if self.on_gpu or before == self.threads:
            yield
            return
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def with_batch_size(self, batch_size: int) -> Runtime:
        """The same runtime with other rows a pass."""
        return replace(self, batch_size=batch_size)


def choose_runtime(
    *, device: str = "auto", dtype: str = "auto", batch_size: int | None = None, compile_: str = "auto"
) -> Runtime:
    """The runtime that the arguments of `generators.load` ask for.

    Raises:
        GeneratorError: an argument is unknown, or the device or the compiler cannot be had.
    """
    found = resolve_device(device, error=GeneratorError)
    return Runtime(
        device=found,
        dtype_name=_dtype_name(dtype, found),
        batch_size=_batch_size(batch_size, found),
        compiled=_compiled(compile_, found),
        threads=torch.get_num_threads(),
    )


def _dtype_name(name: str, device: torch.device) -> str:
    if name == "auto":
        return default_dtype(device)
    if name not in DTYPES:
        raise GeneratorError(f"dtype {name!r} is unknown; take auto, {', '.join(DTYPES)}")
    return name


def _batch_size(batch_size: int | None, device: torch.device) -> int:
    if batch_size is None:
        return 16 if device.type == "cuda" else 8
    if isinstance(batch_size, bool) or not isinstance(batch_size, int):
        raise GeneratorError(f"batch_size is {batch_size!r}; give a whole number, None or 'auto'")
    if batch_size < 1:
        raise GeneratorError(f"batch_size is {batch_size}; it must be at least 1")
    return batch_size


def _compiled(choice: str, device: torch.device) -> bool:
    if choice not in _COMPILE:
        raise GeneratorError(f"compile is {choice!r}; take {', '.join(_COMPILE)}")
    if choice == "off" or (choice == "auto" and device.type != "cuda"):
        return False
    failure = _compiler_failure(str(device))
    if failure is None:
        return True
    if choice == "on":
        raise GeneratorError(f"compile='on': torch.compile does not work on {device} ({failure}); take 'off'")
    logger.warning("torch.compile does not work on %s (%s); the model runs uncompiled", device, failure)
    return False


@cache
def _compiler_failure(device: str) -> str | None:
    """Why a one-line function cannot be compiled (no Triton, no C compiler, an old card); None if it can."""
    try:
        torch.compile(_twice, fullgraph=True)(torch.ones(8, device=device))
    except (RuntimeError, ImportError, OSError, SubprocessError) as error:
        return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return None


def _twice(values: torch.Tensor) -> torch.Tensor:
    return values * 2
