"""Stable Diffusion and SDXL through diffusers, made reproducible under batching.

One image depends on its request alone: its noise comes from its own CPU generator in float32, its prompt is
encoded by itself, and every forward pass has the same number of rows (a short batch is filled up by
repetition), since rounding depends on the batch size but not on what else is in the batch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from generators.adapters import lora
from generators.bad_images import BadImage, BadImageError
from generators.errors import BatchHalvedError, GeneratorError
from generators.folder import fingerprint, pipeline_class, read_defaults
from generators.request import ImageRequest
from generators.stable_diffusion.batch_trial import find_batch_size, no_room
from generators.stable_diffusion.card import DiffusionCard, completed
from generators.stable_diffusion.conditioning import Conditioning, PromptReader
from generators.stable_diffusion.pipeline import compile_networks, fixed_shapes, load_pipeline, place
from generators.stable_diffusion.pixels import to_pictures, to_pixels
from generators.stable_diffusion.runtime import Runtime, choose_runtime
from generators.stable_diffusion.sampling import Steer, autoencode, decode, denoise
from generators.stable_diffusion.text_once import text_once
from promptopt.base.machine import is_out_of_memory, release_memory

if TYPE_CHECKING:
    from PIL import Image

_CACHED_PROMPTS = 512
_TRIAL_STEPS = 4


class DiffusionGenerator:
    """A Stable Diffusion or SDXL folder in diffusers' layout as a Generator. See `generators.load`.

    Raises:
        GeneratorError: a file is missing or unfit, or device, dtype, batch size or compiler cannot be had.
    """

    def __init__(
        self,
        folder: Path,
        *,
        uri: str | None = None,
        adapters: Sequence[lora.Adapter] = (),
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int | Literal["auto"] | None = None,
        compile: Literal["auto", "on", "off"] = "auto",  # noqa: A002  as torch calls it
    ) -> None:
        self._runtime = choose_runtime(
            device=device,
            dtype=dtype,
            batch_size=1 if batch_size == "auto" else batch_size,
            compile_=compile,
        )
        digest = lora.fingerprint(fingerprint(folder), adapters)
        self._pipeline = load_pipeline(folder)
        lora.fuse(self._pipeline, adapters)
        place(self._pipeline, self._runtime)
        self._reader = PromptReader(self._pipeline, self._runtime.device)
        # Bound per instance, so that the cache goes when the generator goes.
        self._read = lru_cache(maxsize=_CACHED_PROMPTS)(self._reader.read)
        factor = self._pipeline.vae_scale_factor
        self._card = DiffusionCard(
            uri=uri if uri is not None else str(folder),
            fingerprint=digest,
            facts=self._runtime.facts,
            tokens=self._reader.tokens.count,
            max_tokens=self._reader.tokens.limit,
            scheduler=self._pipeline.scheduler,
            factor=factor,
            sampling=completed(
                lora.merge_defaults(read_defaults(folder), adapters),
                class_name=pipeline_class(folder),
                sample_size=self._pipeline.unet.config.sample_size,
                factor=factor,
            ),
        )
        self._card.check_defaults(folder)
        if batch_size == "auto":
            self._set_batch_size(find_batch_size(self._images_per_second))
        if self._runtime.compiled:
            compile_networks(self._pipeline)

    def __repr__(self) -> str:
        runtime = self._runtime
        return (
            f"DiffusionGenerator({self.uri!r}, device={str(runtime.device)!r}, dtype={runtime.dtype_name!r})"
        )

    @property
    def uri(self) -> str:
        """What it was loaded from."""
        return self._card.uri

    @property
    def fingerprint(self) -> str:
        """sha256 of the folder's files and the adapters."""
        return self._card.fingerprint

    @property
    def max_tokens(self) -> int:
        """The longest prompt, start and end tokens included."""
        return self._card.max_tokens

    @property
    def runtime(self) -> Runtime:
        """Device, number format, batch size and whether compiled."""
        return self._runtime

    @property
    def batch_size(self) -> int:
        """Images a forward pass; halved when memory runs out."""
        return self._runtime.batch_size

    def _set_batch_size(self, batch_size: int) -> None:
        self._runtime = self._runtime.with_batch_size(batch_size)
        self._card = self._card.with_facts(self._runtime.facts)

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
        """A complete request; None takes the model's default (`promptopt.json`, else the usual ones).

        Raises:
            PromptTooLongError: either prompt has more than `max_tokens` tokens.
            GeneratorError: a setting is out of range or the size does not fit the model.
        """
        return self._card.request(
            prompt,
            seed,
            negative_prompt=negative_prompt,
            steps=steps,
            guidance=guidance,
            scheduler=scheduler,
            width=width,
            height=height,
        )

    def count_tokens(self, prompt: str) -> int:
        """Tokens of the prompt by the model's own tokenizer, start and end tokens included."""
        return self._card.count_tokens(prompt)

    def generate(
        self, requests: Sequence[ImageRequest], *, steer: Steer | None = None
    ) -> Iterator[Image.Image]:
        """RGB images in the order of the requests; prompts, negative prompts and settings may mix.

        Requests with equal settings share batches. All requests are checked before the first image is made.

        Args:
            requests: made by `request()`.
            steer: takes over every denoising step (`sampling.Step`); None leaves it to the model.

        Raises:
            GeneratorError: a request was made for another model, dtype, device or library version, or there
                is no memory for a single image.
            BadImageError: an image came out black, of one color or with values that are not finite. Those
                before it have been handed out.
            BatchHalvedError: memory ran out; requests have to be made anew for the smaller batch.
        """
        requests = list(requests)
        for request in dict.fromkeys(requests):
            self._card.check(request)
        return self._generate(requests, steer)

    @torch.no_grad()
    def reconstruct(self, pictures: Sequence[Image.Image]) -> list[Image.Image]:
        """Pictures as the autoencoder gives them back, at the model's own size: what it does to every image.

        One by one, so that none depends on the others. The mean of the latents is decoded, nothing is drawn.
        """
        found, size = [], self._card.sampling.model_dump()
        for picture in pictures:
            pixels = to_pixels(picture, width=size["width"], height=size["height"])
            decoded = autoencode(self._pipeline, pixels.to(self._runtime.device))
            found.append(to_pictures(decoded)[0][0])
        return found

    def _generate(self, requests: list[ImageRequest], steer: Steer | None) -> Iterator[Image.Image]:
        waiting: dict[tuple[Any, ...], list[int]] = {}
        for index in reversed(range(len(requests))):  # reversed, so that pop() takes the earliest
            waiting.setdefault(_settings(requests[index]), []).append(index)
        ready: dict[int, tuple[Image.Image, str | None]] = {}
        made = 0
        for index, request in enumerate(requests):
            if index not in ready:
                group = waiting[_settings(request)]
                batch = [group.pop() for _ in range(min(self.batch_size, len(group)))]
                ready.update(zip(batch, self._batch([requests[i] for i in batch], steer), strict=True))
                made += len(batch)
            image, fault = ready.pop(index)
            if fault is not None:
                others = [BadImage(requests[i], said) for i, (_, said) in ready.items() if said is not None]
                raise BadImageError([BadImage(request, fault), *others], made=made)
            yield image

    def _batch(
        self, requests: list[ImageRequest], steer: Steer | None
    ) -> list[tuple[Image.Image, str | None]]:
        """`_run`, with the batch size halved when memory runs out."""
        try:
            with self._runtime.own_threads():
                return self._run(requests, steer)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # The exception is gone here, and with it the tensors that its frames held.
        release_memory()
        before = self.batch_size
        if before == 1:
            raise GeneratorError(f"{self.uri}: {no_room()}")
        self._set_batch_size(before // 2)
        raise BatchHalvedError(before, self.batch_size)

    @torch.no_grad()
    def _run(
        self, requests: list[ImageRequest], steer: Steer | None = None
    ) -> list[tuple[Image.Image, str | None]]:
        """One batch of requests with equal settings; as many images as requests, each with its fault."""
        count, runtime = len(requests), self._runtime
        rows = requests + [requests[-1]] * (runtime.batch_size - count)
        texts = [self._read(row.prompt) for row in rows]
        if rows[0].guidance > 1:
            texts = [*(self._read(row.negative_prompt, negative=True) for row in rows), *texts]
        with fixed_shapes() if runtime.compiled else text_once(self._pipeline.unet):
            latents = denoise(
                self._pipeline,
                rows,
                Conditioning.joined(texts),
                device=runtime.device,
                dtype=runtime.dtype,
                steer=steer,
            )
            decoded = decode(self._pipeline, latents)
        return to_pictures(decoded[:count])

    def _images_per_second(self, batch_size: int) -> float:
        """Speed of whole batches of the default size, uncompiled, with guidance on."""
        self._set_batch_size(batch_size)
        own = self.request("", 0)
        steps = min(_TRIAL_STEPS, own.steps)
        request = self.request("", 0, steps=steps, guidance=max(own.guidance, 2.0))
        self._run([request] * batch_size)  # warms up; the clock would measure the choice of kernels
        start = time.perf_counter()
        self._run([request] * batch_size)
        return batch_size / (time.perf_counter() - start)


def _settings(request: ImageRequest) -> tuple[Any, ...]:
    """What all rows of a batch must share."""
    return request.steps, request.guidance, request.scheduler, request.width, request.height
