"""What people read in a submission: README.md and MODEL_CARD.md."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from promptopt.challenge.submission.details import CategoryEntry, ModelEntry, Submission
from promptopt.export.best import best_list
from promptopt.export.best_tables import to_markdown
from promptopt.formatting.escapes import markdown
from promptopt.run.finished import FinishedRun
from promptopt.run.prompts import PromptList

SYNTHETIC = (
    "All images here are synthetic: they were made by a model, show no patient, say so in their PNG metadata "
    "(`synthetic`: `true`), and nothing may be diagnosed from them."
)
LOOK = (
    "Look through every file first: a model trained on patients' images may repeat parts of them, and the "
    "license of its training data may not allow sharing it"
)
PUBLIC = f"Submitting makes the repository public. {LOOK}."


def readme_2024(submission: Submission, runs: Mapping[str, FinishedRun], team: Mapping[str, object]) -> str:
    """README.md of a folder by category."""
    lines = ["# MEDVQA-GI 2024: optimal prompts", ""]
    for key, value in team.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        lines.append(f"- {markdown(key.replace('_', ' '))}: {markdown(shown)}")
    lines += [""] if team else []
    lines += ["| category | study | prompts | example images | model |", "| --- | --- | ---: | ---: | --- |"]
    for category, entry in submission.categories.items():
        cells = [category, entry.study, str(entry.prompts), str(entry.images), entry.model.uri]
        lines.append("| " + " | ".join(markdown(cell) for cell in cells) + " |")
    lines += ["", *(f"- {markdown(_found(run))}" for run in runs.values())]
    if submission.partial:
        lines += ["", "This submission leaves out categories on purpose."]
    lines += [
        "",
        "Each category has `prompts.txt` (those with a share in the portfolio, one a line), `prompts.json` "
        "and `prompts.csv` (all confirmed ones with weights, estimates and seeds), `MODEL_CARD.md`, "
        "`images/` with `images.csv`, and `model/` where the weights come along.",
    ]
    if submission.synthesis is not None:
        made = submission.synthesis
        lines.append(
            f"`synthesis/` holds the image synthesis part: {made.images} images of {made.prompts} prompts, "
            "listed in `synthesis/manifest.csv`."
        )
    example = next(iter(submission.categories))
    first = runs[example].submitted[0]
    used = {**runs[example].prompts.settings.get("generator", {}), **(first.generation_parameters or {})}
    used["negative_prompt"] = first.negative_prompt or used.get("negative_prompt")
    words = ["promptopt", "generate", submission.categories[example].model.uri, first.prompt]
    for key in ("negative_prompt", "steps", "guidance"):  # the study's; the model has defaults of its own
        if used.get(key) not in (None, ""):
            words += [f"--{key.replace('_', '-')}", str(used[key])]
    command = shlex.join([*words, "--out", "out"])
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", command)), default=0))
    lines += ["", "An image:", "", f"{fence}sh", command, fence]
    lines += ["", "Files are whole if `sha256sum -c SHA256SUMS` says so."]
    lines += ["", SYNTHETIC, "", PUBLIC, ""]
    return "\n".join(lines)


def _found(run: FinishedRun) -> str:
    """What was shown of the prompts, in a sentence."""
    study = run.prompts
    if run.entry is not None:
        return f"{study.category}: {len(study.prompts)} prompts, {study.weights_note}"
    better = sum(entry.better_than_baseline for entry in study.prompts)
    others = sum(entry.candidate != study.baseline.candidate for entry in study.prompts)
    said = f"{better or 'none'} of {others} confirmed prompts {'are' if better > 1 else 'is'} shown to be "
    said += f'better than the plain "{study.baseline.prompt}"'
    return f"{study.category}: {said}; weights: {study.weights_note}"


def model_card(run: FinishedRun, entry: CategoryEntry) -> str:
    """MODEL_CARD.md of one category: the model, how it is sampled, and what was measured."""
    study = run.prompts
    table = to_markdown(best_list([run])).split("\n", 2)[2].replace("\n### ", "\n## Measured: ", 1)
    table = table.replace(f"\n## {markdown(study.category)}\n", "\n", 1)
    return "\n".join(
        [
            f"# The model for {markdown(study.category)}",
            "",
            *facts(study, entry.model),
            "",
            "Images were chosen and measured by a program, on the real images of one data set "
            f"(sha256 `{study.data}`): no physician has judged them. For research; not a medical device.",
            "",
            table.strip(),
            "",
        ]
    )


def facts(study: PromptList, model: ModelEntry, *, chosen: Mapping[str, object] | None = None) -> list[str]:
    """Generator, its own card and the study's settings, with those chosen over them, as a list."""
    settings: Mapping[str, object] = {**study.settings.get("generator", {}), **(chosen or {})}
    copied = model.weights == "copy"
    where = "comes along" if copied else "is fetched from the hub"
    folder = model.uri.split("+lora:")[0]
    name = "this repository" if model.uri == "." else model.uri
    card = f"{folder}/README.md" if folder != "." else "MODEL_README.md"
    lines = [
        f"- Generator: `{name}`, {where}; fingerprint `{model.fingerprint}`",
        f"- What it was trained on: see `{card}`"
        if copied
        else "- What it was trained on: see its card there",
    ]
    for key, value in settings.items():
        if key in (
            "steps",
            "guidance",
            "scheduler",
            "negative_prompt",
            "width",
            "height",
            "dtype",
            "versions",
        ):
            lines.append(f"- {key.replace('_', ' ').capitalize()}: {markdown(str(value) or 'none')}")
    return lines
