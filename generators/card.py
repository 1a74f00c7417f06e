"""A generator without its weights: enough to make requests and to count tokens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from generators.adapters import lora
from generators.errors import GeneratorError
from generators.folder import fingerprint, read_defaults
from generators.loading import resolve
from generators.single_file.convert import is_single_file
from promptopt.base import plugins

if TYPE_CHECKING:
    from generators.stable_diffusion.card import DiffusionCard
    from generators.stable_diffusion.facts import RuntimeFacts


def runtime_facts(
    *, device: str = "auto", dtype: str = "auto", batch_size: int | None = None, compile_: str = "auto"
) -> RuntimeFacts:
    """How a generator that is loaded on this machine with these settings would make images.

    Raises:
        GeneratorError: as `generators.load`.
    """
    from generators.stable_diffusion.runtime import choose_runtime

    return choose_runtime(device=device, dtype=dtype, batch_size=batch_size, compile_=compile_).facts


def has_card(uri: str) -> bool:
    """Whether a generator can be known without loading it: embedded, folders, checkpoints, the hub."""
    base = uri.split(lora.SEPARATOR)[0]
    return (
        base == "embedded"
        or base.startswith("hf:")
        or (is_single_file(base) and plugins.scheme(base) is None)
        or Path(base).expanduser().is_dir()
    )


def read_card(uri: str, *, facts: RuntimeFacts, digests: Path | None = None) -> DiffusionCard:
    """The card of a diffusers folder, `embedded` or `hf:owner/name`, with LoRA adapters or without.

    Args:
        uri: as of `generators.load`.
        facts: of the runtime that makes the images: of this machine (`runtime_facts`) or of another.
        digests: a file that keeps the checksums of the weights between commands; see
            `generators.folder.fingerprint`.

    Raises:
        GeneratorError: there is no such model, it cannot be used, or it has to be loaded to be known
            (see `has_card`).
    """
    from generators.stable_diffusion.card import read_from_folder

    base, addresses = lora.split_uri(uri)
    if not has_card(base):
        raise GeneratorError(f"{uri}: is no model folder, so nothing is known of it before it is loaded")
    folder = resolve(base)
    adapters = [lora.find_adapter(address) for address in addresses]
    return read_from_folder(
        folder,
        uri=uri,
        fingerprint=lora.fingerprint(fingerprint(folder, digests=digests), adapters),
        defaults=lora.merge_defaults(read_defaults(folder), adapters),
        facts=facts,
    )
