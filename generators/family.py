"""Several generators as one: a search can vary the generator, and its adapters' scale, beside the words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from generators.adapters.lora import scale_uri
from generators.errors import GeneratorError

if TYPE_CHECKING:
    from PIL import Image

    from generators.base import Generator
    from generators.engine import ImageEngine
    from generators.request import ImageRequest
    from generators.store import Store

MAIN = "main"
"""Name of the generator that is meant where a request names none."""

Member = tuple[str, float | None]
"""Name of a generator, and the factor of its adapters' scales (None: as the address has them)."""


def member_name(generator: str | None = None, lora_scale: float | None = None) -> str:
    """What a member is called in files and messages: "main", "sharp", "sharp at 0.5"."""
    name = generator or MAIN
    return name if lora_scale is None else f"{name} at {lora_scale:g}"


def split_settings(settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The `member_name` that settings of a request say, and the other settings."""
    rest = dict(settings)
    return member_name(rest.pop("generator", None), rest.pop("lora_scale", None)), rest


def member_uris(uris: Mapping[str, str], parameters: Mapping[str, Sequence[Any]]) -> dict[Member, str]:
    """Addresses of all combinations, the main one first.

    Args:
        uris: address by name, MAIN among them.
        parameters: values that are tried, of "generator" and "lora_scale" where they are; others do not
            matter.

    Raises:
        GeneratorError: a name without an address, or a scale for an address without adapters.
    """
    wanted: list[Member] = [(MAIN, None)]
    names, scales = parameters.get("generator") or [MAIN], parameters.get("lora_scale") or [None]
    wanted += [(str(name), scale) for name in names for scale in scales]
    found = {}
    for name, scale in dict.fromkeys(wanted):
        if name not in uris:
            raise GeneratorError(f"generator {name!r} has no address; there are {', '.join(uris)}")
        found[name, scale] = uris[name] if scale is None else scale_uri(uris[name], scale)
    return found


def load_members(uris: Mapping[Member, str], load: Callable[[str], Generator]) -> Generator:
    """The generators of these addresses (see `member_uris`), each loaded once; a single one as it is."""
    loaded = {uri: load(uri) for uri in dict.fromkeys(uris.values())}
    if len(uris) == 1:
        return next(iter(loaded.values()))
    return GeneratorFamily({member: loaded[uri] for member, uri in uris.items()})


class GeneratorFamily:
    """A Generator whose requests may name a member: `request(..., generator="sharp", lora_scale=0.5)`.

    An image is the one that the member makes alone. Every member stays in memory.

    Args:
        members: the main one first.
    """

    def __init__(self, members: Mapping[Member, Generator]) -> None:
        self._members = dict(members)
        self._main = self._members[MAIN, None]
        self._by_fingerprint = {one.fingerprint: one for one in self._members.values()}
        total = hashlib.sha256(b"family of generators\n")
        for member, one in sorted(self.fingerprints.items()):
            total.update(f"{member}\0{one}\n".encode())
        self.uri = self._main.uri
        self.fingerprint = total.hexdigest()
        self.max_tokens = min(one.max_tokens for one in self._by_fingerprint.values())

    @classmethod
    def alike(cls, generator: Generator, members: Sequence[Member]) -> GeneratorFamily:
        """One generator in every place: to draw what was found with several."""
        return cls({(MAIN, None): generator, **dict.fromkeys(members, generator)})

    @property
    def uris(self) -> tuple[str, ...]:
        """Addresses of the members, each once, the main one first."""
        return tuple(dict.fromkeys(one.uri for one in self._members.values()))

    @property
    def fingerprints(self) -> dict[str, str]:
        """Fingerprint of each member by its `member_name`."""
        return {member_name(*member): one.fingerprint for member, one in self._members.items()}

    @property
    def batch_size(self) -> int:
        """The least of its members'; 1 where one does not say."""
        return min(int(getattr(one, "batch_size", 1)) for one in self._by_fingerprint.values())

    def request(
        self,
        prompt: str,
        seed: int,
        *,
        generator: str | None = None,
        lora_scale: float | None = None,
        **settings: Any,
    ) -> ImageRequest:
        """A complete request to a member, whose own defaults fill it in.

        Raises:
            GeneratorError: no such member; further as the member does.
        """
        member = (generator or MAIN, lora_scale)
        if member not in self._members:
            known = ", ".join(self.fingerprints)
            raise GeneratorError(f"there is no generator {member_name(*member)!r}; there are {known}")
        return self._members[member].request(prompt, seed, **settings)

    def maker(self, request: ImageRequest) -> Generator:
        """The member that a request was made for. Raises GeneratorError where there is none."""
        try:
            return self._by_fingerprint[request.generator]
        except KeyError:
            raise GeneratorError(
                f"the request was made for the generator {request.generator[:12]}, which is none of "
                f"{', '.join(self.fingerprints)}; make it anew with this generator's request()"
            ) from None

    def generate(self, requests: Sequence[ImageRequest]) -> Iterator[Image.Image]:
        """RGB images in the order of the requests, each by the member it was made for."""
        requests = list(requests)
        shares: dict[str, list[ImageRequest]] = {}
        for request in requests:
            self.maker(request)
            shares.setdefault(request.generator, []).append(request)
        made = {name: self._by_fingerprint[name].generate(share) for name, share in shares.items()}
        return (next(made[request.generator]) for request in requests)

    def engine(self, store: Store) -> ImageEngine | None:
        """Who makes the images for a store, where that is not this process: one engine makes all members'."""
        elsewhere = getattr(self._main, "engine", None)
        found: ImageEngine | None = None if elsewhere is None else elsewhere(store)
        return found

    def scratch_engine(self) -> ImageEngine | None:
        """As `engine`, for images that nobody keeps."""
        elsewhere = getattr(self._main, "scratch_engine", None)
        return None if elsewhere is None else elsewhere()

    def count_tokens(self, prompt: str) -> int:
        """Tokens as the strictest member counts them: above `max_tokens` when any member would cut."""
        room = min(one.max_tokens - one.count_tokens(prompt) for one in self._by_fingerprint.values())
        return self.max_tokens - room
