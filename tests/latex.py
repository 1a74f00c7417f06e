"""pdflatex, for tests of tables; skips with the reason where it cannot."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

_PACKAGES = ("array", "booktabs", "graphicx")


def compile_tables(sources: Sequence[str], folder: Path, *, options: str = "") -> str:
    """Compile a paper around the tables in `folder`, and give what pdflatex said; fail on an error.

    pytest.skip where pdflatex or a package is missing. No table may be wider than the text.
    """
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("no pdflatex on the PATH (Debian: texlive-latex-recommended)")
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(
        [
            rf"\documentclass[{options}]{{article}}",
            *(rf"\usepackage{{{name}}}" for name in _PACKAGES),
            r"\begin{document}",
            *(source + r"\clearpage" for source in sources),
            r"\end{document}",
        ]
    )
    (folder / "paper.tex").write_text(text, encoding="ascii")
    done = subprocess.run(
        [program, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
    )
    missing = re.search(r"File `(\S+)\.sty' not found", done.stdout)
    if missing:
        pytest.skip(f"LaTeX has no package {missing[1]}")
    assert done.returncode == 0, done.stdout[-3000:]
    assert (folder / "paper.pdf").stat().st_size > 1000
    # captions may break badly in narrow columns; boxes of tables may not stick out
    wide = [float(width) for width in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide", done.stdout)]
    assert max(wide, default=0.0) < 1, done.stdout
    return done.stdout
