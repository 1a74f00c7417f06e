"""What this machine has: memory, disk, GPUs, and how fast they multiply."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_SIDE, _SECONDS = 4096, 0.25  # of the matrix product that is timed


@dataclass(frozen=True)
class Gpu:
    """A CUDA device: free memory in bytes, speed in TFLOP/s of a float16 matrix product."""

    name: str
    memory: float
    speed: float


def memory() -> tuple[float, float]:
    """(bytes in all, bytes that can still be had); a container's limit counts where it is lower."""
    import psutil

    found = psutil.virtual_memory()
    total, available = float(found.total), float(found.available)
    for place in _LIMITS:
        try:
            text = Path(place).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdecimal() and int(text) < total:
            total, available = float(text), min(available, float(text))
    return total, available


def gpus() -> list[Gpu]:
    """Every CUDA device that torch can use."""
    import torch

    return [
        Gpu(
            f"cuda:{index} {torch.cuda.get_device_name(index)}",
            float(torch.cuda.mem_get_info(index)[0]),
            _speed(index),
        )
        for index in range(torch.cuda.device_count())
    ]


def _speed(index: int) -> float:
    import torch

    generator = torch.Generator().manual_seed(0)
    a = torch.randn(_SIDE, _SIDE, generator=generator).to(f"cuda:{index}", torch.float16)
    with torch.no_grad():
        torch.mm(a, a)  # the first call sets things up
        torch.cuda.synchronize(index)
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < _SECONDS:
            torch.mm(a, a)
            torch.cuda.synchronize(index)
            count += 1
    return 2.0 * _SIDE**3 * count / (time.perf_counter() - started) / 1e12
