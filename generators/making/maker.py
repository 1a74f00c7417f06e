"""A maker: loads what its spec says, verifies that it is that, and makes images into the store."""

from __future__ import annotations

import base64
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generators.bad_images import BadImageError
from generators.errors import BatchHalvedError, GeneratorError, StoreError
from generators.fetching import fetch
from generators.making.spec import MakerSpec
from generators.request import ImageRequest
from generators.store import ImageStore, StoredImage
from generators.stores.opening import open_store
from promptopt.base.errors import PromptoptError

if TYPE_CHECKING:
    from PIL import Image

    from generators.base import Generator

Say = Callable[[dict[str, Any]], None]
"""Called with what became of a request or of a chunk; plain values, so that they travel anywhere."""


class Maker:
    """Generators of a spec, loaded and verified.

    Args:
        place: device with its index, where there are several of the kind; None takes the first.

    Raises:
        GeneratorError: weights, library versions or GPU are others than the spec says, or the store is not
            the driver's.
    """

    def __init__(self, spec: MakerSpec, *, place: str | None = None) -> None:
        import torch

        torch.set_num_threads(spec.threads)
        self.spec = spec
        device = place or spec.device
        self._store = open_store(spec.store)
        if isinstance(self._store, ImageStore) and not self._store.root.is_dir():
            raise GeneratorError(
                f"{spec.store}: there is no such folder here; every maker needs the store at the same path, "
                "on a disk that they share, or at a URL"
            )
        self._generator = _load(spec, device)
        self._encode = _features(spec, device)

    def make(self, requests: Sequence[ImageRequest], say: Say) -> None:
        """Make one chunk, and say of each image that it is there, and of bad ones that they are bad.

        Raises:
            GeneratorError, StoreError: no maker can make it.
            RuntimeError, OSError, MemoryError: this one cannot.
        """
        there: list[StoredImage] = []

        def on_image(image: StoredImage, new: bool) -> None:
            there.append(image)
            if self._encode is None:
                say({"image": image.request.key, "sha256": image.sha256, "new": new})
            else:
                made[image.request.key] = new

        made: dict[str, bool] = {}
        bad: BadImageError | None = None
        try:
            fetch(self._store, _OneBatchSize(self._generator), requests, on_image=on_image)
        except BadImageError as error:
            bad = error
        if self._encode is not None and there:
            rows = self._encode([image.path for image in there])
            for index, image in enumerate(there):
                own = {address: _text(found[index]) for address, found in rows.items()}
                key = image.request.key
                say({"image": key, "sha256": image.sha256, "new": made[key], "features": own})
        if bad is not None:
            say({"bad": [[image.request.key, image.fault] for image in bad.images]})


def failure(error: Exception) -> dict[str, Any]:
    """What a maker says of an error: its words, and what to raise; "" where another maker may do better."""
    if not isinstance(error, PromptoptError):
        return {"failed": f"{type(error).__name__}: {error}", "error": ""}
    return {
        "failed": str(error),
        "error": "StoreError" if isinstance(error, StoreError) else "GeneratorError",
    }


def _load(spec: MakerSpec, device: str) -> Generator:
    from generators.family import MAIN, GeneratorFamily
    from generators.loading import load

    loaded = []
    for uri, fingerprint in spec.generators:
        one = load(
            uri,
            device=device,
            dtype=spec.dtype,
            batch_size=spec.batch_size,
            compile=spec.compile,
        )
        if one.fingerprint != fingerprint:
            raise GeneratorError(
                f"{uri}: has other weights here ({one.fingerprint[:12]}) than where the images are asked for "
                f"({fingerprint[:12]}); copy the same files to every machine"
            )
        _check_versions(uri, spec, one)
        loaded.append(one)
    if len(loaded) == 1:
        return loaded[0]
    # Requests say by fingerprint whom they were made for, so names do not matter here.
    return GeneratorFamily({(MAIN, None): loaded[0], **{(one.uri, None): one for one in loaded}})


def _check_versions(uri: str, spec: MakerSpec, generator: Generator) -> None:
    runtime = getattr(generator, "runtime", None)
    if not spec.versions or runtime is None or runtime.versions == spec.versions:
        return
    from generators.stable_diffusion.facts import parts

    asked, own = parts(spec.versions), parts(runtime.versions)
    if asked.get("gpu") != own.get("gpu"):
        raise GeneratorError(
            f"this machine has a {own.get('gpu', 'CPU alone')}, and the images are asked of a "
            f"{asked.get('gpu', 'CPU')}: another kind rounds otherwise. Leave it out, as in "
            "--on 'ray?gpus=8&gpu=H100'"
        )
    others = [
        f"{name} {own.get(name, 'none')} here, {asked.get(name, 'none')} asked for"
        for name in sorted({*asked, *own})
        if asked.get(name) != own.get(name)
    ]
    raise GeneratorError(f"{uri}: {'; '.join(others)}. Install the same versions on every machine")


def _features(spec: MakerSpec, device: str) -> Callable[[Sequence[Path]], Mapping[str, Sequence[Any]]] | None:
    if not spec.encoders:
        return None
    # By name: generators know nothing of encoders, whoever asks for features says who computes them.
    module, _, name = spec.features.partition(":")
    opened: Callable[[Sequence[Path]], Mapping[str, Sequence[Any]]] = getattr(
        importlib.import_module(module), name
    )(spec.encoders, device)
    return opened


def _text(row: Any) -> str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode("ascii")


class _OneBatchSize:
    """A generator that gives up when memory runs out, instead of going on with smaller batches.

    These would be other requests, and so other pixels, than were asked for.
    """

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)

    def generate(self, requests: Sequence[ImageRequest]) -> Iterator[Image.Image]:
        try:
            yield from self._generator.generate(requests)
        except BatchHalvedError as error:
            raise GeneratorError(
                f"memory ran out at {error.before} images a pass where the images are made; ask for "
                f"{error.now} (generator.batch_size of a study, --batch-size)"
            ) from error
