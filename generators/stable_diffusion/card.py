"""What a diffusion model asks of a request: its defaults, its limits, its tokenizer. No weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from generators.errors import GeneratorError, PromptTooLongError
from generators.folder import DEFAULTS_FILE, SDXL, ModelDefaults
from generators.request import ImageRequest
from generators.stable_diffusion.facts import RuntimeFacts
from generators.stable_diffusion.schedulers import make_scheduler
from generators.stable_diffusion.tokens import lost_words

_DEFAULT_STEPS, _DEFAULT_SCHEDULER = 30, "dpmpp_2m"
_DEFAULT_GUIDANCE, _DEFAULT_GUIDANCE_XL = 7.5, 5.0  # those of diffusers
_COUNTED_PROMPTS = 4096


@dataclass(frozen=True, kw_only=True)
class DiffusionCard:
    """A Stable Diffusion or SDXL model as far as requests are concerned. See `generators.card.read_card`.

    Attributes:
        uri, fingerprint, max_tokens: as of a `generators.Generator`.
        facts: of the runtime that makes the images.
        tokens: tokens of a prompt, start and end included.
        scheduler: the model's own diffusers scheduler.
        factor: pixels of an image for one of the latent.
        sampling: steps, guidance, scheduler, width and height where a request names none.
    """

    uri: str
    fingerprint: str
    facts: RuntimeFacts
    tokens: Callable[[str], int]
    max_tokens: int
    scheduler: Any
    factor: int
    sampling: ModelDefaults
    _fitting: set[str] = field(default_factory=set, repr=False)

    @property
    def batch_size(self) -> int:
        """Images a forward pass."""
        return self.facts.batch_size

    def with_facts(self, facts: RuntimeFacts) -> DiffusionCard:
        """The same model in another runtime."""
        return replace(self, facts=facts)

    def count_tokens(self, prompt: str) -> int:
        """Tokens of the prompt by the model's own tokenizer, start and end tokens included."""
        return self.tokens(prompt)

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
        own = self.sampling.model_dump()
        request = ImageRequest(
            generator=self.fingerprint,
            prompt=prompt,
            negative_prompt=negative_prompt,
            seed=seed,
            steps=own["steps"] if steps is None else steps,
            guidance=own["guidance"] if guidance is None else guidance,
            scheduler=own["scheduler"] if scheduler is None else scheduler,
            width=own["width"] if width is None else width,
            height=own["height"] if height is None else height,
            dtype=self.facts.dtype,
            device=self.facts.device,
            versions=self.facts.versions,
        )
        self.check(request)
        return request

    def check(self, request: ImageRequest) -> None:
        """Raise a GeneratorError where the model in this runtime cannot make the image."""
        expected = {
            "generator": self.fingerprint,
            "dtype": self.facts.dtype,
            "device": self.facts.device,
            "versions": self.facts.versions,
        }
        for name, value in expected.items():
            if getattr(request, name) != value:
                raise GeneratorError(
                    f"the request was made for {name} {getattr(request, name)!r}, {self.uri} has {value!r}; "
                    "make it anew with this generator's request()"
                )
        if request.scheduler not in self._fitting:
            make_scheduler(request.scheduler, self.scheduler)  # raises when it does not fit the model
            self._fitting.add(request.scheduler)
        trained = self.scheduler.config.num_train_timesteps
        if request.steps > trained:
            raise GeneratorError(
                f"steps is {request.steps}; this model was trained with {trained} and takes no more"
            )
        for name in ("width", "height"):
            if getattr(request, name) % self.factor:
                raise GeneratorError(
                    f"{name} is {getattr(request, name)}; this model makes multiples of {self.factor} pixels"
                )
        for prompt in (request.prompt, request.negative_prompt):
            if (count := self._counted(prompt)) > self.max_tokens:
                lost = lost_words(prompt, count=self.tokens, limit=self.max_tokens)
                raise PromptTooLongError(prompt, count=count, limit=self.max_tokens, lost=lost)

    def check_defaults(self, folder: Path) -> None:
        """Raise a GeneratorError where the folder's own defaults do not fit its model."""
        try:
            self.request("", 0)
        except GeneratorError as error:
            raise GeneratorError(f"{folder / DEFAULTS_FILE} does not fit the model: {error}") from error

    @cached_property
    def _counted(self) -> Callable[[str], int]:
        # bound to the instance, so that the cache goes when the card goes
        return lru_cache(maxsize=_COUNTED_PROMPTS)(self.tokens)


def completed(
    defaults: ModelDefaults, *, class_name: str, sample_size: int | tuple[int, int], factor: int
) -> ModelDefaults:
    """Defaults with nothing left open: what the folder does not say is the usual.

    Args:
        sample_size: of the UNet, in latent pixels: a side, or height and width.
    """
    height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
    usual = _DEFAULT_GUIDANCE_XL if class_name == SDXL else _DEFAULT_GUIDANCE
    return ModelDefaults(
        steps=defaults.steps or _DEFAULT_STEPS,
        guidance=usual if defaults.guidance is None else defaults.guidance,
        scheduler=defaults.scheduler or _DEFAULT_SCHEDULER,
        width=defaults.width or width * factor,
        height=defaults.height or height * factor,
    )


def read_from_folder(
    folder: Path, *, uri: str, fingerprint: str, defaults: ModelDefaults, facts: RuntimeFacts
) -> DiffusionCard:
    """The card of a diffusers folder: configurations and tokenizers are read, weights are not.

    Raises:
        GeneratorError: a file cannot be read, or the folder's defaults do not fit the model.
    """
    import diffusers
    import transformers

    from generators.folder import pipeline_class, read_config
    from generators.stable_diffusion.conditioning import Tokens

    class_name = pipeline_class(folder)
    index = read_config(folder / "model_index.json")
    ends = ("", "_2") if class_name == SDXL else ("",)
    config = transformers.CLIPTextConfig
    try:
        tokens = Tokens(
            [
                getattr(transformers, index[f"tokenizer{end}"][1]).from_pretrained(folder / f"tokenizer{end}")
                for end in ends
            ],
            [config.from_pretrained(folder / f"text_encoder{end}").max_position_embeddings for end in ends],
        )
        scheduler = getattr(diffusers, index["scheduler"][1]).from_pretrained(folder / "scheduler")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise GeneratorError(
            f"{folder}: its tokenizer or scheduler cannot be read ({error}); complete the download, or save "
            "the pipeline again"
        ) from error
    factor = 2 ** (len(read_config(folder / "vae" / "config.json").get("block_out_channels", [64])) - 1)
    size = read_config(folder / "unet" / "config.json").get("sample_size")
    if size is None:
        raise GeneratorError(
            f"{folder / 'unet' / 'config.json'}: sample_size is missing; save the pipeline again"
        )
    card = DiffusionCard(
        uri=uri,
        fingerprint=fingerprint,
        facts=facts,
        tokens=tokens.count,
        max_tokens=tokens.limit,
        scheduler=scheduler,
        factor=factor,
        sampling=completed(
            defaults,
            class_name=class_name,
            sample_size=size if isinstance(size, int) else (int(size[0]), int(size[1])),
            factor=factor,
        ),
    )
    card.check_defaults(folder)
    return card
