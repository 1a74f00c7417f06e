"""ImageEngine, the protocol of who makes images into a store: this process, other processes, a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from generators.request import ImageRequest
from generators.store import Store, StoredImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from generators.bad_images import BadImage


@dataclass(frozen=True)
class Made:
    """An image that came to be.

    Attributes:
        asked: the request asked for. Where memory ran out, the image has one for a smaller batch.
        image: in the store.
        new: whether it was generated now.
        features: address of an encoder -> features (dim,), float32, of the encoders the engine was given.
    """

    asked: ImageRequest
    image: StoredImage
    new: bool
    features: Mapping[str, NDArray[Any]] = field(default_factory=dict, compare=False)


@runtime_checkable
class ImageEngine(Protocol):
    """Makes images into a store. An image depends on its request alone, so the bytes are the same by all.

    `promptopt.testing.EngineSuite` holds an engine to it.

    Attributes:
        store: where the images go.
    """

    @property
    def store(self) -> Store: ...

    def make(
        self,
        requests: Iterable[ImageRequest],
        *,
        ahead: int,
        on_bad: Callable[[BadImage], None] | None = None,
    ) -> Iterator[Made]:
        """Each of the distinct requests once, as they come to be, in any order.

        Args:
            requests: read as they are needed, so that there may be millions.
            ahead: requests that are read before their images have been taken; an engine that hands out
                chunks reads a whole one at least.
            on_bad: called with each bad image as it comes up, in place of the error.

        Raises:
            BadImageError: at the end, when all others were given; before it when most are bad.
            LostWorkersError: at the end, with the requests that end whoever makes them; before it when
                nobody is left to make images.
            GeneratorError: a request that the generator refuses.
            StoreError: the store cannot be written.
        """
        ...

    def close(self) -> None:
        """End what was started; what was made is in the store. The next `make` starts it again."""
        ...
