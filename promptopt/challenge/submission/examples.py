"""Example images of a study's prompts: those of its own confirmation, out of the image store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generators.errors import GeneratorError
from generators.family import split_settings
from generators.request import ImageRequest
from generators.stores.address import store_folder
from promptopt.base.files import link_or_copy
from promptopt.run.errors import ExportError
from promptopt.run.finished import FinishedRun
from promptopt.run.prompts import PromptEntry
from promptopt.synthesis.folder import IMAGES
from promptopt.synthesis.manifest import ManifestWriter, manifest_row
from promptopt.synthesis.naming import PATTERN

if TYPE_CHECKING:
    from generators.base import Generator
    from generators.store import StoredImage

LIST = "images.csv"
_VARIED = ("steps", "guidance", "scheduler")


def write_examples(
    run: FinishedRun,
    folder: Path,
    *,
    each: int,
    store: Path,
    uri: str,
    load: Callable[[], Generator],
) -> int:
    """Images of the submitted prompts into folder/images, and folder/images.csv about them.

    Their seeds are the confirmation's, so the images are among those that the estimates are of; each prompt
    has others, since similar prompts make nearly one image of one seed. What the store has is taken from
    there; what it lacks is made.

    Args:
        run: its submitted prompts are numbered from 1.
        each: images a prompt, at most as many as the confirmation had seeds.
        store: folder of images, as `promptopt study run --store` has it.
        uri: what the list calls the generator.
        load: called once, if an image is missing.

    Returns the number of images.

    Raises:
        ExportError: too few seeds, or the generator is not the study's.
        StoreError, GeneratorError: the store or the generator fails.
    """
    from generators.stores.opening import open_store

    seeds = run.prompts.seeds.confirmation
    if each > len(seeds):
        raise ExportError(
            f"{run.folder}: the study confirmed with {len(seeds)} seeds, and --examples asks for {each}; "
            f"give {len(seeds)} or less"
        )
    if each == 0:
        return 0
    jobs = [
        (number, entry, seeds[((number - 1) * each + index) % len(seeds)])
        for number, entry in enumerate(run.submitted, start=1)
        for index in range(each)
    ]
    images = open_store(store_folder(store) / "images")
    found = [images.get(_request(run, entry, seed)) for _, entry, seed in jobs]
    if any(image is None for image in found):
        found = list(_made(run, jobs, images, load))
    target = folder / LIST
    with target.open("w", encoding="utf-8", newline="") as stream:
        writer = ManifestWriter(stream)
        for index, ((number, _, _), image) in enumerate(zip(jobs, found, strict=True)):
            assert image is not None
            own = index % each + 1
            name = f"{IMAGES}/{PATTERN.format(p=number, i=own)}"
            link_or_copy(image.path, folder / name)
            writer.write(manifest_row(name, number, own, image, request=image.request, uri=uri))
    return len(jobs)


def _made(
    run: FinishedRun,
    jobs: Sequence[tuple[int, PromptEntry, int]],
    images: Any,
    load: Callable[[], Generator],
) -> list[StoredImage]:
    from generators.fetching import fetch

    generator, expected = load(), run.network.fingerprint
    if generator.fingerprint != expected:
        raise ExportError(
            f"{run.folder}: not all example images are in the store, and {generator.uri} is another model "
            f"({generator.fingerprint[:12]}) than the study's ({expected[:12]}); "
            "give that one by --generator, its store by --store, or --examples 0"
        )
    requests = []
    for _, entry, seed in jobs:
        prompt, settings = _settings(run, entry)
        size = {key: settings[key] for key in ("width", "height") if key in settings}
        drawn = {key: settings[key] for key in ("negative_prompt", *_VARIED) if key in settings}
        requests.append(generator.request(prompt, seed, **drawn, **size))
    return list(fetch(images, generator, requests))


def _settings(run: FinishedRun, entry: PromptEntry) -> tuple[str, dict[str, Any]]:
    """The prompt, and the study's generation settings with the prompt's own over them."""
    settings = dict(run.prompts.settings.get("generator", {}))
    if entry.negative_prompt is not None:
        settings["negative_prompt"] = entry.negative_prompt
    return entry.prompt, {**settings, **split_settings(entry.generation_parameters or {})[1]}


def _request(run: FinishedRun, entry: PromptEntry, seed: int) -> ImageRequest:
    """As the study made it; the store's key follows from it, with no generator loaded."""
    prompt, settings = _settings(run, entry)
    try:
        return ImageRequest(generator=run.network.fingerprint, prompt=prompt, seed=seed, **settings)
    except (TypeError, GeneratorError) as error:
        raise ExportError(
            f"{run.folder}: prompts.json does not say how its images were made ({error}); run the study again"
        ) from error
