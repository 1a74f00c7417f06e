"""The 2024 edition's folder: categories, prompts, models, example images, the synthesis part."""

from __future__ import annotations

from pathlib import Path

from generators.adapters.lora import split_uri
from generators.errors import GeneratorError
from promptopt.base.files import file_digest
from promptopt.challenge.check.files import check_card, check_weights
from promptopt.challenge.check.findings import Findings
from promptopt.challenge.check.pictures import Picture, check_pictures
from promptopt.challenge.check.tokens import check_lengths
from promptopt.challenge.submission.details import CategoryEntry, ModelEntry, Submission
from promptopt.challenge.submission.examples import LIST
from promptopt.challenge.submission.gi2024 import CARD, PROMPTS_CSV, PROMPTS_JSON, PROMPTS_TXT
from promptopt.challenge.submission.models import MODEL, model_fingerprint
from promptopt.challenge.submission.synthesis import SYNTHESIS, inside, read_manifest
from promptopt.config.study_file import StudyError
from promptopt.run.errors import ExportError
from promptopt.run.prompts import PromptList, read_prompts
from promptopt.synthesis.folder import IMAGES, MANIFEST
from promptopt.synthesis.naming import PATTERN
from studies.category import CATEGORIES

_ANEW = "Write the submission anew"


def check_gi2024(folder: Path, submission: Submission, findings: Findings) -> list[Picture]:
    """All of it but what `check.files` looks at; returns the images."""
    pictures: list[Picture] = []
    for category in CATEGORIES:
        if category in submission.categories:
            pictures += _check_category(folder, category, submission.categories[category], findings)
        elif submission.partial:
            findings.warning(category, "is left out", "That was --partial; the challenge asks for all three")
        else:
            findings.error(category, "is missing", "Give a run of this category, or --partial")
    for category in sorted(set(submission.categories) - set(CATEGORIES)):
        findings.error(category, "is no category of the challenge", f"These are {', '.join(CATEGORIES)}")
    known = {*submission.categories, *([SYNTHESIS] if submission.synthesis else [])}
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name not in known:
            findings.error(path.name, "is no part of the submission", "Remove the folder")
    if submission.synthesis is not None:
        listed = check_listed(folder, Path(SYNTHESIS), MANIFEST, findings)
        if listed is not None and len(listed) != submission.synthesis.images:
            findings.error(
                f"{SYNTHESIS}/{MANIFEST}",
                f"lists {len(listed)} images, submission.json says {submission.synthesis.images}",
                _ANEW,
            )
        pictures += check_pictures(folder, _images(folder, Path(SYNTHESIS)), findings)
    return pictures


def _check_category(folder: Path, category: str, entry: CategoryEntry, findings: Findings) -> list[Picture]:
    place = Path(category)
    if not (folder / place).is_dir():
        findings.error(category, "is missing, and submission.json has it", _ANEW)
        return []
    check_card(folder, place / CARD, findings)
    if not (folder / place / PROMPTS_CSV).is_file():
        findings.error(place / PROMPTS_CSV, "is missing", _ANEW)
    study = _study(folder, place, category, entry, findings)
    texts = _check_texts(folder, place, entry, study, findings)
    readable = _check_model(folder, place, entry.model, findings)
    if texts and readable is not None:
        check_lengths(texts, readable, place / PROMPTS_TXT, findings)
    if entry.images:
        _check_examples(folder, place, entry, texts, findings)
    return check_pictures(folder, _images(folder, place), findings)


def _study(
    folder: Path, place: Path, category: str, entry: CategoryEntry, findings: Findings
) -> PromptList | None:
    own = place / PROMPTS_JSON
    try:
        study = read_prompts(folder / own)
    except StudyError as error:
        findings.error(own, str(error).removeprefix(f"{folder / own}: ").rstrip("."), _ANEW)
        return None
    for name, said, expected in (
        ("category", study.category, category),
        ("study", study.study, entry.study),
        ("generator.fingerprint", study.generator.fingerprint, entry.model.fingerprint),
    ):
        if said != expected:
            findings.error(own, f"{name} is {said!r}, and submission.json has {expected!r}", _ANEW)
    shares = [prompt.weight for prompt in study.prompts if prompt.weight > 0]
    if abs(sum(shares) - 1) > 0.01:
        findings.error(own, f"the weights add up to {sum(shares):.3g}, not 1", _ANEW)
    scores = [prompt.confirmation.get("score") for prompt in study.prompts if prompt.weight > 0]
    if scores and all(s is not None and s.high is not None and s.high < 0 for s in scores):
        findings.warning(
            own,
            "every submitted prompt is worse than the plain baseline prompt, beyond its interval",
            "Search longer, or submit the baseline",
        )
    return study


def _check_texts(
    folder: Path, place: Path, entry: CategoryEntry, study: PromptList | None, findings: Findings
) -> list[str]:
    own = place / PROMPTS_TXT
    try:
        texts = (folder / own).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        findings.error(own, "is missing or no text", _ANEW)
        return []
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            findings.error(f"{own}, line {number}", "is empty", "Remove the line")
        elif text in texts[: number - 1]:
            findings.error(
                f"{own}, line {number}", f"repeats line {texts.index(text) + 1}", "Remove the line"
            )
    if len(texts) != entry.prompts:
        findings.error(own, f"has {len(texts)} prompts, submission.json says {entry.prompts}", _ANEW)
    if study is not None and texts != [p.prompt for p in study.prompts if p.weight > 0]:
        findings.error(own, f"has other prompts than those with a weight in {PROMPTS_JSON}", _ANEW)
    return texts


def _check_model(folder: Path, place: Path, model: ModelEntry, findings: Findings) -> Path | str | None:
    """Where the prompts can be counted: the folder or the hub address; None where there is no model."""
    base, adapters = split_uri(model.uri)
    if model.weights == "reference":
        if not all(part.startswith("hf:") for part in (base, *(a.path for a in adapters))):
            findings.error("submission.json", f"{place}: {model.uri} is no hub address", _ANEW)
            return None
        if "@" not in base:
            findings.warning(
                "submission.json",
                f"{place}: {base} names no revision, so the model may change later",
                "Give it as hf:owner/name@commit by --generator",
            )
        return base
    if base != (place / MODEL).as_posix() or not (folder / place / MODEL).is_dir():
        findings.error(
            place / MODEL, "is missing, and submission.json says that the weights come along", _ANEW
        )
        return None
    if not check_weights(folder, place / MODEL, findings):
        return None
    try:
        found = model_fingerprint(folder / place / MODEL, [adapter.scale for adapter in adapters])
    except GeneratorError as error:
        findings.error(place / MODEL, str(error).replace(f"{folder}/", ""), _ANEW)
        return None
    if found != model.fingerprint:
        findings.error(
            place / MODEL,
            f"is another model ({found[:12]}) than the one of the study ({model.fingerprint[:12]})",
            _ANEW,
        )
    return folder / place / MODEL


def _check_examples(
    folder: Path, place: Path, entry: CategoryEntry, texts: list[str], findings: Findings
) -> None:
    rows = check_listed(folder, place, LIST, findings)
    if rows is None:
        return
    if len(rows) != entry.images:
        findings.error(place / LIST, f"lists {len(rows)} images, submission.json says {entry.images}", _ANEW)
    for line, row in enumerate(rows, start=2):
        where = f"{place / LIST}, line {line}"
        try:
            prompt, image = int(row["prompt_number"]), int(row["image_number"])
        except ValueError:
            findings.error(where, "prompt_number or image_number is no number", _ANEW)
            continue
        if row["file"] != f"{IMAGES}/{PATTERN.format(p=prompt, i=image)}":
            findings.error(where, f"{row['file']} is not the name of image {image} of prompt {prompt}", _ANEW)
        if not 1 <= prompt <= len(texts) or row["prompt"] != texts[prompt - 1]:
            findings.error(where, f"its prompt is not line {prompt} of {PROMPTS_TXT}", _ANEW)
        if row["fingerprint"] != entry.model.fingerprint:
            findings.error(where, f"is of another generator ({row['fingerprint'][:12]})", _ANEW)


def check_listed(folder: Path, place: Path, name: str, findings: Findings) -> list[dict[str, str]] | None:
    """A list of images and the files beside it name each other; None where there is no list."""
    try:
        rows = read_manifest(folder / place / name)
        for line, row in enumerate(rows, start=2):
            inside(row["file"], f"line {line}")
    except ExportError as error:
        findings.error(place / name, str(error).removeprefix(f"{folder / place / name}: "), _ANEW)
        return None
    listed = {(place / row["file"]).as_posix() for row in rows}
    present = {own.as_posix() for own in _images(folder, place)}
    for own in sorted(listed - present):
        findings.error(own, f"is listed in {name} and missing", "Make it again")
    for row in rows:
        own = (place / row["file"]).as_posix()
        if own in present and file_digest(folder / own) != row["sha256"]:
            findings.error(
                own, f"is not the image that {name} lists: it was changed or damaged", "Make it again"
            )
    for own in sorted(present - listed):
        findings.error(own, f"is not listed in {name}, so nothing says how it was made", "Remove it")
    return rows


def _images(folder: Path, place: Path) -> list[Path]:
    found = (folder / place / IMAGES).rglob("*")
    return sorted(path.relative_to(folder) for path in found if path.is_file() and not path.is_symlink())
