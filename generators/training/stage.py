"""A stage's folder: what it was begun with, so that nothing else goes on in it."""

import json
from pathlib import Path
from typing import Any

from promptopt.base.training.errors import TrainingError


def claim(stage: Path, identity: dict[str, Any]) -> None:
    """Refuse to go on in a folder whose stage was begun with other data or settings."""
    file = stage / "stage.json"
    if file.is_file():
        before = json.loads(file.read_text(encoding="utf-8"))
        # only what was recorded: a later version may record more
        changed = sorted(_changes(before, {key: identity.get(key) for key in before}))
        if changed:
            raise TrainingError(
                f"{file}: this stage was begun with other settings ({', '.join(changed)}); "
                f"take another output folder, or remove {stage} to train the stage anew"
            )
        return
    stage.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(identity, indent=1, sort_keys=True), encoding="utf-8")


def configuration(part: Any) -> dict[str, str]:
    """What a part of diffusers was configured with, without notes of its version and origin."""
    return {key: repr(value) for key, value in part.config.items() if not key.startswith("_")}


def _changes(before: Any, now: Any, name: str = "") -> set[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = before.keys() | now.keys()
        return {c for k in keys for c in _changes(before.get(k), now.get(k), f"{name}.{k}".lstrip("."))}
    return set() if before == now else {name}
