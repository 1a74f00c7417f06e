"""Checks of files as such: links, pickles, weights, checksums, text that names this machine."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from generators.errors import GeneratorError
from generators.training.push import files_to_push
from promptopt.base.files import file_digest
from promptopt.challenge.check.findings import Findings
from promptopt.challenge.submission.folder import CHECKSUMS

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".dcm")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".npy", ".npz", ".joblib")
_JUNK = (".ds_store", "thumbs.db", "desktop.ini", "__pycache__", ".git", ".ipynb_checkpoints", ".lock")
_TEXTS = (".json", ".md", ".txt", ".csv", ".yaml", ".yml", ".py")
_LOCAL = re.compile(
    r"(?<![\w./:-])(?:/(?:home|Users|root|mnt|work|data|scratch|tmp)/[\w./-]+|[A-Z]:\\\\?[\w\\.-]+)"
)
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_AGAIN = "Write the sums anew with --write-checksums if the change was yours, else the submission"
_LARGE = 2**20 * 8  # longer text is no text that anybody wrote


def regular_files(folder: Path, findings: Findings) -> list[Path]:
    """The folder's files, relative to it and sorted; links and special files are errors and left out."""
    files = []
    for path in sorted(folder.rglob("*")):
        own = path.relative_to(folder)
        if path.is_symlink():
            findings.error(
                own, "is a link, which leads nowhere on another machine", "Put the file itself there"
            )
        elif path.is_file():
            files.append(own)
        elif not path.is_dir():
            findings.error(own, "is no file and no folder", "Remove it")
    return files


def check_kinds(folder: Path, files: list[Path], findings: Findings) -> None:
    """Pickles, leftovers, and text with paths of this machine."""
    for own in files:
        junk = [part for part in own.parts if part.lower() in _JUNK]
        if junk:
            findings.warning(own, "is a leftover of a program", "Remove it")
        suffix = own.suffix.lower()
        if suffix in _PICKLES:
            findings.error(
                own, "is a pickle, or may be one, and can run code", "Remove it; weights go as safetensors"
            )
        elif suffix in _TEXTS and (folder / own).stat().st_size <= _LARGE:
            text = (folder / own).read_text(encoding="utf-8", errors="replace")
            if found := _LOCAL.search(text):
                findings.warning(
                    own, f"names a path of your machine: {found[0]}", "Anybody will read it; take it out"
                )


def check_weights(folder: Path, place: Path, findings: Findings) -> bool:
    """A model's folder holds whole safetensors and text alone, with a card; whether it is fit to be read."""
    try:
        files_to_push(folder / place)
    except GeneratorError as error:
        said = str(error).removeprefix(f"{folder / place}: ").replace(f"{folder}/", "")
        findings.error(place, said, "Write the submission anew from the model's own folder")
        return False
    return True


def check_checksums(folder: Path, files: list[Path], findings: Findings) -> None:
    """SHA256SUMS names every file, and rightly."""
    path = folder / CHECKSUMS
    names = {own.as_posix() for own in files} - {CHECKSUMS}
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        findings.error(CHECKSUMS, "is missing or cannot be read", "Write it with --write-checksums")
        return
    listed: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            findings.error(f"{CHECKSUMS}, line {number}", f"{line[:80]!r} is no checksum", _AGAIN)
            continue
        name = match[2]
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            findings.error(f"{CHECKSUMS}, line {number}", f"{name!r} leads out of the folder", _AGAIN)
            continue
        listed[name] = match[1]
    for name in sorted(set(listed) - names):
        findings.error(name, f"is listed in {CHECKSUMS} and missing", "Write the submission anew")
    for name in sorted(names - set(listed)):
        findings.error(name, f"is not listed in {CHECKSUMS}, so it was added later", f"Remove it. {_AGAIN}")
    for name in sorted(names & set(listed)):
        if file_digest(folder / name) != listed[name]:
            findings.error(name, f"is not what {CHECKSUMS} says: it was changed or damaged", _AGAIN)


def check_card(folder: Path, own: Path, findings: Findings) -> None:
    """A text that has to say something."""
    try:
        said = (folder / own).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        findings.error(own, "is missing or no text", "Write the submission anew")
        return
    if not said:
        findings.error(own, "is empty", "Say there what the model was trained on")
