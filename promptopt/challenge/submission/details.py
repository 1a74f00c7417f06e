"""submission.json: what a submission folder says of itself, for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from promptopt.base.settings import read_json
from promptopt.run.errors import ExportError

DETAILS = "submission.json"
Edition = Literal["gi-2024", "gi-2025"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelEntry(_Model):
    """The generator: `uri` as `generators.load` reads it from within the folder, and the fingerprint that the
    study found its prompts with."""

    weights: Literal["copy", "reference"]
    uri: str = Field(min_length=1)
    fingerprint: str = Field(pattern=r"^[0-9a-f]{64}$")


class CategoryEntry(_Model):
    """One category: its study, the prompts with a share, and the example images of each."""

    study: str
    prompts: int = Field(ge=1)
    images: int = Field(ge=0)
    model: ModelEntry


class SynthesisEntry(_Model):
    """The image synthesis part."""

    prompts: int = Field(ge=1)
    images: int = Field(ge=1)


class Submission(_Model):
    """The whole file. `partial` says that categories are missing on purpose; gi-2025 has `model` and
    `studies` in place of `categories`."""

    format: Literal["promptopt-submission"] = "promptopt-submission"
    version: Literal[1] = 1
    edition: Edition
    partial: bool = False
    categories: dict[str, CategoryEntry] = {}
    synthesis: SynthesisEntry | None = None
    studies: list[str] = []
    model: ModelEntry | None = None
    repository: str | None = None
    promptopt: str


def write_details(folder: Path, submission: Submission) -> Path:
    """Into the folder."""
    path = folder / DETAILS
    content = submission.model_dump(mode="json", exclude_none=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read_details(folder: Path) -> Submission:
    """From a submission's folder.

    Raises ExportError: missing, not JSON, or a field that is missing or wrong.
    """
    return read_json(Submission, folder / DETAILS, error=ExportError, remedy="Write the submission anew.")
