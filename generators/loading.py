"""From the URI of a text-to-image model to the model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from generators.adapters.lora import SEPARATOR, find_adapter, split_uri
from generators.base import Generator
from generators.errors import GeneratorError
from generators.single_file.convert import MARK, is_single_file, single_file_folder
from promptopt.base import plugins
from promptopt.base.hub import PREFIX, HubAddress, downloading, with_prefix

if TYPE_CHECKING:
    from generators.stable_diffusion.diffusion import DiffusionGenerator

EMBEDDED = Path(__file__).parent / "embedded" / "sd"
"""Folder of the small model that ships with the package."""


def load(
    uri: str | os.PathLike[str],
    *,
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int | Literal["auto"] | None = None,
    compile: Literal["auto", "on", "off"] = "auto",  # noqa: A002  as torch calls it
    revision: str | None = None,
) -> Generator:
    """Loads a text-to-image model: Stable Diffusion 1.x and 2.x, and SDXL.

    Args:
        uri: "embedded" (the small model in the package), a diffusers folder, "hf:owner/name[@revision]" or
            owner/name (downloaded once, then read from the cache; HF_HUB_OFFLINE=1 keeps it to the cache), or
            a checkpoint file FILE.safetensors (also hf:owner/name/FILE.safetensors), which is converted once;
            see `generators.single_file.convert`. LoRA adapters
            follow as "+lora:PATH@SCALE", any number of them, see `generators.adapters.lora`. The CLIP
            baseline goes before all, as in "clip-guided:embedded?mode=best&n=4": see
            `generators.clip_baseline.clip_guided`. "name:rest" is a generator that an installed package
            registers under that name, see `promptopt.base.plugins`.
        device: "auto" (a CUDA device when there is one), "cpu", "cuda" or "cuda:<index>".
        dtype: "auto" (float16 on CUDA, float32 on the CPU), "float32", "float16" or "bfloat16".
        batch_size: images a forward pass; None for 8 on the CPU, 16 on CUDA; "auto" tries powers of two until
            doubling no longer pays or does not fit. Part of every request's `versions`, because rounding
            depends on it. When memory runs out it is halved (see BatchHalvedError).
        compile: "on" compiles UNet and VAE decoder with torch.compile (a minute or so on first use, and again
            for every new size); "auto" does so on CUDA where the compiler works. Part of `versions` too.
        revision: branch, tag or commit of a hub repository.

    Raises:
        GeneratorError: the model cannot be found or used; the message names the file and the remedy.
        PluginError: the package that registers the name cannot be loaded.

    Example:
        >>> generator = load("embedded", device="cpu")
        >>> generator.request("a polyp", 1).width
        64
    """
    if os.fspath(uri).startswith("clip-guided:"):
        from generators.clip_baseline.clip_guided import ClipGuidedGenerator, parse_uri

        guidance = parse_uri(os.fspath(uri))
        base = _load_diffusion(
            guidance.base,
            device=device,
            dtype=dtype,
            batch_size=batch_size,
            compile=compile,
            revision=revision,
        )
        return ClipGuidedGenerator(base, guidance, uri=os.fspath(uri))
    settings = {"device": device, "dtype": dtype, "batch_size": batch_size, "compile": compile}
    if (plugin := _from_plugin(os.fspath(uri), revision=revision, **settings)) is not None:
        return plugin
    return _load_diffusion(
        uri, device=device, dtype=dtype, batch_size=batch_size, compile=compile, revision=revision
    )


def _from_plugin(uri: str, **settings: Any) -> Generator | None:
    if uri == "embedded" or uri.startswith(PREFIX):
        return None
    name = plugins.scheme(uri)
    if name is None:
        return None
    make = plugins.find(plugins.GENERATORS, name)
    if make is not None:
        generator = make(uri[len(name) + 1 :], **settings)
        if not isinstance(generator, Generator):
            raise GeneratorError(
                f"{uri}: the plug-in gave a {type(generator).__name__}, which is no generators.Generator"
            )
        return generator
    if not Path(uri.split(SEPARATOR)[0]).exists():
        known = ", ".join(plugins.names(plugins.GENERATORS)) or "none"
        raise GeneratorError(
            f"{uri}: no installed package registers a generator {name!r} (there are: {known}); install it, "
            'or give "embedded", a folder, or "hf:owner/name"'
        )
    return None


def _load_diffusion(
    uri: str | os.PathLike[str], *, revision: str | None, **settings: Any
) -> DiffusionGenerator:
    base, addresses = split_uri(os.fspath(uri))
    folder = resolve(base, revision=revision)
    adapters = [find_adapter(address) for address in addresses]
    from generators.stable_diffusion.diffusion import DiffusionGenerator

    return DiffusionGenerator(folder, uri=os.fspath(uri), adapters=adapters, **settings)


def resolve(uri: str | os.PathLike[str], *, revision: str | None = None) -> Path:
    """The diffusers folder a URI of `load` stands for, downloaded if need be; what is in it is not checked.

    Raises GeneratorError when the URI is malformed or names adapters (no folder holds the two together), the
    embedded model is not built or the download fails.
    """
    text = with_prefix(os.fspath(uri))
    if SEPARATOR in text:
        raise GeneratorError(
            f"{text}: a model with LoRA is no folder; leave out {SEPARATOR} and what follows"
        )
    if not text:
        raise GeneratorError('the generator\'s URI is empty; give "embedded", a folder, or "hf:owner/name"')
    if revision is not None and not text.startswith(PREFIX):
        raise GeneratorError(f"{text}: revision {revision!r} only applies to hf:owner/name")
    if text == "embedded":
        if not (EMBEDDED / "model_index.json").is_file():
            raise GeneratorError(
                f"embedded: {EMBEDDED / 'model_index.json'} is missing: the small model is not built yet; "
                "build it with scripts/build_embedded.py, or install a released package"
            )
        return EMBEDDED
    if is_single_file(text):
        return single_file_folder(_file_from_hub(text, revision) if text.startswith(PREFIX) else text)
    if text.startswith(PREFIX):
        return _from_hub(text, revision)
    return Path(text).expanduser()


def _file_from_hub(uri: str, revision: str | None) -> str:
    """The address of a checkpoint file on the hub with the path of the downloaded file in its place."""
    named, mark, config = uri.partition(MARK)
    address = HubAddress.parse(named, revision=revision, file=True, error=GeneratorError)
    from huggingface_hub import hf_hub_download

    with downloading(address, error=GeneratorError, instead="the path of a local file"):
        path = hf_hub_download(address.repository, str(address.file), revision=address.revision)
    return f"{path}{mark}{config}"


def _from_hub(uri: str, revision: str | None) -> Path:
    address = HubAddress.parse(uri, revision=revision, error=GeneratorError)
    from diffusers import DiffusionPipeline

    with downloading(address, error=GeneratorError, instead="the path of a local diffusers folder"):
        # Weights in pickle files are neither downloaded nor read, and the safety checker stays away.
        return Path(
            DiffusionPipeline.download(
                address.repository,
                revision=address.revision,
                use_safetensors=True,
                safety_checker=None,
                feature_extractor=None,
                image_encoder=None,
            )
        )
