"""`medvqa validate_and_submit` of gi-2025, task 2, with a huggingface_hub without `update_repo_visibility`.

The organizers' command calls that method after the script has run; huggingface_hub 1 dropped it for
`update_repo_settings`, and medvqa requires 1.13. This runs their very file with the method put back. Like
theirs it makes the repository public and gated, and sends the predictions to the organizers' server:

    python -m promptopt.challenge.submission.organizers_command --repo_id=OWNER/NAME
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import Any

from promptopt.challenge.submission.template import installed
from promptopt.run.errors import ExportError


def task_file() -> Path:
    """The organizers' file of the task. Raises ExportError where their package is missing or has none."""
    template = installed()
    if template is None:
        raise ExportError("the organizers' package is not installed: pip install medvqa")
    found = template.parent.parent.parent / "competitions" / "gi-2025" / "task_2.py"
    if not found.is_file():
        raise ExportError(f"{found}: missing; is this medvqa of another time? Known to work: 0.15.7")
    return found


def _update_repo_visibility(self: Any, repo_id: str, private: bool, **others: Any) -> Any:
    return self.update_repo_settings(repo_id, private=private, **others)


def main() -> None:
    """Run the organizers' file with the arguments given."""
    import huggingface_hub

    if not hasattr(huggingface_hub.HfApi, "update_repo_visibility"):
        huggingface_hub.HfApi.update_repo_visibility = _update_repo_visibility
    os.environ["_MEDVQA_SUBMIT_FLAG_"] = "TRUE"
    file = task_file()
    sys.argv[0] = str(file)
    runpy.run_path(str(file), run_name="__main__")


if __name__ == "__main__":
    main()
