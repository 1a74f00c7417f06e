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
from generators.errors import BatchHalvedError, GeneratorError, PromptTooLongError
from generators.folder import SDXL, fingerprint, pipeline_class, read_defaults
from generators.request import ImageRequest
from generators.stable_diffusion.batch_trial import find_batch_size, no_room
from generators.stable_diffusion.conditioning import Conditioning, PromptReader
from generators.stable_diffusion.pipeline import compile_networks, fixed_shapes, load_pipeline, place
from generators.stable_diffusion.pixels import to_pictures, to_pixels
from generators.stable_diffusion.runtime import Runtime, choose_runtime
from generators.stable_diffusion.sampling import Steer, autoencode, decode, denoise
from generators.stable_diffusion.schedulers import make_scheduler
from generators.stable_diffusion.text_once import text_once
from generators.stable_diffusion.tokens import lost_words
from promptopt.base.machine import is_out_of_memory, release_memory

if TYPE_CHECKING:
    from PIL import Image

_DEFAULT_STEPS, _DEFAULT_SCHEDULER = 30, "dpmpp_2m"
_DEFAULT_GUIDANCE, _DEFAULT_GUIDANCE_XL = 7.5, 5.0  # those of diffusers
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
        self.uri = uri if uri is not None else str(folder)
        self._runtime = choose_runtime(
            device=device,
            dtype=dtype,
            batch_size=1 if batch_size == "auto" else batch_size,
            compile_=compile,
        )
        self.fingerprint = lora.fingerprint(fingerprint(folder), adapters)
        defaults = lora.merge_defaults(read_defaults(folder), adapters)
        self._pipeline = load_pipeline(folder)
        lora.fuse(self._pipeline, adapters)
        place(self._pipeline, self._runtime)
        self._reader = PromptReader(self._pipeline, self._runtime.device)
        self.max_tokens = self._reader.max_tokens
        size = self._pipeline.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        factor = self._pipeline.vae_scale_factor
        usual = _DEFAULT_GUIDANCE_XL if pipeline_class(folder) == SDXL else _DEFAULT_GUIDANCE
        self._steps = defaults.steps or _DEFAULT_STEPS
        self._guidance = usual if defaults.guidance is None else defaults.guidance
        self._scheduler = defaults.scheduler or _DEFAULT_SCHEDULER
        self._width = defaults.width or width * factor
        self._height = defaults.height or height * factor
        # Bound per instance, so that the cache goes when the generator goes.
        self._read = lru_cache(maxsize=_CACHED_PROMPTS)(self._reader.read)
        self._counted = lru_cache(maxsize=8 * _CACHED_PROMPTS)(self.count_tokens)
        self._fitting_schedulers: set[str] = set()
        try:
            self.request("", 0)
        except GeneratorError as error:
            raise GeneratorError(f"{folder / 'promptopt.json'} does not fit the model: {error}") from error
        if batch_size == "auto":
            self._runtime = self._runtime.with_batch_size(find_batch_size(self._images_per_second))
        if self._runtime.compiled:
            compile_networks(self._pipeline)

    def __repr__(self) -> str:
        runtime = self._runtime
        return (
            f"DiffusionGenerator({self.uri!r}, device={str(runtime.device)!r}, dtype={runtime.dtype_name!r})"
        )

    @property
    def runtime(self) -> Runtime:
        """Device, number format, batch size and whether compiled."""
        return self._runtime

    @property
    def batch_size(self) -> int:
        """Images a forward pass; halved when memory runs out."""
        return self._runtime.batch_size

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
        request = ImageRequest(
            generator=self.fingerprint,
            prompt=prompt,
            negative_prompt=negative_prompt,
            seed=seed,
            steps=self._steps if steps is None else steps,
            guidance=self._guidance if guidance is None else guidance,
            scheduler=self._scheduler if scheduler is None else scheduler,
            width=self._width if width is None else width,
            height=self._height if height is None else height,
            dtype=self._runtime.dtype_name,
            device=self._runtime.device.type,
            versions=self._runtime.versions,
        )
        self._check(request)
        return request

    def count_tokens(self, prompt: str) -> int:
        """Tokens of the prompt by the model's own tokenizer, start and end tokens included."""
        return self._reader.count_tokens(prompt)

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
            self._check(request)
        return self._generate(requests, steer)

    @torch.no_grad()
    def reconstruct(self, pictures: Sequence[Image.Image]) -> list[Image.Image]:
        """Pictures as the autoencoder gives them back, at the model's own size: what it does to every image.

        One by one, so that none depends on the others. The mean of the latents is decoded, nothing is drawn.
        """
        found = []
        for picture in pictures:
            pixels = to_pixels(picture, width=self._width, height=self._height)
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

    def _check(self, request: ImageRequest) -> None:
        expected = {
            "generator": self.fingerprint,
            "dtype": self._runtime.dtype_name,
            "device": self._runtime.device.type,
            "versions": self._runtime.versions,
        }
        for name, value in expected.items():
            if getattr(request, name) != value:
                raise GeneratorError(
                    f"the request was made for {name} {getattr(request, name)!r}, {self.uri} has {value!r}; "
                    "make it anew with this generator's request()"
                )
        if request.scheduler not in self._fitting_schedulers:
            make_scheduler(
                request.scheduler, self._pipeline.scheduler
            )  # raises when it does not fit the model
            self._fitting_schedulers.add(request.scheduler)
        trained = self._pipeline.scheduler.config.num_train_timesteps
        if request.steps > trained:
            raise GeneratorError(
                f"steps is {request.steps}; this model was trained with {trained} and takes no more"
            )
        factor = self._pipeline.vae_scale_factor
        for name in ("width", "height"):
            if getattr(request, name) % factor:
                raise GeneratorError(
                    f"{name} is {getattr(request, name)}; this model makes multiples of {factor} pixels"
                )
        for prompt in (request.prompt, request.negative_prompt):
            if (count := self._counted(prompt)) > self.max_tokens:
                lost = lost_words(prompt, count=self.count_tokens, limit=self.max_tokens)
                raise PromptTooLongError(prompt, count=count, limit=self.max_tokens, lost=lost)

    def _batch(
        self, requests: list[ImageRequest], steer: Steer | None
    ) -> list[tuple[Image.Image, str | None]]:
        """`_run`, with the batch size halved when memory runs out."""
        try:
            return self._run(requests, steer)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # The exception is gone here, and with it the tensors that its frames held.
        release_memory()
        before = self.batch_size
        if before == 1:
            raise GeneratorError(f"{self.uri}: {no_room()}")
        self._runtime = self._runtime.with_batch_size(before // 2)
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
        self._runtime = self._runtime.with_batch_size(batch_size)
        steps = min(_TRIAL_STEPS, self._steps)
        request = self.request("", 0, steps=steps, guidance=max(self._guidance, 2.0))
        self._run([request] * batch_size)  # warms up; the clock would measure the choice of kernels
        start = time.perf_counter()
        self._run([request] * batch_size)
        return batch_size / (time.perf_counter() - start)


def _settings(request: ImageRequest) -> tuple[Any, ...]:
    """What all rows of a batch must share."""
    return request.steps, request.guidance, request.scheduler, request.width, request.height
