"""The 2025 edition's folder: the organizers' script, untouched but for two sections, and what it needs."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from generators.errors import GeneratorError
from generators.folder import model_files
from promptopt.challenge.check.files import check_card
from promptopt.challenge.check.findings import Findings
from promptopt.challenge.submission.details import ModelEntry, Submission
from promptopt.challenge.submission.gi2025 import SAMPLE, check_info, same_around
from promptopt.challenge.submission.models import model_fingerprint, split_uri
from promptopt.challenge.submission.script import REQUIREMENTS, REWRITTEN, SCRIPT
from promptopt.challenge.submission.template import Template, installed, read_template, split
from promptopt.run.errors import ExportError

IMAGES_PER_PROMPT = 10
_ANEW = "Write the submission anew"
_NAME = re.compile(r"prompt(\d{4,})_img(\d{4,})\.png")
_COMMENTED = re.compile(r"^\s*(?:prompt_to_real|jsons__)\s*=")


def check_gi2025(
    folder: Path, submission: Submission | None, findings: Findings, *, template: Path | None
) -> None:
    """All of it but what `check.files` looks at."""
    check_card(folder, Path("README.md"), findings)
    _check_requirements(folder, findings)
    _check_script(folder, findings, template)
    if submission is not None and submission.model is not None:
        _check_model(folder, submission.model, findings)


def check_names(files: Sequence[Path], findings: Findings) -> None:
    """Ten images of every prompt, numbered from 1 without a gap, under the edition's names."""
    counts: Counter[int] = Counter()
    for own in files:
        match = _NAME.fullmatch(own.name)
        if match is None or f"prompt{int(match[1]):04d}_img{int(match[2]):04d}.png" != own.name:
            findings.error(own, "is no name of the edition, prompt0001_img0001.png and so on", "Rename it")
        elif not 1 <= int(match[2]) <= IMAGES_PER_PROMPT or int(match[1]) < 1:
            findings.error(own, f"numbers run from 1, and images to {IMAGES_PER_PROMPT}", "Remove it")
        else:
            counts[int(match[1])] += 1
    if not counts:
        findings.error("images", "no image has a name of the edition", "Make them with --edition gi-2025")
        return
    for prompt in range(1, max(counts) + 1):
        if counts[prompt] != IMAGES_PER_PROMPT:
            findings.error(
                f"images/prompt{prompt:04d}_*",
                f"prompt {prompt} has {counts[prompt]} images, the edition takes {IMAGES_PER_PROMPT}",
                "Run `promptopt synthesize --edition gi-2025` again; it makes what is missing",
            )
    if max(counts) % 2:
        findings.warning(
            "images",
            f"{max(counts)} prompts are an odd number, and they are scored in pairs of two wordings",
            "Check the list of prompts",
        )


def _check_requirements(folder: Path, findings: Findings) -> None:
    try:
        lines = (folder / REQUIREMENTS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        findings.error(REQUIREMENTS, "is missing or no text", _ANEW)
        return
    for number, line in enumerate(lines, start=1):
        text = line.split("#")[0].strip()
        if not text:
            continue
        where = f"{REQUIREMENTS}, line {number}"
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            findings.error(
                where, f"{text!r} is no package that pip finds for the organizers", "Name a package"
            )
            continue
        if requirement.url is not None:
            findings.warning(
                where, f"{text!r} is fetched from an address of its own", "Name a released package"
            )


def _check_script(folder: Path, findings: Findings, template: Path | None) -> None:
    try:
        content = (folder / SCRIPT).read_bytes()
    except OSError:
        findings.error(SCRIPT, "is missing", _ANEW)
        return
    try:
        script = split(content, SCRIPT)
        ast.parse(content)
    except ExportError as error:
        findings.error(SCRIPT, str(error).removeprefix(f"{SCRIPT}: "), _ANEW)
        return
    except (SyntaxError, ValueError) as error:
        findings.error(SCRIPT, f"is no Python ({error})", _ANEW)
        return
    original = None
    if template is not None or installed() is not None:
        original = read_template(template)
        if not same_around(script, original):
            findings.error(
                SCRIPT,
                f"differs from the organizers' outside of the two sections, {_difference(script, original)}",
                "Put those lines back, or write the submission anew",
            )
    else:
        findings.warning(
            SCRIPT,
            "could not be compared with the organizers' script, which is not here",
            "`pip install medvqa`, or give your copy by --template",
        )
    try:
        sample = SAMPLE if original is None else original.info()
        check_info(script.info(), sample)
    except ExportError as error:
        problem = str(error).removeprefix("--info: ").split(". Write a YAML")[0]
        findings.error(SCRIPT, f"SUBMISSION_INFO: {problem}", "Mend it in the file, or by --info")
    _check_rewritten(script, findings)


def _check_rewritten(script: Template, findings: Findings) -> None:
    """What the organizers' evaluation would change within the sections, by plain replacement of text."""
    for number, section in enumerate(script.sections, start=1):
        for line in section.decode("utf-8", errors="replace").splitlines():
            hit = next((text for text in REWRITTEN if text in line), None)
            if hit is None and _COMMENTED.match(line):
                hit = line.split("=")[0].strip()
            if hit is not None:
                findings.error(
                    f"{SCRIPT}, section {number}",
                    f"the organizers' evaluation replaces or removes {hit!r} in: {line.strip()[:80]}",
                    "Write that line in other words",
                )


def _check_model(folder: Path, model: ModelEntry, findings: Findings) -> None:
    base, adapters = split_uri(model.uri)
    if model.weights == "reference":
        if "@" not in base:
            findings.warning(
                "submission.json",
                f"{base} names no revision, so the model may change later",
                "Give it as hf:owner/name@commit by --generator",
            )
        return
    try:
        model_files(folder)
        found = model_fingerprint(folder, [adapter.scale for adapter in adapters])
    except GeneratorError as error:
        findings.error("model_index.json", str(error).replace(f"{folder}/", ""), _ANEW)
        return
    if found != model.fingerprint:
        findings.error(
            "model_index.json",
            f"the model is another one ({found[:12]}) than the study's ({model.fingerprint[:12]})",
            _ANEW,
        )


def _difference(script: Template, original: Template) -> str:
    """The first line that differs, for people."""
    for mine, theirs in zip(script.fixed, original.fixed, strict=True):
        if mine != theirs:
            own, other = mine.splitlines(), theirs.splitlines()
            for number, line in enumerate(own):
                if number >= len(other) or line != other[number]:
                    return f"first at {line.decode('utf-8', errors='replace').strip()[:80]!r}"
            return "where lines are missing"
    return "nowhere"
