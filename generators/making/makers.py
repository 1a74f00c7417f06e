"""Makers: generators whose images are made at a place of the caller's choice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from generators.bad_images import BadImageError
from generators.base import GeneratorCard
from generators.card import has_card, read_card, runtime_facts
from generators.engine import ImageEngine
from generators.errors import GeneratorError
from generators.making.place import Place
from generators.making.scratch import scratch_folder
from generators.making.spec import MakerSpec
from generators.request import ImageRequest
from generators.stable_diffusion.card import DiffusionCard
from generators.stable_diffusion.facts import parts
from generators.store import ImageStore, Store

if TYPE_CHECKING:
    from PIL import Image

    from generators.base import Generator
    from generators.making.slurm import Job
    from generators.stable_diffusion.facts import RuntimeFacts


class Makers:
    """Opens generators whose images are made at a place; ends what it started when it is closed.

    Args:
        on: the place, as `Place.parse` reads it.
        device, dtype, batch_size, compile: as of `generators.load`.
        digests: a file that keeps the checksums of weights between commands.
        encoders: addresses of encoders; their features come with the images that are made elsewhere on the
            kind of device that this process would compute them on (`Made.features`).
        plain_encoders: of encoders without a network, whose features are the same on any device.
        features: who opens both; see `MakerSpec.features`.
        scratch: folder for images that nobody keeps, which a cluster must share; None for the machine's own.

    Raises:
        GeneratorError: no such place.

    Example:
        >>> with Makers("here", device="cpu") as makers:
        ...     makers.load("embedded").request("a polyp", 1).width
        64
    """

    def __init__(
        self,
        on: str | Place = "here",
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int | None = None,
        compile: str = "auto",  # noqa: A002  as torch calls it
        digests: Path | None = None,
        encoders: Sequence[str] = (),
        plain_encoders: Sequence[str] = (),
        features: str = "",
        scratch: Path | None = None,
    ) -> None:
        self.place = Place.parse(on) if isinstance(on, str) else on
        self._settings: dict[str, Any] = {
            "device": device,
            "dtype": dtype,
            "batch_size": batch_size,
            "compile": compile,
        }
        self._digests = digests
        self._encoders, self._plain_encoders = tuple(encoders), tuple(plain_encoders)
        self._features = features
        self._generators: dict[str, GeneratorCard] = {}
        self._engines: dict[Path, ImageEngine] = {}
        self._facts: RuntimeFacts | None = None
        self._first_job: Job | None = None
        self._scratch_in = scratch
        self._scratch: Path | None = None
        self._open_things = ExitStack()

    def __enter__(self) -> Makers:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def load(self, uri: str) -> Generator:
        """The generator of that address. Elsewhere than here, its weights are not loaded in this process.

        Generators that are opened together are loaded by the same workers.

        Raises:
            GeneratorError, PluginError: as `generators.load`.
        """
        if self.place.kind == "here":
            return self.load_here(uri)
        if has_card(uri):
            card: GeneratorCard = read_card(uri, facts=self.facts, digests=self._digests)
        else:  # only loading it tells how it asks
            card = self.load_here(uri)
        known = self._generators.get(uri)
        if known is None or known.fingerprint != card.fingerprint:
            self._generators[uri] = card
            self._end_engines()  # workers that run know fewer generators
        return GeneratorElsewhere(card, self)

    @property
    def facts(self) -> RuntimeFacts:
        """How images are made at the place."""
        if self._facts is None:
            self._facts = self._find_facts()
        return self._facts

    def _find_facts(self) -> RuntimeFacts:
        if self.place.kind == "ray":
            from generators.making import ray

            return ray.facts_there(self.place, self._named, threads=self._threads())
        if self.place.kind == "slurm" and self.place.gpus:
            from generators.making import slurm

            facts, self._first_job = slurm.facts_there(self.place, self._named)
            return facts
        return runtime_facts(**self._named)

    @property
    def _named(self) -> dict[str, Any]:
        own = {name: self._settings[name] for name in ("device", "dtype", "batch_size")}
        if self.place.kind == "slurm" and not self.place.gpus:
            if own["device"] not in ("auto", "cpu"):
                raise GeneratorError(f"--on slurm: --device {own['device']} needs gpus=1, a GPU for each job")
            own["device"] = "cpu"
        return {"compile_": self._settings["compile"], **own}

    def _device(self) -> str:
        """The kind of device; on this machine also its index, where one was asked for."""
        asked = str(self._settings["device"])
        return asked if self.place.kind == "processes" and ":" in asked else self.facts.device

    def _computes_alike(self) -> bool:
        """Whether this process computes on the kind of device that the makers have: features must not mix."""
        if self.place.kind not in ("ray", "slurm"):
            return True
        try:
            own = runtime_facts(**self._named)
        except GeneratorError:  # no such device here
            return False
        gpus = [parts(one.versions).get("gpu") for one in (own, self.facts)]
        return own.device == self.facts.device and gpus[0] == gpus[1]

    def engine(self, store: Store) -> ImageEngine:
        """Who makes these generators' images for a store; started when first needed, one for each store."""
        root = store.root.absolute()
        if store.address.startswith("memory:"):
            raise GeneratorError(f"{store.address}: no other process sees this memory; use --on here")
        if root not in self._engines:
            root.mkdir(parents=True, exist_ok=True)
            self._engines[root] = self._open(store.address)
        return self._engines[root]

    def close(self) -> None:
        """End the workers; the generators stay good, and start new ones when they are asked for images."""
        self._end_engines()
        if self._first_job is not None:
            self._first_job.cancel()
            self._first_job = None
        self._open_things.close()
        self._scratch = None

    def _end_engines(self) -> None:
        engines, self._engines = list(self._engines.values()), {}
        for engine in engines:
            engine.close()

    def scratch(self) -> ImageStore:
        """A store for images that nobody keeps, until `close`."""
        if self._scratch is None:
            self._scratch = self._open_things.enter_context(scratch_folder(self._scratch_in))
        return ImageStore(self._scratch)

    def load_here(self, uri: str) -> Generator:
        """The generator with its weights in this process, whatever the place."""
        from generators.loading import load

        return load(uri, **self._settings)

    def spec(self, store: str) -> MakerSpec:
        """What workers are told whose images go into the store at that address."""
        on_cpu = self.facts.device == "cpu"
        # as the keys say, whatever this process has set since
        threads = int(parts(self.facts.versions).get("threads", 1)) if on_cpu else self._threads()
        return MakerSpec(
            generators=tuple((uri, card.fingerprint) for uri, card in self._generators.items()),
            versions=self.facts.versions,
            chunk=self._chunk(),
            threads=threads,
            store=store,
            folder=str(Path.cwd()),
            encoders=self._plain_encoders + (self._encoders if self._computes_alike() else ()),
            features=self._features,
            **self._settings | {"device": self._device()},
        )

    def _open(self, store: str) -> ImageEngine:
        spec = self.spec(store)
        if self.place.kind == "ray":
            from generators.making.ray import ray_actors

            return ray_actors(spec, self.place)
        if self.place.kind == "slurm":
            from generators.making.slurm import slurm_jobs

            first, self._first_job = self._first_job, None
            return slurm_jobs(spec, self.place, first=first)
        from generators.making.processes import processes

        return processes(spec, count=self.place.count)

    def _chunk(self) -> int:
        if self.place.kind != "slurm":
            return self.facts.batch_size
        from generators.making.slurm import BATCHES

        return self.place.job.chunk or BATCHES * self.facts.batch_size

    def _threads(self) -> int:
        if self.place.kind == "slurm":
            from generators.making.slurm import threads_of

            return threads_of(self.place)
        import torch

        return torch.get_num_threads()


class GeneratorElsewhere:
    """A `Generator` whose images others make; this process knows its card alone."""

    def __init__(self, card: GeneratorCard, makers: Makers) -> None:
        self._card = card
        self._makers = makers
        self.uri = card.uri
        self.fingerprint = card.fingerprint
        self.max_tokens = card.max_tokens
        self.request = card.request
        self.count_tokens = card.count_tokens

    def engine(self, store: Store) -> ImageEngine:
        """Who makes its images for a store."""
        return self._makers.engine(store)

    def scratch_engine(self) -> ImageEngine:
        """Who makes its images for a store that is emptied by whoever takes them."""
        return self._makers.engine(self._makers.scratch())

    def generate(self, requests: Sequence[ImageRequest]) -> Iterator[Image.Image]:
        """RGB images in the order of the requests, by way of a store for the while.

        Raises what `ImageEngine.make` does.
        """
        distinct = list(dict.fromkeys(requests))
        engine = self.scratch_engine()
        images: dict[ImageRequest, Image.Image] = {}
        bad: BadImageError | None = None
        try:
            for made in engine.make(distinct, ahead=len(distinct)):
                images[made.asked] = made.image.load()
                made.image.path.unlink()
                made.image.path.with_suffix(".json").unlink()
        except BadImageError as error:
            bad = error
        for request in requests:
            if bad is not None and request not in images:
                raise bad
            yield images[request]

    def __getattr__(self, name: str) -> Any:
        if name == "reconstruct" and isinstance(self._card, DiffusionCard):
            return self._own.reconstruct
        return getattr(self._card, name)

    @cached_property
    def _own(self) -> Any:
        """The generator with its weights, for what no engine does."""
        return self._makers.load_here(self.uri)
