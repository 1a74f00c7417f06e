"""What this machine has: memory, disk, GPUs, and how fast they multiply."""

from __future__ import annotations

import time
from pathlib import Path

from promptopt.doctor.capacity import Device

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


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


def cpu_speed() -> float:
    """TFLOP/s of a float32 matrix product on all threads; takes a quarter of a second."""
    import torch

    return _speed(torch.device("cpu"), 768, 0.25)


def devices() -> list[Device]:
    """The CPU, and every CUDA device with what is free of its memory."""
    import torch

    found = [Device("cpu", f"the CPU ({torch.get_num_threads()} of its cores)", memory()[1], cpu_speed())]
    for index in range(torch.cuda.device_count()):
        free, _ = torch.cuda.mem_get_info(index)
        name = f"cuda:{index} {torch.cuda.get_device_name(index)}"
        found.append(Device("cuda", name, float(free), _speed(torch.device("cuda", index), 4096, 0.25)))
    return found


def _speed(device: object, side: int, seconds: float) -> float:
    import torch

    place = torch.device(device)  # type: ignore[call-overload]
    dtype = torch.float16 if place.type == "cuda" else torch.float32
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(side, side, generator=generator).to(place, dtype)
    with torch.no_grad():
        torch.mm(a, a)  # the first call sets things up
        _wait(place)
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            torch.mm(a, a)
            _wait(place)
            count += 1
    return 2.0 * side**3 * count / (time.perf_counter() - started) / 1e12


def _wait(place: object) -> None:
    import torch

    if getattr(place, "type", "") == "cuda":
        torch.cuda.synchronize(place)  # type: ignore[arg-type]
