"""The folder of a synthesis: what is in it, and the settings that it is kept to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from promptopt.base.files import file_digest, link_or_copy, write_json
from promptopt.base.reading import json_object
from promptopt.synthesis.plan import Plan, SynthesisError

if TYPE_CHECKING:
    from generators.store import StoredImage

IMAGES, MANIFEST, SETTINGS, STORE = "images", "manifest.csv", "synthesis.json", ".store"


def keep_settings(folder: Path, plan: Plan) -> None:
    """Write the plan's settings down; in a folder that has some, they must be the same but for more images.

    Raises:
        SynthesisError: a folder with images of other settings, or of more prompts or images.
    """
    path = folder / SETTINGS
    settings = plan.settings()
    if path.exists():
        old = json_object(path, error=SynthesisError, remedy="Choose another folder.")
    else:
        if any((folder / IMAGES).glob("*")):
            raise SynthesisError(f"{folder / IMAGES}: holds files of another origin; choose another folder")
        old = settings
    faults = [
        f"{key}: {old.get(key)!r} -> {settings[key]!r}"
        for key in ("seed", "pattern")
        if old.get(key) != settings[key]
    ]
    drawn = old.get("request", {})
    for key, value in settings["request"].items():
        if drawn.get(key) != value:
            faults.append(f"{key}: {drawn.get(key)!r} -> {value!r}")
    before, now = old.get("prompts", 0), settings["prompts"]
    may_grow = plan.total is None
    if plan.prompts_digest(before) != old.get("prompts_digest") or not (
        before == now or (may_grow and before < now)
    ):
        faults.append(f"prompts: {before} -> {now} (a longer list must begin with the shorter one)")
    for key in ("per_prompt", "total"):
        before, now = old.get(key), settings[key]
        if (before is None) != (now is None) or (before is not None and now < before):
            faults.append(f"{key}: {before} -> {now}")
    if faults:
        raise SynthesisError(
            f"{folder}: its images were made with other settings:\n"
            + "\n".join(f"  {fault}" for fault in faults)
            + "\nChoose another folder, or put the settings back. Prompts and images may be added, "
            "not taken away."
        )
    write_json(path, settings, ensure_ascii=False)


def kept_pattern(folder: Path) -> str | None:
    """The pattern of the names in a folder; None in a new one. Raises SynthesisError for damaged settings."""
    path = folder / SETTINGS
    if not path.exists():
        return None
    pattern = json_object(path, error=SynthesisError, remedy="Choose another folder.").get("pattern")
    return pattern if isinstance(pattern, str) else None


def place(image: StoredImage, target: Path) -> bool:
    """The stored image under its name, as a hard link; True where the disk has none and it was copied."""
    if target.exists() and (target.samefile(image.path) or file_digest(target) == image.sha256):
        return False
    return link_or_copy(image.path, target)
