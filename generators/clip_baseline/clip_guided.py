"""The CLIP baseline: a generator whose images are chosen, or pushed, to agree with the prompt by CLIP.

    clip-guided:<base>?clip=<address>&mode=best&n=4
    clip-guided:<base>?clip=<address>&mode=gradient&scale=100

`<base>` is any URI of `generators.load`. Every setting may be left out:

clip    "embedded" (default), a folder in open_clip's format, or "open_clip:MODEL/WEIGHTS"
mode    "best" (default): of n images of the base, from the seed and from n - 1 seeds derived from it, the one
        most similar to the prompt. "gradient": classifier guidance, with CLIP as the classifier, through the
        decoded estimate of the final image at each step.
n       for "best": 1 to 64, default 4; the time is n times the base's.
scale   for "gradient": what the cosine similarity is multiplied by to be a log-likelihood, default 100 (the
        inverse temperature at which CLIP's own training stops); 0 is the base itself.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import numpy as np
import torch
from PIL import Image

from generators.bad_images import BadImage, BadImageError
from generators.clip_baseline.clip import load_clip
from generators.errors import GeneratorError, PromptTooLongError
from generators.request import MAX_SEED, ImageRequest
from generators.stable_diffusion.sampling import Step
from generators.stable_diffusion.tokens import lost_words
from promptopt.base.seeds import hashed_seed

if TYPE_CHECKING:
    from generators.stable_diffusion.diffusion import DiffusionGenerator

PREFIX = "clip-guided:"
_MODES = ("best", "gradient")
_LARGEST_N = 64
_LARGEST_CHANGE = 0.3  # of a step's prediction, as a share of what v varies by
_FAINT = 1e-3  # below this share of the image in the latents, their estimate of it says nothing


@dataclass(frozen=True, kw_only=True)
class ClipGuidance:
    """What a clip-guided URI says: base URI, CLIP's address, and the mode with its one setting."""

    base: str
    clip: str = "embedded"
    mode: str = "best"
    n: int = 4
    scale: float = 100.0

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that change images."""
        own = {"n": self.n} if self.mode == "best" else {"scale": self.scale}
        return {"mode": self.mode, **own}


def parse_uri(uri: str) -> ClipGuidance:
    """The settings in a clip-guided URI. Raises GeneratorError naming what is wrong with it."""
    base, _, query = uri.removeprefix(PREFIX).partition("?")
    if not base or base.startswith(PREFIX):
        raise GeneratorError(
            f"{uri}: write {PREFIX}<base>?clip=...&mode=best&n=4 with another generator's URI"
        )
    try:
        pairs = parse_qsl(query.replace("+", "%2B"), keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise GeneratorError(f"{uri}: {error}; settings are key=value, joined by &") from error
    settings = dict(pairs)
    known = ("clip", "mode", "n", "scale")
    if len(settings) < len(pairs) or not set(settings) <= set(known):
        raise GeneratorError(f"{uri}: settings are {', '.join(known)}, each at most once")
    mode = settings.get("mode", "best")
    if mode not in _MODES:
        raise GeneratorError(f"{uri}: mode is {mode!r}; take {' or '.join(_MODES)}")
    foreign = "scale" if mode == "best" else "n"
    if foreign in settings:
        raise GeneratorError(f"{uri}: {foreign} does nothing in mode {mode}; leave it out")
    return ClipGuidance(
        base=base,
        clip=settings.get("clip") or "embedded",
        mode=mode,
        n=_number(uri, settings, "n", int, 4, 1, _LARGEST_N),
        scale=_number(uri, settings, "scale", float, 100.0, 0, 1e6),
    )


def derived_seed(seed: int, index: int) -> int:
    """Seed of a candidate: the request's own for index 0, else a hash of both, 0 to 2**63 - 1."""
    if index == 0:
        return seed
    return hashed_seed(f"{seed}/{index}") & MAX_SEED


class ClipGuidedGenerator:
    """A DiffusionGenerator under CLIP's guidance, as a Generator.

    Raises:
        GeneratorError: the CLIP cannot be loaded.
    """

    def __init__(self, base: DiffusionGenerator, guidance: ClipGuidance, *, uri: str) -> None:
        self.uri = uri
        self._base = base
        self._guidance = guidance
        self._device = base.runtime.device
        self._clip = load_clip(guidance.clip, device=self._device)
        self.max_tokens = min(base.max_tokens, self._clip.context_length)
        identity = {"base": base.fingerprint, "clip": self._clip.fingerprint, **guidance.identity}
        self.fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def __repr__(self) -> str:
        return f"ClipGuidedGenerator({self.uri!r})"

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
        """A complete request; what is None is the base's default.

        Raises:
            PromptTooLongError: a prompt is too long for the base, or the prompt for the CLIP.
            GeneratorError: a setting is out of range or does not fit the base.
        """
        asked = self._base.request(
            prompt,
            seed,
            negative_prompt=negative_prompt,
            steps=steps,
            guidance=guidance,
            scheduler=scheduler,
            width=width,
            height=height,
        )
        request = replace(asked, generator=self.fingerprint, versions=self._versions)
        self._check(request)
        return request

    def count_tokens(self, prompt: str) -> int:
        """Tokens of the prompt, start and end included, by the base or by the CLIP, whichever counts more."""
        return max(self._base.count_tokens(prompt), self._clip.count_tokens(prompt))

    def generate(self, requests: Sequence[ImageRequest]) -> Iterator[Image.Image]:
        """RGB images in the order of the requests. Raises what `DiffusionGenerator.generate` does."""
        requests = list(requests)
        for request in dict.fromkeys(requests):
            self._check(request)
        return self._best(requests) if self._guidance.mode == "best" else self._pushed(requests)

    @property
    def _versions(self) -> str:
        return f"{self._base.runtime.versions};open_clip={version('open_clip_torch')}"

    def _check(self, request: ImageRequest) -> None:
        for name, value in {"generator": self.fingerprint, "versions": self._versions}.items():
            if getattr(request, name) != value:
                raise GeneratorError(
                    f"the request was made for {name} {getattr(request, name)!r}, {self.uri} has {value!r}; "
                    "make it anew with this generator's request()"
                )
        if (count := self.count_tokens(request.prompt)) > self.max_tokens:
            lost = lost_words(request.prompt, count=self.count_tokens, limit=self.max_tokens)
            raise PromptTooLongError(request.prompt, count=count, limit=self.max_tokens, lost=lost)

    def _candidate(self, request: ImageRequest, index: int = 0) -> ImageRequest:
        return replace(
            request,
            generator=self._base.fingerprint,
            versions=self._base.runtime.versions,
            seed=derived_seed(request.seed, index),
        )

    def _best(self, requests: list[ImageRequest]) -> Iterator[Image.Image]:
        n = self._guidance.n
        asked = [self._candidate(request, index) for request in requests for index in range(n)]
        owners = {candidate: requests[place // n] for place, candidate in enumerate(asked)}
        images = _blaming(self._base.generate(asked), owners)
        for request in requests:
            candidates = [next(images) for _ in range(n)]
            yield candidates[int(self._similarity(request.prompt, candidates).argmax())]

    def _pushed(self, requests: list[ImageRequest]) -> Iterator[Image.Image]:
        asked = [self._candidate(request) for request in requests]
        owners = dict(zip(asked, requests, strict=True))
        yield from _blaming(self._base.generate(asked, steer=self._steer), owners)

    @torch.no_grad()
    def _similarity(self, prompt: str, images: Sequence[Image.Image]) -> torch.Tensor:
        """Cosines (n,) of one request's candidates: n rows a pass, whatever else is asked for."""
        pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).to(self._device)
        return self._clip.images(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1) @ self._clip.text(prompt)

    def _steer(self, step: Step) -> torch.Tensor:
        """Classifier guidance (Dhariwal and Nichol 2021, algorithm 2), scale x cosine the log-likelihood."""
        if step.signal < _FAINT or self._guidance.scale == 0:
            return step.predict(step.latents)
        image, noise = math.sqrt(step.signal), math.sqrt(1 - step.signal)
        with torch.enable_grad():
            latents = step.latents.detach().requires_grad_(True)
            predicted = step.predict(latents)
            clean = {
                "epsilon": lambda: (latents - noise * predicted) / image,
                "v_prediction": lambda: image * latents - noise * predicted,
                "sample": lambda: predicted,
            }[step.prediction_type]()
            texts = torch.stack([self._clip.text(request.prompt) for request in step.requests])
            cosines = (self._clip.images(step.decode(clean)) * texts).sum(1)
            (gradient,) = torch.autograd.grad(self._guidance.scale * cosines.sum(), latents)
        # The predicted noise moves by -noise x gradient. In v-prediction that is 1 / image times as much: no
        # bound while the latents are nearly all noise, so each row is kept to a part of what v varies by.
        change = -noise / image * gradient.float()
        size = change.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        change = change * (_LARGEST_CHANGE / size.clamp(min=_LARGEST_CHANGE))
        factor = {"epsilon": image, "v_prediction": 1.0, "sample": -noise}
        return (predicted + (factor[step.prediction_type] * change).to(predicted.dtype)).detach()


def _blaming(
    images: Iterator[Image.Image], owners: dict[ImageRequest, ImageRequest]
) -> Iterator[Image.Image]:
    """The images; errors about bad ones name the request that wanted them, not the base's."""
    try:
        yield from images
    except BadImageError as error:
        own = dict.fromkeys(BadImage(owners[image.request], image.fault) for image in error.images)
        raise BadImageError(tuple(own), made=error.made) from error


def _number(
    uri: str,
    settings: dict[str, str],
    name: str,
    kind: Callable[[str], Any],
    default: Any,
    low: float,
    high: float,
) -> Any:
    try:
        value = kind(settings[name]) if name in settings else default
    except ValueError as error:
        raise GeneratorError(f"{uri}: {name} is {settings[name]!r}; it must be a number") from error
    if not low <= value <= high:
        raise GeneratorError(f"{uri}: {name} is {value}; it must lie between {low} and {high:g}")
    return value
