"""Generator, the protocol of every text-to-image model, and what of it needs no weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from PIL import Image

    from generators.request import ImageRequest


@runtime_checkable
class GeneratorCard(Protocol):
    """What of a generator needs no weights: enough to make requests and to count tokens.

    Attributes:
        uri: what it was loaded from.
        fingerprint: sha256 of everything of the model that can change a pixel.
        max_tokens: the longest prompt, in tokens as `count_tokens` counts them.

    Example:
        >>> from generators import load
        >>> from generators.card import read_card, runtime_facts
        >>> card = read_card("embedded", facts=runtime_facts(device="cpu"))
        >>> generator = load("embedded", device="cpu")
        >>> card.request("a polyp", 7) == generator.request("a polyp", 7)
        True
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

    def count_tokens(self, prompt: str) -> int:
        """Tokens of the prompt, start and end tokens included."""
        ...


@runtime_checkable
class Generator(GeneratorCard, Protocol):
    """A text-to-image model.

    Example:
        >>> from generators import load
        >>> generator = load("embedded", device="cpu")
        >>> isinstance(generator, Generator), generator.count_tokens("a polyp") < generator.max_tokens
        (True, True)
    """

    def generate(self, requests: Sequence[ImageRequest]) -> Iterator[Image.Image]:
        """RGB images in the order of the requests; prompts and settings may mix."""
        ...
