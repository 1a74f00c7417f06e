"""Stable Diffusion through diffusers, made reproducible under batching.

One image depends on its request alone: its noise comes from its own CPU generator in float32, its prompt is
encoded by itself, and every forward pass has the same number of rows (a short batch is filled up by
repetition), since rounding depends on the batch size but not on what else is in the batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from generators import lora
from generators.errors import GeneratorError, PromptTooLongError
from generators.folder import fingerprint, read_defaults
from generators.request import ImageRequest
from generators.schedulers import make_scheduler

if TYPE_CHECKING:
    from PIL import Image

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_DEFAULT_STEPS, _DEFAULT_GUIDANCE, _DEFAULT_SCHEDULER = 30, 7.5, "dpmpp_2m"
_CACHED_PROMPTS = 512


class DiffusionGenerator:
    """A Stable Diffusion folder in diffusers' layout as a Generator. See `generators.load` for the arguments.

    Raises:
        GeneratorError: a file is missing or unfit, or device, dtype or batch size cannot be had.
    """

    def __init__(
        self,
        folder: Path,
        *,
        uri: str | None = None,
        adapters: Sequence[lora.Adapter] = (),
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int | None = None,
    ) -> None:
        self.uri = uri if uri is not None else str(folder)
        self._device = _device(device)
        self._dtype_name = _dtype_name(dtype, self._device)
        self.batch_size = _batch_size(batch_size, self._device)
        self.fingerprint = lora.fingerprint(fingerprint(folder), adapters)
        defaults = lora.merge_defaults(read_defaults(folder), adapters)
        self._pipeline = _load_pipeline(
            folder, adapters, dtype=_DTYPES[self._dtype_name], device=self._device
        )
        unet, tokenizer = self._pipeline.unet, self._pipeline.tokenizer
        self.max_tokens = int(
            min(tokenizer.model_max_length, self._pipeline.text_encoder.config.max_position_embeddings)
        )
        tokenizer.model_max_length = self.max_tokens  # encode_prompt pads up to it
        size = unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        factor = self._pipeline.vae_scale_factor
        self._steps = defaults.steps or _DEFAULT_STEPS
        self._guidance = _DEFAULT_GUIDANCE if defaults.guidance is None else defaults.guidance
        self._scheduler = defaults.scheduler or _DEFAULT_SCHEDULER
        self._width = defaults.width or width * factor
        self._height = defaults.height or height * factor
        self._versions = _versions(self.batch_size)
        # Bound per instance, so that the cache goes when the generator goes.
        self._embedding = lru_cache(maxsize=_CACHED_PROMPTS)(self._encode)
        self._counted = lru_cache(maxsize=8 * _CACHED_PROMPTS)(self.count_tokens)
        self._fitting_schedulers: set[str] = set()
        try:
            self.request("", 0)
        except GeneratorError as error:
            raise GeneratorError(f"{folder / 'promptopt.json'} does not fit the model: {error}") from error

    def __repr__(self) -> str:
        return f"DiffusionGenerator({self.uri!r}, device={str(self._device)!r}, dtype={self._dtype_name!r})"

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
            dtype=self._dtype_name,
            device=self._device.type,
            versions=self._versions,
        )
        self._check(request)
        return request

    def count_tokens(self, prompt: str) -> int:
        """Tokens of the prompt by the model's own tokenizer, start and end tokens included."""
        return len(self._pipeline.tokenizer(prompt, truncation=False, verbose=False).input_ids)

    def generate(self, requests: Sequence[ImageRequest]) -> Iterator[Image.Image]:
        """RGB images in the order of the requests; prompts, negative prompts and settings may mix.

        Requests with equal settings share batches. All requests are checked before the first image is made.

        Raises:
            GeneratorError: a request was made for another model, dtype, device or library version, or an
                image came out with values that are not finite.
        """
        requests = list(requests)
        for request in dict.fromkeys(requests):
            self._check(request)
        return self._generate(requests)

    def _generate(self, requests: list[ImageRequest]) -> Iterator[Image.Image]:
        waiting: dict[tuple[Any, ...], list[int]] = {}
        for index in reversed(range(len(requests))):  # reversed, so that pop() takes the earliest
            waiting.setdefault(_settings(requests[index]), []).append(index)
        ready: dict[int, Image.Image] = {}
        for index, request in enumerate(requests):
            if index not in ready:
                group = waiting[_settings(request)]
                batch = [group.pop() for _ in range(min(self.batch_size, len(group)))]
                ready.update(zip(batch, self._run([requests[i] for i in batch]), strict=True))
            yield ready.pop(index)

    def _check(self, request: ImageRequest) -> None:
        expected = {
            "generator": self.fingerprint,
            "dtype": self._dtype_name,
            "device": self._device.type,
            "versions": self._versions,
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
                raise PromptTooLongError(prompt, count=count, limit=self.max_tokens)

    @torch.inference_mode()
    def _run(self, requests: list[ImageRequest]) -> list[Image.Image]:
        """One batch of requests with equal settings; returns as many images as requests."""
        first, count = requests[0], len(requests)
        rows = requests + [requests[-1]] * (self.batch_size - count)
        pipeline, dtype = self._pipeline, _DTYPES[self._dtype_name]
        unet, vae = pipeline.unet, pipeline.vae
        guided = first.guidance > 1
        embeddings = torch.cat([self._embedding(row.prompt) for row in rows])
        if guided:
            embeddings = torch.cat([*(self._embedding(row.negative_prompt) for row in rows), embeddings])
        scheduler = make_scheduler(first.scheduler, pipeline.scheduler)
        scheduler.set_timesteps(first.steps, device=self._device)
        noise_sources = [torch.Generator().manual_seed(row.seed) for row in rows]
        factor = pipeline.vae_scale_factor
        shape = (1, unet.config.in_channels, first.height // factor, first.width // factor)
        noise = [torch.randn(shape, generator=source, dtype=torch.float32) for source in noise_sources]
        latents = torch.cat(noise).to(self._device, dtype) * scheduler.init_noise_sigma
        takes_generator = "generator" in inspect.signature(scheduler.step).parameters
        extra = {"generator": noise_sources} if takes_generator else {}
        for timestep in scheduler.timesteps:
            inputs = torch.cat([latents, latents]) if guided else latents
            inputs = scheduler.scale_model_input(inputs, timestep)
            predicted = unet(inputs, timestep, encoder_hidden_states=embeddings, return_dict=False)[0]
            if guided:
                without, towards = predicted.chunk(2)
                predicted = without + first.guidance * (towards - without)
            latents = scheduler.step(predicted, timestep, latents, **extra, return_dict=False)[0]
        decoded = vae.decode(latents.to(dtype) / vae.config.scaling_factor, return_dict=False)[0][:count]
        finite = torch.isfinite(decoded).flatten(1).all(1).tolist()
        if not all(finite):
            request = requests[finite.index(False)]
            raise GeneratorError(
                f"{self.uri}: seed {request.seed}, scheduler {request.scheduler!r}, {request.steps} steps "
                f"and guidance {request.guidance} gave values that are not finite in {self._dtype_name}; "
                f"try float32 or another scheduler (prompt {request.prompt!r})"
            )
        return pipeline.image_processor.postprocess(decoded, output_type="pil")

    @torch.inference_mode()
    def _encode(self, prompt: str) -> torch.Tensor:
        """(1, max_tokens, width): each prompt by itself, so that no prompt depends on its batch mates."""
        return self._pipeline.encode_prompt(prompt, self._device, 1, False)[0]


def _settings(request: ImageRequest) -> tuple[Any, ...]:
    """What all rows of a batch must share."""
    return request.steps, request.guidance, request.scheduler, request.width, request.height


def _load_pipeline(
    folder: Path, adapters: Sequence[lora.Adapter], *, dtype: torch.dtype, device: torch.device
) -> Any:
    from diffusers import StableDiffusionPipeline

    try:
        with _quiet_loading():
            pipeline = StableDiffusionPipeline.from_pretrained(
                folder,
                use_safetensors=True,
                local_files_only=True,
                safety_checker=None,  # it paints false positives black, often so on endoscopy
                requires_safety_checker=False,
                feature_extractor=None,
                image_encoder=None,
            )
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, SafetensorError) as error:
        raise GeneratorError(
            f"{folder}: diffusers cannot load it ({error}); complete the download, or save the pipeline again"
        ) from error
    unet, vae = pipeline.unet, pipeline.vae
    if unet.config.in_channels != vae.config.latent_channels:
        raise GeneratorError(
            f"{folder}: the UNet takes {unet.config.in_channels} channels, "
            f"the VAE makes {vae.config.latent_channels}; "
            "inpainting and image-to-image models cannot make images from text alone"
        )
    if unet.config.time_cond_proj_dim is not None:
        raise GeneratorError(
            f"{folder}: the UNet takes the guidance scale as input (time_cond_proj_dim: a distilled model); "
            "take the model it was distilled from"
        )
    lora.fuse(pipeline, adapters)
    for module in (unet, vae, pipeline.text_encoder):
        # Cast here, since diffusers calls the argument torch_dtype or dtype depending on its version, and by
        # torch's own method, since diffusers' warns about layers kept in float32, of which there are none.
        torch.nn.Module.to(module, dtype)
    return pipeline.to(device)


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """Keeps the libraries' bars about loading components off the terminal, and restores their settings."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    shown = [log for log in (diffusers_logging, transformers_logging) if log.is_progress_bar_enabled()]
    for log in shown:
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log in shown:
            log.enable_progress_bar()


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise GeneratorError(f"device {name!r} is unknown; take auto, cpu, cuda or cuda:<index>") from error
    if device.type not in ("cpu", "cuda"):
        raise GeneratorError(f"device {name!r} is not supported; take auto, cpu, cuda or cuda:<index>")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise GeneratorError(
            f"device {name!r}: there are {torch.cuda.device_count()} CUDA devices here; take cpu"
        )
    return device


def _dtype_name(name: str, device: torch.device) -> str:
    if name == "auto":
        return "float16" if device.type == "cuda" else "float32"
    if name not in _DTYPES:
        raise GeneratorError(f"dtype {name!r} is unknown; take auto, {', '.join(_DTYPES)}")
    return name


def _batch_size(batch_size: int | None, device: torch.device) -> int:
    if batch_size is None:
        return 16 if device.type == "cuda" else 8
    if batch_size < 1:
        raise GeneratorError(f"batch_size is {batch_size}; it must be at least 1")
    return batch_size


def _versions(batch_size: int) -> str:
    """Libraries and the batch size: results of different batch sizes differ by rounding."""
    names = ("diffusers", "torch", "transformers")
    return ";".join([*(f"{name}={version(name)}" for name in names), f"batch={batch_size}"])
