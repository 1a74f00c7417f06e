"""The 2024 edition: a folder by category with prompts, model and example images, and the synthesis part."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import promptopt
from promptopt.challenge.submission.cards import model_card, readme_2024
from promptopt.challenge.submission.details import CategoryEntry, ModelEntry, Submission, write_details
from promptopt.challenge.submission.examples import write_examples
from promptopt.challenge.submission.folder import new_folder, write_checksums
from promptopt.challenge.submission.models import MODEL, copy_model, how, reference
from promptopt.challenge.submission.synthesis import SYNTHESIS, make_synthesis, take_synthesis
from promptopt.export.best import best_list
from promptopt.export.best_tables import to_csv
from promptopt.run.errors import ExportError
from promptopt.run.finished import FinishedRun
from promptopt.run.prompts import Network, PromptList, write_prompts
from studies.category import CATEGORIES

if TYPE_CHECKING:
    from generators.base import Generator

CARD, PROMPTS_TXT, PROMPTS_CSV, PROMPTS_JSON = "MODEL_CARD.md", "prompts.txt", "prompts.csv", "prompts.json"
_WORK = ".synthesis"


def write_gi2024(
    runs: Sequence[FinishedRun],
    out: str | Path,
    *,
    store: Path,
    load: Callable[[str], Generator],
    weights: Literal["copy", "reference"] | None = None,
    generator: str | None = None,
    examples: int = 4,
    images: Path | None = None,
    test_prompts: Path | None = None,
    per_prompt: int = 1,
    partial: bool = False,
    team: Mapping[str, object] | None = None,
    force: bool = False,
    on_image: Callable[[int, int, bool], None] | None = None,
) -> Submission:
    """Write the submission folder, whole or not at all.

    Args:
        runs: one finished run a category.
        out: the folder, which must not exist (see `force`).
        store: images and features, as `promptopt study run --store` has it.
        load: `generators.load` or the like; called only if images have to be made.
        weights: "copy" the generators or give their hub "reference"; None: a reference where it can be.
        generator: in place of the runs' own address; it must be the same model.
        examples: images of each submitted prompt.
        images: a folder that `promptopt synthesize` made, as the image synthesis part; or
        test_prompts: prompts to make that part of now, `per_prompt` images each.
        partial: go on though a category is missing.
        team: what README.md says about the participants.
        force: replace a submission that is there.

    Raises:
        ExportError: a category that is missing, double or none of the challenge's; whatever else does not
            fit together; nothing is left behind then.
        GeneratorError, StoreError, SynthesisError, PromptFileError: as making the images does.
    """
    if images is not None and test_prompts is not None:
        raise ExportError("--images and --test-prompts are both given; give one of them")
    chosen = _by_category(runs, partial=partial)
    loaded: dict[str, Generator] = {}

    def open_generator(uri: str) -> Generator:
        if uri not in loaded:
            loaded[uri] = load(uri)
        return loaded[uri]

    entries: dict[str, CategoryEntry] = {}
    with new_folder(out, force=force) as folder:
        copies: dict[str, Path] = {}
        for category, run in chosen.items():
            uri = generator or run.address
            place = folder / category
            place.mkdir()
            model = _model(run, uri, place, folder, how=how(uri, weights), copies=copies)
            count = write_examples(
                run,
                place,
                each=examples,
                store=store,
                uri=model.uri,
                load=lambda uri=uri: open_generator(uri),  # type: ignore[misc]
            )
            entry = CategoryEntry(
                study=run.prompts.study, prompts=len(run.submitted), images=count, model=model
            )
            _write_prompts(run, place, model)
            (place / CARD).write_text(model_card(run, entry), encoding="utf-8")
            entries[category] = entry
        models = {entry.model.fingerprint: entry.model.uri for entry in entries.values()}
        if test_prompts is not None:
            uris = {generator or run.address for run in chosen.values()}
            if len(uris) > 1:
                raise ExportError(
                    f"--test-prompts: the runs have several generators ({', '.join(sorted(uris))}); make the "
                    "images with `promptopt synthesize` and give them by --images"
                )
            images = make_synthesis(
                test_prompts,
                open_generator(uris.pop()),
                folder / _WORK,
                per_prompt=per_prompt,
                store=store,
                on_image=on_image,
            )
        made = None
        if images is not None:
            made = take_synthesis(images, folder / SYNTHESIS, models=models, categories=list(entries))
        shutil.rmtree(folder / _WORK, ignore_errors=True)
        submission = Submission(
            edition="gi-2024",
            partial=partial and len(entries) < len(CATEGORIES),
            categories=entries,
            synthesis=made,
            promptopt=promptopt.__version__,
        )
        (folder / "README.md").write_text(readme_2024(submission, chosen, team or {}), encoding="utf-8")
        write_details(folder, submission)
        write_checksums(folder)
    return submission


def _by_category(runs: Sequence[FinishedRun], *, partial: bool) -> dict[str, FinishedRun]:
    """The runs in the challenge's order."""
    found: dict[str, FinishedRun] = {}
    others = {run.folder for run in runs if run.prompts.category in CATEGORIES}
    for run in runs:
        category = run.prompts.category
        if category not in CATEGORIES:
            if run.entry is not None and run.folder in others:
                continue  # a study of sets has further classes, such as normal
            raise ExportError(
                f"{run.folder}: its category {category!r} is none of the challenge's "
                f"({', '.join(CATEGORIES)}); leave the run out"
            )
        if category in found:
            raise ExportError(
                f"{found[category].folder} and {run.folder} are both of the category {category!r}; a "
                "submission has one list for each, so give one of them"
            )
        found[category] = run
    missing = [category for category in CATEGORIES if category not in found]
    if missing and not partial:
        raise ExportError(
            f"no run of {', '.join(missing)} is given; give one, or --partial to submit without"
        )
    return {category: found[category] for category in CATEGORIES if category in found}


def _model(
    run: FinishedRun,
    uri: str,
    place: Path,
    root: Path,
    *,
    how: Literal["copy", "reference"],
    copies: dict[str, Path],
) -> ModelEntry:
    expected = run.network.fingerprint
    if how == "reference":
        return reference(uri, expected, study=run.prompts.study)
    target = place / MODEL
    beside = copies.get(expected)
    entry = copy_model(uri, expected, target, root=root, study=run.prompts.study, beside=beside)
    copies.setdefault(expected, target)
    return entry


def _write_prompts(run: FinishedRun, place: Path, model: ModelEntry) -> None:
    shown = public(run, model.uri)
    texts = [entry.prompt for entry in run.submitted]
    broken = [text for text in texts if len(text.splitlines()) != 1]
    if broken:
        raise ExportError(
            f"{run.folder}: {broken[0]!r}: a prompt that is empty or has a line break does not fit into "
            f"{PROMPTS_TXT}, which has one a line"
        )
    write_prompts(place / PROMPTS_JSON, shown)
    (place / PROMPTS_TXT).write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    table = to_csv(best_list([FinishedRun(run.folder, shown, {})]))
    (place / PROMPTS_CSV).write_text("\ufeff" + table, encoding="utf-8", newline="\n")


def public(run: FinishedRun, model_uri: str) -> PromptList:
    """Without paths of this machine: the model by its place in the submission, other networks by name."""

    def named(network: Network) -> Network:
        local = "/" in network.uri and not network.uri.startswith(("hf:", "open_clip:"))
        return network.model_copy(update={"uri": Path(network.uri).name}) if local else network

    prompts = run.prompts
    networks = {name: getattr(prompts, name) for name in type(prompts).model_fields}
    changes: dict[str, Any] = {name: named(n) for name, n in networks.items() if isinstance(n, Network)}
    changes["generator"] = run.network.model_copy(update={"uri": model_uri})
    changes["generators"] = {name: named(network) for name, network in prompts.generators.items()}
    return prompts.model_copy(update=changes)
