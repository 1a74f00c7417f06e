"""A folder of lists, one option a line, as the extensions of AUTOMATIC1111's web UI keep their wildcards."""

from pathlib import Path

from promptopt.base.errors import PromptoptError
from promptopt.base.reading import numbered_lines, read_text, visible


class WildcardError(PromptoptError, ValueError):
    """A folder of wildcards that is missing or holds no options."""


def read_wildcards(folder: str | Path) -> dict[str, list[str]]:
    """Each `.txt` file below the folder as a wildcard: `color.txt` is `__color__`, `skin/tone.txt` is
    `__skin/tone__`. Empty lines and lines that begin with `#` are left out, and what is there twice.

    Raises:
        WildcardError: no such folder, no .txt file in it, one without options or that is no UTF-8 text.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> _ = Path(folder, "color.txt").write_text("# seen by day\\nred\\n\\n2::pink\\n")
        >>> read_wildcards(folder)
        {'color': ['red', '2::pink']}
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise WildcardError(
            "there is no such folder",
            file=root,
            remedy="Give a folder of .txt files, or the lists themselves.",
        )
    files = sorted(path for path in root.rglob("*.txt") if path.is_file())
    if not files:
        raise WildcardError("holds no .txt file", file=root, remedy="Put one file there for each wildcard.")
    return {path.relative_to(root).with_suffix("").as_posix(): _options(path) for path in files}


def _options(path: Path) -> list[str]:
    lines = (visible(line).strip() for _, line in numbered_lines(read_text(path, error=WildcardError)))
    found = list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    if not found:
        raise WildcardError("holds no option", file=path, remedy="Write one a line, or remove the file.")
    return found
