"""Ray actors that make images: on this machine, or on all machines of a cluster."""

from __future__ import annotations

import ipaddress
import logging
import os
import uuid
from collections import deque
from collections.abc import Hashable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from generators.errors import GeneratorError
from generators.making.crew import CrewEngine, Ended, Message
from generators.making.maker import Maker, failure
from generators.making.place import Place
from generators.making.spec import MakerSpec
from generators.request import ImageRequest
from generators.stores.opening import open_store

if TYPE_CHECKING:
    from generators.stable_diffusion.facts import RuntimeFacts

_LOOPBACK = "127.0.0.1"
_LOOPBACK_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


def ray_actors(spec: MakerSpec, place: Place) -> CrewEngine:
    """The engine of Ray actors, one maker each.

    The store must be a URL, or a folder on a disk that all machines share, at the same path. Without an
    address a cluster of this machine alone is started, which listens on the loopback interface only.

    Raises:
        GeneratorError: Ray is not installed, or no cluster answers at the address.
    """
    connect(place.address, place.count)
    return CrewEngine(RayCrew(spec, place), spec, count=place.count, store=open_store(spec.store))


def connect(address: str, count: int) -> Any:
    """Ray, connected to the cluster; what is connected already stays so.

    Raises:
        GeneratorError: as `ray_actors`, or another machine's cluster that lets anybody in.
    """
    if not address:
        # The one switch by which Ray takes 127.0.0.1 as it is; otherwise it puts the machine's outer address
        # in its place and listens on all interfaces. It is read when Ray is imported.
        os.environ.setdefault(_LOOPBACK_SWITCH, "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise GeneratorError("--on ray: Ray is not installed; pip install 'promptopt[ray]'") from error
    if ray.is_initialized():
        return ray
    _check_let_in(address)
    if not address and not _is_loopback(ray.util.get_node_ip_address()):
        raise GeneratorError(
            f"--on ray: Ray was imported before and would listen on all interfaces; set {_LOOPBACK_SWITCH}=0 "
            "before it is, or connect to a cluster of your own with ray.init"
        )
    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(
                address="local",  # whatever RAY_ADDRESS says
                num_cpus=max(count, os.cpu_count() or 1),
                _node_ip_address=_LOOPBACK,
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=False,
            )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise GeneratorError(
            f"--on ray:{address or 'here'}: no cluster ({str(error).splitlines()[0]}); start one with "
            "`ray start --head`, or write ray without an address"
        ) from error
    return ray


def _check_let_in(address: str) -> None:
    """Raise a GeneratorError for another machine's cluster that does not ask who comes."""
    # "auto" goes where the environment says, and to a cluster of this machine where it says nothing.
    named = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    if named and not _is_loopback(named) and os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        raise GeneratorError(
            f"--on ray:{address}: whoever reaches the cluster at {named} can run code on it. Start it and "
            "this command with RAY_AUTH_MODE=token; `ray get-auth-token --generate` makes a token, "
            "which belongs into ~/.ray/auth_token of every machine"
        )


def facts_there(place: Place, settings: Mapping[str, Any], *, threads: int) -> RuntimeFacts:
    """`generators.card.runtime_facts` of the machines that would make the images, with so many threads."""
    ray = connect(place.address, place.count)
    check_room(place, ray.cluster_resources())
    task = ray.remote(**_needs(place))(_facts)
    try:
        found: RuntimeFacts = ray.get(task.remote(dict(settings), threads))
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        raise GeneratorError(f"--on ray: {cause or error}") from error
    return found


def check_room(place: Place, resources: Mapping[str, float]) -> None:
    """Raise a GeneratorError where a cluster has no machine of the kind, which would be waited for for ever.

    Args:
        resources: what `ray.cluster_resources()` says.
    """
    kinds = sorted(name.partition(":")[2] for name in resources if name.startswith("accelerator_type:"))
    has = f"it has {', '.join(kinds)}" if kinds else "it has none"
    if place.gpus and not resources.get("GPU"):
        raise GeneratorError(f"--on ray: no machine of the cluster has a GPU; write workers={place.count}")
    if place.gpu and place.gpu not in kinds:
        raise GeneratorError(f"--on ray: the cluster has no GPU of the kind {place.gpu!r}; {has}")


def _facts(settings: dict[str, Any], threads: int) -> RuntimeFacts:
    import torch

    from generators.card import runtime_facts

    torch.set_num_threads(threads)  # Ray lets a worker on the CPU have one
    return runtime_facts(**settings)


def _needs(place: Place) -> dict[str, Any]:
    """What an actor asks the cluster for."""
    needs: dict[str, Any] = {"num_gpus": 1, "num_cpus": 1} if place.gpus else {"num_cpus": 1}
    return needs | ({"accelerator_type": place.gpu} if place.gpu else {})


class _Actor:
    """A maker in an actor. Errors are said, not raised, so that nothing has to travel but plain values."""

    def __init__(self, spec: str) -> None:
        self._spec = spec
        self._maker: Maker | None = None

    def load(self) -> list[dict[str, Any]]:
        spec = MakerSpec.from_json(self._spec)
        with suppress(OSError):  # not on this machine: absolute addresses may be
            os.chdir(spec.folder)
        try:
            self._maker = Maker(spec)
        except (ValueError, RuntimeError, OSError, MemoryError, ImportError) as error:
            return [failure(error)]
        return [{"ready": True}]

    def make(self, texts: list[str]) -> list[dict[str, Any]]:
        said: list[dict[str, Any]] = []
        assert self._maker is not None
        try:
            self._maker.make([ImageRequest.from_json(text) for text in texts], said.append)
        except (ValueError, RuntimeError, OSError, MemoryError) as error:
            return [*said, failure(error)]
        return [*said, {"done": True}]


class RayCrew:
    """A `Crew` of Ray actors; it hears of a chunk's images when the whole chunk is made."""

    def __init__(self, spec: MakerSpec, place: Place) -> None:
        self._spec = spec
        self._place = place
        self._actors: dict[Hashable, Any] = {}
        self._awaited: dict[Any, Hashable] = {}
        self._heard: deque[tuple[Hashable, Message]] = deque()

    def start(self) -> Hashable:
        """One more actor, which waits in Ray until the cluster has room for it."""
        ray = connect(self._place.address, self._place.count)
        actor = ray.remote(max_restarts=0, **_needs(self._place))(_Actor).remote(self._spec.to_json())
        worker = uuid.uuid4().hex
        self._actors[worker] = actor
        self._awaited[actor.load.remote()] = worker
        return worker

    def send(self, worker: Hashable, chunk: list[ImageRequest]) -> None:
        """See `Crew.send`."""
        texts = [request.to_json() for request in chunk]
        self._awaited[self._actors[worker].make.remote(texts)] = worker

    def hear(self, timeout: float) -> tuple[Hashable, Message] | None:
        """See `Crew.hear`."""
        import ray

        if not self._heard and self._awaited:
            done, _ = ray.wait(list(self._awaited), num_returns=1, timeout=timeout)
            for one in done:
                worker = self._awaited.pop(one)
                try:
                    said: list[Message] = list(ray.get(one))
                except ray.exceptions.RayError as error:
                    said = [Ended(f"ended ({_short(error)})")]
                if any(isinstance(word, Ended) or "failed" in word for word in said):
                    ray.kill(self._actors.pop(worker))
                self._heard.extend((worker, word) for word in said)
        return self._heard.popleft() if self._heard else None

    def look_after(self) -> None:
        """Ray does."""

    def close(self) -> None:
        """End the actors; the cluster stays."""
        import ray

        actors, self._actors = list(self._actors.values()), {}
        self._awaited.clear()
        self._heard.clear()
        if ray.is_initialized():
            for actor in actors:
                ray.kill(actor)


def _short(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _is_loopback(address: str) -> bool:
    host = address.removeprefix("ray://").rpartition(":")[0] or address
    if host in ("localhost", "auto", "local"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
