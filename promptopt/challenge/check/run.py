"""The whole check of a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from promptopt.challenge.check.files import PICTURES, check_checksums, check_kinds, regular_files
from promptopt.challenge.check.findings import Findings
from promptopt.challenge.check.gi2024 import check_gi2024, check_listed
from promptopt.challenge.check.gi2025 import check_gi2025, check_names
from promptopt.challenge.check.pictures import Picture, check_against_real, check_pictures
from promptopt.challenge.submission.cards import LOOK
from promptopt.challenge.submission.details import DETAILS, read_details
from promptopt.challenge.submission.folder import write_checksums
from promptopt.challenge.submission.script import SCRIPT
from promptopt.run.errors import ExportError
from promptopt.synthesis.folder import MANIFEST

Kind = Literal["auto", "gi-2024", "gi-2025"]


def check_submission(
    folder: str | Path,
    *,
    edition: Kind = "auto",
    data: Path | None = None,
    template: Path | None = None,
    rewrite_checksums: bool = False,
) -> Findings:
    """Look at everything in a submission, or in the folder of a synthesis.

    Args:
        edition: "auto" goes by what is in the folder.
        data: folder with real images, none of which may be in the submission.
        template: the organizers' script, for gi-2025; None: that of the installed medvqa, if there is one.
        rewrite_checksums: write SHA256SUMS anew first.

    Raises ExportError: no such folder, or one that is neither a submission nor a synthesis.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ExportError(f"{root}: there is no such folder; give what `promptopt export submission` wrote")
    kind = _kind(root, edition)
    if rewrite_checksums:
        write_checksums(root)
    findings = Findings()
    files = regular_files(root, findings)
    check_kinds(root, files, findings)
    pictures: list[Picture] = []
    if kind == "synthesis":
        rows = check_listed(root, Path(), MANIFEST, findings)
        images = [own for own in files if own.parts[0] == "images"]
        pictures = check_pictures(root, images, findings)
        if edition == "gi-2025" and rows is not None:
            check_names(images, findings)
    else:
        check_checksums(root, files, findings)
        try:
            submission = read_details(root)
        except ExportError as error:
            findings.error(DETAILS, str(error).removeprefix(f"{DETAILS}: "), "Write the submission anew")
            submission = None
        if submission is not None and submission.edition != kind:
            findings.error(
                DETAILS, f"edition is {submission.edition}, not {kind}", "Write the submission anew"
            )
        elif kind == "gi-2025":
            check_gi2025(root, submission, findings, template=template)
        elif submission is not None:
            pictures = check_gi2024(root, submission, findings)
        others = [own for own in files if own.suffix.lower() in PICTURES]
        others = [own for own in others if own not in {picture.own for picture in pictures}]
        seen = {finding.file for finding in findings.made}
        pictures += check_pictures(root, [own for own in others if str(own) not in seen], findings)
    if data is not None:
        _check_data(root, files, data, pictures, findings)
    findings.warning(root.name or str(root), "submitting makes the repository public", LOOK)
    return findings


def _kind(root: Path, edition: Kind) -> Literal["gi-2024", "gi-2025", "synthesis"]:
    if (root / MANIFEST).is_file() and not (root / DETAILS).exists() and not (root / SCRIPT).exists():
        return "synthesis"
    if edition != "auto":
        return edition
    if (root / SCRIPT).is_file():
        return "gi-2025"
    if (root / DETAILS).is_file():
        try:
            return read_details(root).edition
        except ExportError:
            return "gi-2024"
    raise ExportError(
        f"{root}: holds neither {DETAILS} nor {SCRIPT} nor {MANIFEST}, so this is no submission; give the "
        "folder that `promptopt export submission` wrote, or say --edition"
    )


def _check_data(
    root: Path, files: list[Path], data: Path, pictures: list[Picture], findings: Findings
) -> None:
    """By whole files first, whatever they are called, then by what the images show."""
    if not data.is_dir():
        raise ExportError(f"--data {data}: there is no such folder; give the real images' one")
    by_size: dict[int, list[Path]] = {}
    for own in files:
        by_size.setdefault((root / own).stat().st_size, []).append(own)
    caught: set[Path] = set()
    for path in _real(data):
        same = by_size.get(path.stat().st_size, [])
        if same:
            digest = hashlib.sha256(path.read_bytes()).digest()
            for own in same:
                if hashlib.sha256((root / own).read_bytes()).digest() == digest:
                    caught.add(own)
                    findings.error(
                        own,
                        f"is the data set's file {path.relative_to(data)}",
                        "Remove it: it may show a patient",
                    )
    rest = [picture for picture in pictures if picture.own not in caught]
    if not check_against_real(rest, _real(data), findings):
        findings.warning(str(data), "holds no readable image, so nothing was compared", "Check --data")


def _real(data: Path) -> Iterator[Path]:
    return (path for path in sorted(data.rglob("*")) if path.suffix.lower() in PICTURES and path.is_file())
