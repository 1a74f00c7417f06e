"""An augmentation set or a run to a hub repository of data, with a card, after a look at every file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from generators.training.push import Pushed, check_repository, upload
from promptopt.augmentation.journal import SUMMARY, WORK
from promptopt.augmentation.setfolder import CHECKSUMS, damaged, read_summary
from promptopt.augmentation.sources import AugmentationError
from promptopt.augmentation.writers import SHARDS
from promptopt.base.images import load_image
from promptopt.formatting.escapes import markdown
from promptopt.run.finished import read_confirmed
from promptopt.run.folder import PROMPTS
from promptopt.run.prompt_sets import SetList
from promptopt.run.prompts import PromptList
from studies.dataset import METADATA

_TABLES = ("trials", "confirmation", "effects", "sets", "comparisons", "sizes")
_LOOK = (
    "Look through the images first: a model trained on patients' images may repeat parts of them. Nothing "
    "may be diagnosed from them."
)


def is_data(folder: Path) -> bool:
    """Whether a folder is an augmentation set or a finished run."""
    return (folder / SUMMARY).is_file() or (folder / PROMPTS).is_file()


def push_data(folder: Path, repository: str, *, revision: str | None = None, private: bool = True) -> Pushed:
    """Upload a finished augmentation set, or prompts and tables of a finished run, as a data set.

    The card (README.md) is written from what the folder says of itself. Of a run, the report and the study
    file stay: they hold real images and paths of this machine.

    Raises:
        AugmentationError: a set that is not finished or damaged, or an image that is not marked as synthetic.
        StudyError: a prompts.json that is damaged.
        GeneratorError: a name that is no owner/name, a public repository although `private`, or the hub
            refuses.
    """
    check_repository(repository)
    if (folder / SUMMARY).is_file():
        files, card = _set_files(folder), set_card(folder)
    else:
        names = (PROMPTS, *(f"{name}.csv" for name in _TABLES))
        files = tuple(name for name in names if (folder / name).is_file())
        card = run_card(read_confirmed(folder / PROMPTS))
    return upload(folder, repository, files, revision=revision, private=private, kind="dataset", card=card)


def set_card(folder: Path) -> str:
    """README.md of an augmentation set."""
    document = read_summary(folder)
    classes = [(str(one["label"]), int(one["kept"])) for one in document["classes"]]
    layout = (
        f"data_files: {SHARDS}/*.tar"
        if document["settings"]["format"] == "webdataset"
        else "drop_labels: true"
    )
    lines = [
        *_head(
            ["image-classification"],
            sum(kept for _, kept in classes),
            extra=["configs:", "- config_name: default", f"  {layout}"],
        ),
        "# Synthetic images for augmentation",
        "",
        "Every image was made by a text-to-image model, says so in its PNG metadata (`synthetic`: `true`) "
        f"and shows no patient. {_LOOK}",
        "",
        "| class | images |",
        "| --- | ---: |",
        *(f"| {markdown(label)} | {kept} |" for label, kept in classes),
        "",
        f"`{METADATA}` has prompt, seed, settings and filter scores of every image; `{CHECKSUMS}` is read by "
        f"`sha256sum --check`; `{SUMMARY}` says how the set was made. Use: train on them beside real images; "
        "test on real images alone.",
        "",
    ]
    return "\n".join(lines)


def run_card(found: PromptList | SetList) -> str:
    """README.md of a run."""
    lines = [
        *_head(["text-to-image"], 0),
        f"# Prompts of the study {markdown(found.study)}",
        "",
        markdown(found.sentence),
        "",
        f"- generator: {markdown(found.generator.uri)} (`{found.generator.fingerprint[:16]}`)",
        f"- encoder: {markdown(found.encoder.uri)} (`{found.encoder.fingerprint[:16]}`)",
        f"- real images: none are here; sha256 of their list `{found.data[:16]}`",
        "",
        *_prompts(found),
        "",
        f"`{PROMPTS}` has weights, estimates with intervals, seeds, settings and versions.",
        "",
    ]
    return "\n".join(lines)


def _prompts(found: PromptList | SetList) -> Iterator[str]:
    if isinstance(found, SetList):
        yield from ("| class | weight | prompt |", "| --- | ---: | --- |")
        for entry in found.classes:
            for one in entry.set.prompts:
                yield f"| {markdown(entry.label)} | {one.weight:.2f} | {markdown(one.candidate.label)} |"
        return
    yield from ("| rank | prompt | beside the baseline |", "| ---: | --- | --- |")
    for row in found.prompts:
        yield f"| {row.rank} | {markdown(row.label)} | {found.verdict(row) or 'the baseline'} |"


def _head(tasks: list[str], images: int, *, extra: list[str] | None = None) -> list[str]:
    size = next(
        (name for most, name in ((1000, "n<1K"), (10_000, "1K<n<10K")) if images < most), "10K<n<100K"
    )
    return [
        "---",
        "tags:",
        "- synthetic",
        "- promptopt",
        "task_categories:",
        *(f"- {one}" for one in tasks),
        "size_categories:",
        f"- {size}",
        *(extra or []),
        "---",
    ]


def _set_files(folder: Path) -> tuple[str, ...]:
    """The set's own files, each as it was written."""
    if (folder / WORK).exists():
        raise AugmentationError(f"{folder}: is not finished; run its command again")
    if holes := damaged(folder, read_summary(folder).get("checksums")):
        raise AugmentationError(
            f"{folder}: {holes[0]} is missing or not as it was written; make the set again"
        )
    lines = (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    names = [line.split("  ", 1)[1] for line in lines]
    _refuse_unmarked(folder, [name for name in names if name.endswith(".png")])
    return tuple(dict.fromkeys([*names, SUMMARY, CHECKSUMS]))


def _refuse_unmarked(folder: Path, names: list[str]) -> None:
    for name in names:
        if load_image(folder / name, error=AugmentationError).info.get("synthetic") != "true":
            raise AugmentationError(
                f"{folder / name}: is not marked as synthetic, and no patient's image may leave; remove it, "
                "or make the set again"
            )
