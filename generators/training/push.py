"""A trained model or adapter to a hub repository, after a look at every file that would leave the machine."""

from __future__ import annotations

import glob
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from generators.errors import GeneratorError

_REPOSITORY = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_TEXTS = (".json", ".md", ".txt", ".yaml", ".yml")
_TEXT_NAMES = ("LICENSE", "NOTICE", ".gitattributes")
_IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".svg", ".dcm")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_SHOWN = 5


@dataclass(frozen=True)
class Pushed:
    """What was uploaded: the commit's address, and the files with their total size in bytes."""

    url: str
    files: tuple[str, ...]
    size: int


def push_folder(
    folder: Path,
    repository: str,
    *,
    revision: str | None = None,
    private: bool = True,
    images: bool = False,
) -> Pushed:
    """Upload a model folder to `owner/name`, which is made if there is none.

    Everything in the folder is checked first, by `files_to_push`, and nothing is sent if anything is amiss.
    The token is the hub client's own (`hf auth login`, or HF_TOKEN).

    Args:
        folder: a pipeline, or an adapter that `save_lora` wrote.
        repository: "owner/name".
        revision: branch to push to, made if there is none; None for the main one.
        private: make the repository private; one that exists and is public is then refused.
        images: let image files through; they must show no patient.

    Raises:
        GeneratorError: the folder or the repository's name is unfit, the repository is public although
            `private`, or the hub refuses.
    """
    check_repository(repository)
    files = files_to_push(folder, images=images)
    return upload(folder, repository, files, revision=revision, private=private)


def check_repository(repository: str) -> None:
    """Raises GeneratorError for what is no owner/name."""
    if not _REPOSITORY.fullmatch(repository):
        raise GeneratorError(f"{repository!r} is no repository's name; write owner/name")


def upload(
    folder: Path,
    repository: str,
    files: tuple[str, ...],
    *,
    revision: str | None,
    private: bool,
    kind: Literal["model", "dataset"] = "model",
    card: str | None = None,
) -> Pushed:
    """Upload files that were checked; see `push_folder`.

    Args:
        files: paths relative to the folder.
        card: text of the README.md, in place of one in the folder.

    Raises:
        GeneratorError: the repository is public although `private`, or the hub refuses.
    """
    from huggingface_hub import HfApi

    hub = HfApi()
    which = {} if kind == "model" else {"repo_type": kind}
    try:
        hub.create_repo(repository, private=private, exist_ok=True, **which)
        # An existing repository keeps its visibility, whatever was asked for.
        public = private and not hub.repo_info(repository, **which).private
        if not public:
            if revision is not None:
                hub.create_branch(repository, branch=revision, exist_ok=True, **which)
            if card is not None:
                hub.upload_file(
                    path_or_fileobj=card.encode("utf-8"),
                    path_in_repo="README.md",
                    repo_id=repository,
                    revision=revision,
                    commit_message="Card",
                    **which,
                )
            commit: Any = hub.upload_folder(
                repo_id=repository,
                folder_path=folder,
                revision=revision,
                allow_patterns=[glob.escape(name) for name in files],
                commit_message="Upload with promptopt",
                **which,
            )
    except Exception as error:  # the hub client's errors share no base class across its versions
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise GeneratorError(
            f"{repository}: the hub refused ({reason}); log in with `hf auth login`, check name and rights"
        ) from error
    if public:
        raise GeneratorError(
            f"{repository}: exists and is public, and the push was to be private; "
            "make it private on the hub, or say that it may be public"
        )
    size = sum((folder / name).stat().st_size for name in files)
    return Pushed(str(getattr(commit, "commit_url", commit)), files, size)


def files_to_push(folder: Path, *, images: bool = False) -> tuple[str, ...]:
    """Paths, relative to the folder, of all its files, each checked.

    Weights must be readable safetensors, other files UTF-8 text of known kinds; images only if `images`.
    Anything else - pickles, archives, data sets, links that lead out of the folder - is refused.

    Raises GeneratorError naming the files and the remedy.
    """
    if not folder.is_dir():
        raise GeneratorError(
            f"{folder}: there is no such folder; give that of a trained model or adapter, a set or a run"
        )
    root = folder.resolve()
    files = sorted(path for path in folder.rglob("*") if not path.is_dir())
    names = [path.relative_to(folder).as_posix() for path in files]
    _refuse(
        folder,
        [n for n, path in zip(names, files, strict=True) if not path.resolve().is_relative_to(root)],
        "lead out of the folder; put the files themselves there",
    )
    _refuse(
        folder,
        [name for name in names if Path(name).suffix.lower() in _PICKLES],
        "are pickles, which can run code; save the model as safetensors and remove them",
    )
    pictures = [name for name in names if Path(name).suffix.lower() in _IMAGES]
    if not images:
        _refuse(folder, pictures, "are images; remove them, or say that they may go (they show no patient)")
    weights = [name for name in names if name.endswith(".safetensors")]
    texts = [name for name in names if Path(name).suffix in _TEXTS or Path(name).name in _TEXT_NAMES]
    _refuse(
        folder,
        sorted(set(names) - set(pictures) - set(weights) - set(texts)),
        "are of no kind that a model needs; remove them",
    )
    _refuse(folder, [n for n in weights if not _is_safetensors(folder / n)], "are no whole safetensors files")
    _refuse(folder, [n for n in texts if not _is_text(folder / n)], "are no UTF-8 text; remove or mend them")
    if not weights:
        raise GeneratorError(f"{folder}: holds no .safetensors file, so nothing to push; train a model first")
    card = folder / "README.md"
    if "README.md" not in names or not card.read_text(encoding="utf-8").strip():
        raise GeneratorError(
            f"{card}: the model card is missing or empty; say there on what data the model was trained"
        )
    return tuple(names)


def _refuse(folder: Path, names: list[str], why: str) -> None:
    if names:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise GeneratorError(f"{folder}: {', '.join(names[:_SHOWN])}{more} {why}")


def _is_safetensors(path: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            return True
    except (SafetensorError, OSError):
        return False


def _is_text(path: Path) -> bool:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            json.loads(text)
    except ValueError:
        return False
    return "\0" not in text
