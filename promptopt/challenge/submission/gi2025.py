"""The 2025 edition: the organizers' script with its two sections filled, as a hub repository's folder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import promptopt
from generators.adapters.lora import DIFFUSERS_FILE, LoraAddress, split_uri
from promptopt.base.hub import HubAddress
from promptopt.challenge.submission.cards import PUBLIC, facts
from promptopt.challenge.submission.details import ModelEntry, Submission, write_details
from promptopt.challenge.submission.folder import new_folder, write_checksums
from promptopt.challenge.submission.models import copy_model, how, reference
from promptopt.challenge.submission.script import (
    REQUIREMENTS,
    SCRIPT,
    Drawing,
    Lora,
    first_section,
    requirements,
    second_section,
)
from promptopt.challenge.submission.team import EXAMPLE
from promptopt.challenge.submission.template import Template, read_template
from promptopt.formatting.escapes import markdown
from promptopt.run.errors import ExportError
from promptopt.run.finished import FinishedRun

MODEL_CARD = "MODEL_README.md"
OPTIONAL = "Notes_to_organizers"
EMAILS = "Contact_emails"
SAMPLE: Mapping[str, object] = {
    "Participant_Names": "",
    "Affiliations": "",
    EMAILS: [],
    "Team_Name": "",
    "Country": "",
    OPTIONAL: "",
}
"""The keys of SUBMISSION_INFO, where no template says them."""
_PERSONAL = ("Participant_Names", EMAILS, "Team_Name")  # a country may be the example's by chance
_REPOSITORY = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_NEEDED = ("negative_prompt", "steps", "guidance", "scheduler", "width", "height")


def write_gi2025(
    runs: Sequence[FinishedRun],
    out: str | Path,
    *,
    template: Path | None,
    repository: str | None,
    team: Mapping[str, object],
    weights: Literal["copy", "reference"] | None = None,
    generator: str | None = None,
    seed: int = 0,
    batch_size: int = 8,
    force: bool = False,
) -> Submission:
    """Write the folder, whole or not at all; its files are what the hub repository is to hold.

    The organizers give the prompts of this edition, so of the studies it takes the generator and the settings
    that it draws with.

    Args:
        runs: finished runs with one generator and one set of settings.
        out: the folder, which must not exist (see `force`).
        template: the organizers' script; None: that of the installed `medvqa`.
        repository: "owner/name" that the folder will be uploaded to; needed where the weights come along.
        team: SUBMISSION_INFO.
        weights: "copy" the generator, or name its hub "reference"; None: a reference where it can be.
        generator: in place of the runs' own address; it must be the same model.
        seed, batch_size: of the script's images.
        force: replace a submission that is there.

    Raises ExportError: whatever does not fit; nothing is left behind then.
    """
    parts = read_template(template)
    info = check_info(team, parts.info())
    settings = _settings(runs)
    study = runs[0].prompts
    uri = generator or runs[0].address
    chosen = how(uri, weights)
    if repository is not None and not _REPOSITORY.fullmatch(repository):
        raise ExportError(f"--repo {repository!r}: write owner/name")
    if chosen == "copy" and repository is None:
        raise ExportError(
            "--repo is missing: the weights come along, and the script fetches them from the "
            "repository that the folder is uploaded to; give its owner/name"
        )
    with new_folder(out, force=force) as folder:
        fingerprint = runs[0].network.fingerprint
        if chosen == "copy":
            model = copy_model(uri, fingerprint, folder, root=folder, study=study.study)
            (folder / "README.md").rename(folder / MODEL_CARD)
        else:
            model = reference(uri, fingerprint, study=study.study)
        drawing = _drawing(model, settings, folder, repository=repository, seed=seed, batch_size=batch_size)
        script = parts.filled(first_section(info, drawing), second_section(drawing))
        compile(script, SCRIPT, "exec")
        (folder / SCRIPT).write_bytes(script)
        (folder / REQUIREMENTS).write_text(requirements(drawing), encoding="utf-8")
        submission = Submission(
            edition="gi-2025",
            studies=[run.prompts.study for run in runs],
            model=model,
            repository=repository,
            promptopt=promptopt.__version__,
        )
        (folder / "README.md").write_text(_readme(submission, runs, model, settings), encoding="utf-8")
        write_details(folder, submission)
        write_checksums(folder)
    return submission


def check_info(team: Mapping[str, object], sample: Mapping[str, object]) -> dict[str, object]:
    """SUBMISSION_INFO with the template's keys in their order.

    Raises ExportError: a key that is missing, unknown or empty, or still the organizers' sample.
    """
    faults = [f"{key} is unknown" for key in team if key not in sample]
    for key, example in sample.items():
        value = team.get(key)
        if key == OPTIONAL:
            continue
        if not value or (isinstance(value, str) and not value.strip()):
            faults.append(f"{key} is missing or empty")
        elif value == example and key in _PERSONAL:
            faults.append(f"{key} is still the organizers' example")
        elif isinstance(example, list) != isinstance(value, list):
            faults.append(f"{key} must be {'a list' if isinstance(example, list) else 'text'}")
        elif key == EMAILS and isinstance(value, list):
            faults += [f"{key}: {text!r} is no address" for text in value if not _EMAIL.fullmatch(str(text))]
    if faults:
        raise ExportError(f"--info: {'; '.join(faults)}. Write a YAML file such as:\n{EXAMPLE}")
    return {key: team.get(key, "") for key in sample}


def _settings(runs: Sequence[FinishedRun]) -> dict[str, Any]:
    """The settings that all runs drew with: where a study varied them, those of its prompt of most weight."""
    found: list[dict[str, Any]] = []
    for run in runs:
        own = run.prompts.settings.get("generator", {})
        missing = [key for key in _NEEDED if key not in own]
        if missing:
            raise ExportError(
                f"{run.folder}: prompts.json does not say {', '.join(missing)}; run the study again"
            )
        first = max(run.submitted, key=lambda entry: entry.weight)
        varied = dict(first.generation_parameters or {})
        if first.negative_prompt is not None:
            varied["negative_prompt"] = first.negative_prompt
        chosen = {key: varied.get(key, own[key]) for key in _NEEDED}
        found.append({"fingerprint": run.network.fingerprint, **chosen})
        if found[-1] != found[0]:
            differing = [key for key, value in found[0].items() if found[-1][key] != value]
            raise ExportError(
                f"{runs[0].folder} and {run.folder}: differ in {', '.join(differing)}, and the script has "
                "one model with one set of settings; give runs that agree, or one"
            )
    return found[0]


def _drawing(
    model: ModelEntry,
    settings: Mapping[str, Any],
    folder: Path,
    *,
    repository: str | None,
    seed: int,
    batch_size: int,
) -> Drawing:
    base, adapters = split_uri(model.uri)
    if model.weights == "copy":
        assert repository is not None
        place, revision = repository, None
        loras = [_copied(folder, address, repository) for address in adapters]
    else:
        hub = HubAddress.parse(base, error=ExportError)
        place, revision = hub.repository, hub.revision
        loras = [_on_hub(address) for address in adapters]
    return Drawing(
        repository=place,
        revision=revision,
        adapters=loras,
        seed=seed,
        batch_size=batch_size,
        **{key: settings[key] for key in _NEEDED},
    )


def _copied(folder: Path, address: LoraAddress, repository: str) -> Lora:
    """An adapter in a subfolder of the repository; diffusers reads one file."""
    files = sorted((folder / address.path).glob("*.safetensors"))
    if len(files) != 1 or (folder / address.path / "adapter_config.json").exists():
        raise ExportError(
            f"{address.path}: is an adapter in PEFT's layout, which diffusers does not fetch from a hub; "
            f"give the one in {DIFFUSERS_FILE} by --generator (`promptopt train` writes both)"
        )
    return Lora(
        repository=repository,
        revision=None,
        subfolder=address.path,
        weight_name=files[0].name,
        scale=address.scale,
    )


def _on_hub(address: LoraAddress) -> Lora:
    hub = HubAddress.parse(address.path, file=True, error=ExportError)
    inside, _, name = (hub.file or "").rpartition("/")
    return Lora(
        repository=hub.repository,
        revision=hub.revision,
        subfolder=inside or None,
        weight_name=name or None,
        scale=address.scale,
    )


def _readme(
    submission: Submission,
    runs: Sequence[FinishedRun],
    model: ModelEntry,
    settings: Mapping[str, object],
) -> str:
    name = submission.repository or "OWNER/NAME"
    studies = ", ".join(markdown(run.prompts.study) for run in runs)
    lines = [
        "---",
        "library_name: diffusers",
        "pipeline_tag: text-to-image",
        "---",
        "# MEDVQA-GI 2025, subtask 2: synthetic images of the GI tract",
        "",
        f"Sampling settings and model are those of the studies {studies}.",
        "",
        *facts(runs[0].prompts, model, chosen=settings),
        "",
        f"`{SCRIPT}` is the organizers' own with its two sections filled. To submit:",
        "",
        f"    hf upload {name} . --exclude SHA256SUMS --exclude submission.json",
        f"    medvqa validate --competition=gi-2025 --task=2 --repo_id={name}",
        f"    medvqa validate_and_submit --competition=gi-2025 --task=2 --repo_id={name}",
        "",
        "Should the last one end with `'HfApi' object has no attribute 'update_repo_visibility'` "
        "(huggingface_hub 1 dropped it), nothing has been sent; this runs the organizers' file with the "
        "method put back:",
        "",
        f"    python -m promptopt.challenge.submission.organizers_command --repo_id={name}",
        "",
        PUBLIC,
        "",
        "What it draws is synthetic, and nothing may be diagnosed from it. Not a medical device.",
        "",
    ]
    return "\n".join(lines)


def same_around(script: Template, template: Template) -> bool:
    """Whether nothing but the two sections differs."""
    return script.fixed == template.fixed
