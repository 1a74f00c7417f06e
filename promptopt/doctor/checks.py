"""The examination: every check with its finding and, where something is wrong, what to do."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from promptopt.doctor import embedded, machine, weights
from promptopt.formatting.numbers import file_size

Status = Literal["ok", "note", "broken"]

REQUIRED = (
    "torch", "torchvision", "diffusers", "transformers", "accelerate", "peft", "open_clip_torch", "optuna",
    "scikit-learn", "scipy", "numpy", "pillow", "safetensors", "matplotlib", "plotly", "clean-fid",
    "sentence-transformers",
)  # fmt: skip
OPTIONAL = {
    "optuna-dashboard": ("promptopt dashboard", "dashboard"),
}
FLAGS = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HOME", "HF_HUB_CACHE", "OMP_NUM_THREADS")
_LITTLE_DISK, _NO_DISK = 10e9, 1e9
_SHOWN = 8  # cached models


@dataclass(frozen=True)
class Check:
    """One finding. ``broken`` is needed and does not work; ``note`` is worth knowing."""

    group: str
    name: str
    status: Status
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Report:
    """All findings."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing that is needed is broken."""
        return all(check.status != "broken" for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "format": "promptopt-doctor",
            "version": 1,
            "ok": self.ok,
            "checks": [asdict(check) for check in self.checks],
        }


def examine(*, folder: Path = Path(), given: Sequence[Path] = (), load: bool = True) -> Report:
    """Look at machine, packages, weights and disk.

    Args:
        folder: whose disk is looked at.
        given: folders or files of weights to look at besides.
        load: whether the embedded networks are loaded, which takes some seconds.
    """
    checks = _machine()
    found = _try("machine", "torch's devices", machine.gpus, checks, "install torch again")
    checks += [] if found is None else _gpus(found)
    checks += _packages()
    checks += _weights(given, load=load)
    checks += _disk(folder)
    checks += [Check("environment", name, "ok", os.environ.get(name, "not set")) for name in FLAGS]
    return Report(tuple(checks))


def _machine() -> list[Check]:
    total, available = machine.memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    short = available < 2e9
    text = f"{file_size(total)}, {file_size(available)} available"
    remedy = "close other programs: a study needs about 2 GB" if short else ""
    return [
        Check("machine", "system", "ok", platform.platform()),
        Check("machine", "python", "ok", f"{platform.python_version()}, {sys.executable}"),
        Check("machine", "CPU", "ok", f"{cores} cores"),
        Check("machine", "memory", "note" if short else "ok", text, remedy),
    ]


def _gpus(found: Sequence[machine.Gpu]) -> list[Check]:
    rows = []
    for gpu in found:
        text = f"{gpu.name}: {file_size(gpu.memory)} free, {gpu.speed:.0f} TFLOP/s float16"
        rows.append(Check("machine", "GPU", "ok", text))
    if not rows:
        remedy = (
            "the embedded generator needs none; for Stable Diffusion use a machine with a CUDA GPU and a "
            "torch built for it"
        )
        rows.append(Check("machine", "GPU", "note", "none that torch can use", remedy))
    return rows


def _packages() -> list[Check]:
    needed = _declared()
    rows = []
    for name in ("promptopt", *REQUIRED):
        found, wanted = _version(name), needed.get(_plain(name), "")
        if found is not None and _satisfies(found, wanted):
            rows.append(Check("packages", name, "ok", found))
        else:
            text = "not installed" if found is None else f"{found}, needs {wanted}"
            rows.append(Check("packages", name, "broken", text, f"pip install '{name}{wanted}'"))
    for name, (purpose, extra) in OPTIONAL.items():
        if (found := _version(name)) is not None:
            rows.append(Check("packages", name, "ok", found))
        else:
            text, remedy = f"not installed (optional: {purpose})", f"pip install 'promptopt[{extra}]'"
            rows.append(Check("packages", name, "note", text, remedy))
    return rows


def _weights(given: Sequence[Path], *, load: bool) -> list[Check]:
    rows: list[Check] = []
    faults = embedded.faults()
    again = "install promptopt again: its files were damaged or not copied whole"
    if faults:
        rows += [Check("weights", "embedded files", "broken", fault, again) for fault in faults]
    else:
        rows.append(Check("weights", "embedded files", "ok", f"all {len(embedded.WEIGHTS)} as shipped"))
    if load:
        networks = {"generator": _generator, "CLIP": _clip, "judge": _judge}
        for name, action in ((f"embedded {kind}", loader) for kind, loader in networks.items()):
            text = _try("weights", name, action, rows, again)
            if text is not None:
                rows.append(Check("weights", name, "ok", text))
    for path in given:
        try:
            rows.append(Check("weights", str(path), "ok", weights.describe_folder(path)))
        except weights.WeightsError as error:
            text, _, remedy = str(error).removeprefix(f"{path}: ").rpartition(". ")
            rows.append(Check("weights", str(path), "broken", text or str(error), remedy))
    return [*rows, *_hub()]


def _hub() -> list[Check]:
    folder, cached = weights.hub_cache()
    rows = []
    if not cached:
        remedy = "nothing to do: hf:owner/name is fetched when it is first used"
        if weights.offline():
            remedy = "HF_HUB_OFFLINE is set, so nothing will be fetched: unset it, or give folders"
        rows.append(Check("weights", "hub cache", "note", f"no models in {folder}", remedy))
    else:
        text = f"{len(cached)} models, {file_size(sum(row.size for row in cached))} in {folder}"
        rows.append(Check("weights", "hub cache", "ok", text))
    for row in cached[:_SHOWN]:
        text = file_size(row.size)
        if row.incomplete:
            rows.append(
                Check("weights", f"hf:{row.name}", "note", f"{text}, {row.incomplete} files not complete",
                      "use it once with the network on: the download goes on")
            )  # fmt: skip
        else:
            rows.append(Check("weights", f"hf:{row.name}", "ok", text))
    if (inception := weights.inception_file()) is not None:
        rows.append(Check("weights", "Inception of FID", "ok", str(inception)))
    else:
        text = "not there (only --encoder inception needs it)"
        remedy = "it is fetched when it is first used; see `promptopt evaluate --help`"
        rows.append(Check("weights", "Inception of FID", "note", text, remedy))
    return rows


def _disk(folder: Path) -> list[Check]:
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    status: Status = "broken" if free < _NO_DISK else "note" if free < _LITTLE_DISK else "ok"
    text = f"{file_size(free)} free, about {int(free / 0.5e6):,} images of 512 px"
    remedy = "" if status == "ok" else "free some space, or name a store on another disk (--store)"
    rows = [Check("disk", str(place), status, text, remedy)]
    if not os.access(place, os.W_OK):
        rows.append(Check("disk", str(place), "broken", "cannot be written to", "choose another folder"))
    return rows


def _try(group: str, name: str, action: Callable[[], Any], rows: list[Check], remedy: str) -> Any:
    """What the action gives; a failure becomes a finding, whatever a broken installation throws."""
    try:
        return action()
    except Exception as error:  # noqa: BLE001 - a broken package raises anything
        text = f"{type(error).__name__}: {str(error).strip() or 'no message'}"
        rows.append(Check(group, name, "broken", text.splitlines()[0], remedy))
        return None


def _generator() -> str:
    from generators.loading import load

    loaded = load("embedded", device="cpu")
    return f"loads, {loaded.max_tokens} tokens per prompt, fingerprint {loaded.fingerprint[:12]}"


def _clip() -> str:
    from evaluation.encoders.load import load_encoder

    loaded = load_encoder("embedded", device="cpu")
    return f"loads, {loaded.dim} features, fingerprint {loaded.fingerprint[:12]}"


def _judge() -> str:
    from evaluation.classifier.judge import load_judge

    loaded = load_judge("embedded", device="cpu")
    return f"loads, reads {', '.join(loaded.names)}"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _declared() -> dict[str, str]:
    """Package -> the versions that promptopt asks for, of its installed metadata."""
    try:
        lines = metadata.requires("promptopt") or []
    except metadata.PackageNotFoundError:
        return {}
    found = {}
    for line in lines:
        match = re.match(r"([\w.-]+)\s*([<>=!~][^;]*)?", line)
        if match and "extra ==" not in line:
            found[_plain(match[1])] = (match[2] or "").strip()
    return found


def _satisfies(found: str, wanted: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(wanted).contains(found, prereleases=True)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
