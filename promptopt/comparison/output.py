"""Everything that a comparison leaves in its folder."""

from __future__ import annotations

import json
import re
from pathlib import Path

from promptopt.base.files import writable_folder, write_text
from promptopt.comparison.charts import write_charts
from promptopt.comparison.pictures import write_pairs, write_samples
from promptopt.comparison.run import GeneratorComparison
from promptopt.comparison.tables import long_csv, table_csv, table_latex

_DOCUMENT = "comparison.json"
_OWN = re.compile(r"(table|chart|pairs)-[\w.-]+\.(csv|tex|png)")


def write_comparison(comparison: GeneratorComparison, out: str | Path) -> list[Path]:
    """Tables (CSV, LaTeX), charts and samples (PNG) and one JSON of everything; same input, same files.

    Raises StudyError where the folder cannot be written, OSError for a single file.
    """
    folder = writable_folder(Path(out), "the comparison")
    before = _listed(folder / _DOCUMENT)
    written = [write_text(folder / "comparison.csv", long_csv(comparison))]
    for scope in comparison.scopes:
        written += [
            write_text(folder / f"table-{scope.slug}.csv", table_csv(comparison, scope)),
            write_text(folder / f"table-{scope.slug}.tex", table_latex(comparison, scope)),
        ]
    written += write_charts(comparison, folder)
    written.append(write_samples(comparison, folder / "samples.png"))
    written += write_pairs(comparison, folder)
    names = [path.name for path in written]
    document = {**comparison.to_dict(), "files": names}
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    written.insert(0, write_text(folder / _DOCUMENT, text))
    for name in before - set(names):  # of other tables: they would be taken for this comparison's
        (folder / name).unlink(missing_ok=True)
    return written


def _listed(document: Path) -> set[str]:
    """Files of an earlier comparison in this folder; plain names of our own kinds alone."""
    try:
        names = json.loads(document.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {name for name in names if isinstance(name, str) and _OWN.fullmatch(name)}
