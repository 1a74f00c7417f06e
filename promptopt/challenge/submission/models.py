"""A study's generator in a submission: its files, checked against the study's fingerprint, or its address."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from generators.adapters.lora import (
    COMPONENTS,
    SEPARATOR,
    Adapter,
    LoraAddress,
    find_adapter,
    join_uri,
    split_uri,
)
from generators.adapters.lora import fingerprint as with_adapters
from generators.errors import GeneratorError
from generators.folder import DEFAULTS_FILE, fingerprint, model_files
from generators.loading import EMBEDDED
from generators.training.push import files_to_push
from promptopt.base.files import link_or_copy
from promptopt.base.hub import HubAddress
from promptopt.challenge.submission.details import ModelEntry
from promptopt.run.errors import ExportError

MODEL = "model"
_BESIDE = (DEFAULTS_FILE, "README.md", "LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE")
_NO_CARD = """# No model card

The folder that this model was copied from had none. Write here on what data it was trained, by whom, and
under which license.
"""


def reference(uri: str, expected: str, *, study: str) -> ModelEntry:
    """The generator by its hub address; nothing is read, so the fingerprint is the study's word.

    Raises ExportError: a model or adapter that lies on this machine alone, or the CLIP baseline.
    """
    _refuse_guided(uri, study)
    base, adapters = split_uri(uri)
    local = [part for part in (base, *(a.path for a in adapters)) if not part.startswith("hf:")]
    if local:
        raise ExportError(
            f"study {study!r}: {', '.join(local)} is no hub address, so nobody else could fetch it; upload "
            "it with `promptopt push` and give it by --generator hf:owner/name, or take --weights copy"
        )
    return ModelEntry(weights="reference", uri=uri, fingerprint=expected)


def copy_model(
    uri: str, expected: str, target: Path, *, root: Path, study: str, beside: Path | None = None
) -> ModelEntry:
    """Copy what loading reads, model card and license with it, as safetensors and text alone.

    Args:
        uri: of the generator; a hub address is read from the local cache.
        expected: the fingerprint of the study's generator.
        target: folder to fill; adapters go into its subfolders lora-1, lora-2, ...
        root: folder of the submission, which `uri` of the entry is relative to.
        beside: a folder that holds the same model already: its files are linked instead.

    Raises ExportError: not to be found, not only safetensors, or another model than the study's.
    """
    _refuse_guided(uri, study)
    base, addresses = split_uri(uri)
    inside = target.relative_to(root).as_posix() or "."
    adapters = tuple(
        LoraAddress(f"{inside}/lora-{number}" if inside != "." else f"lora-{number}", address.scale)
        for number, address in enumerate(addresses, start=1)
    )
    entry = ModelEntry(weights="copy", uri=join_uri(inside, adapters), fingerprint=expected)
    if beside is not None:
        for path in sorted(p for p in beside.rglob("*") if p.is_file()):
            link_or_copy(path, target / path.relative_to(beside))
        return entry
    try:
        folder = local_folder(base)
        _copy(model_files(folder), folder, target)
        for number, address in enumerate(addresses, start=1):
            _copy_adapter(find_adapter(address), address, target / f"lora-{number}")
        if not (target / "README.md").exists():
            (target / "README.md").write_text(_NO_CARD, encoding="utf-8")
        files_to_push(target)
        found = model_fingerprint(target, [address.scale for address in addresses])
    except GeneratorError as error:
        raise ExportError(f"study {study!r}: its generator cannot be copied: {error}") from error
    if found != expected:
        raise ExportError(
            f"study {study!r}: {uri} is another generator ({found[:12]}) than the one its prompts were found "
            f"with ({expected[:12]}); give that one by --generator, or run the study again"
        )
    return entry


def model_fingerprint(folder: Path, scales: list[float]) -> str:
    """Of a copied model with its adapters lora-1, lora-2, ... at these scales. May raise GeneratorError."""
    places = [LoraAddress(str(folder / f"lora-{n}"), scale) for n, scale in enumerate(scales, start=1)]
    return with_adapters(fingerprint(folder), [find_adapter(place) for place in places])


def local_folder(base: str) -> Path:
    """The diffusers folder of a generator without adapters, never from the network.

    Raises GeneratorError when it is not there.
    """
    if base == "embedded":
        return EMBEDDED
    if not base.startswith("hf:"):
        return Path(base).expanduser()
    address = HubAddress.parse(base, error=GeneratorError)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(address.repository, revision=address.revision, local_files_only=True)
    except (LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise GeneratorError(
            f"{base}: is not in the hub client's cache, and nothing is downloaded here; fetch it once with "
            f"`hf download {address.repository}`, or take --weights reference"
        ) from error
    return Path(found)


def how(uri: str, wanted: Literal["copy", "reference"] | None) -> Literal["copy", "reference"]:
    """What was asked for; else a reference where every part is on the hub, and a copy otherwise."""
    if wanted is not None:
        return wanted
    parts = uri.split(SEPARATOR)
    return "reference" if all(part.startswith("hf:") for part in parts) else "copy"


def _refuse_guided(uri: str, study: str) -> None:
    if uri.startswith("clip-guided:"):
        raise ExportError(
            f"study {study!r}: {uri} is the CLIP baseline, a way of sampling and no model of its own, so no "
            "folder of weights stands for it; run the study on its base model"
        )


def _copy(files: list[Path], folder: Path, target: Path) -> None:
    extra = [folder / name for name in _BESIDE if (folder / name).is_file()]
    for path in [*files, *extra]:
        place = target / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def _copy_adapter(adapter: Adapter, address: LoraAddress, target: Path) -> None:
    """Under the names that finding it again asks for, so that it has the same digest."""
    for weights, config in adapter.weights:
        place = target / weights.parent.name if weights.parent.name in COMPONENTS else target
        place.mkdir(parents=True, exist_ok=True)
        for path in (weights, config):
            if path is not None:
                shutil.copyfile(path, place / path.name)
    source = Path(address.path).expanduser()
    if source.is_dir():
        for name in _BESIDE:
            if (source / name).is_file():
                shutil.copyfile(source / name, target / name)
