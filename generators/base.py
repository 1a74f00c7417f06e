"""Generator, the protocol of every text-to-image model, and `load`, which finds one by its URI."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from generators.adapters.lora import SEPARATOR, find_adapter, split_uri
from generators.errors import GeneratorError
from promptopt.base.hub import HubAddress, downloading

if TYPE_CHECKING:
    from PIL import Image

    from generators.request import ImageRequest
    from generators.stable_diffusion.diffusion import DiffusionGenerator

EMBEDDED = Path(__file__).parent / "embedded" / "sd"
"""Folder of the small model that ships with the package."""


@runtime_checkable
class Generator(Protocol):
    """A text-to-image model.

    Attributes:
        uri: what it was loaded from.
        fingerprint: sha256 of everything of the model that can change a pixel.
        max_tokens: the longest prompt, in tokens as `count_tokens` counts them.
    """

    @property
    def uri(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def max_tokens(self) -> int: ...

    def request(
        self,
        prompt: str,
        seed: int,
        *,
        negative_prompt: str = "",
        steps: int | None = None,
        guidance: float | None = None,
        scheduler: str | None = None,
        width: int | None = None,
        height: int | None = None,
    ) -> ImageRequest:
        """A complete request, defaults filled in. Raises PromptTooLongError, GeneratorError."""
        ...

    def generate(self, requests: Sequence[ImageRequest]) -> Iterator[Image.Image]:
        """RGB images in the order of the requests; prompts and settings may mix."""
        ...

    def count_tokens(self, prompt: str) -> int:
        """Tokens of the prompt, start and end tokens included."""
        ...


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
        uri: "embedded" (the small model in the package), a diffusers folder, or "hf:owner/name[@revision]"
            (downloaded once, then read from the cache; HF_HUB_OFFLINE=1 keeps it to the cache). LoRA adapters
            follow as "+lora:PATH@SCALE", any number of them, see `generators.adapters.lora`. The CLIP
            baseline goes before all, as in "clip-guided:embedded?mode=best&n=4": see
            `generators.clip_baseline.clip_guided`.
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
    return _load_diffusion(
        uri, device=device, dtype=dtype, batch_size=batch_size, compile=compile, revision=revision
    )


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
    text = os.fspath(uri)
    if SEPARATOR in text:
        raise GeneratorError(
            f"{text}: a model with LoRA is no folder; leave out {SEPARATOR} and what follows"
        )
    if not text:
        raise GeneratorError('the generator\'s URI is empty; give "embedded", a folder, or "hf:owner/name"')
    if revision is not None and not text.startswith("hf:"):
        raise GeneratorError(f"{text}: revision {revision!r} only applies to hf:owner/name")
    if text == "embedded":
        if not (EMBEDDED / "model_index.json").is_file():
            raise GeneratorError(
                f"embedded: {EMBEDDED / 'model_index.json'} is missing: the small model is not built yet; "
                "build it with scripts/build_embedded.py, or install a released package"
            )
        return EMBEDDED
    if text.startswith("hf:"):
        return _from_hub(text, revision)
    return Path(text).expanduser()


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
