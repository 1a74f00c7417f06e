"""What `promptopt transfer` leaves in its folder: a table, a JSON of everything, a figure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.estimate import Estimate
from promptopt.base.files import writable_folder, write_json, write_text
from promptopt.formatting.charts import COLORS, GRAY, Panel, Series, forest_plot, save_figure
from promptopt.formatting.tables import csv_table
from promptopt.transfer.transfer import Transfer

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_transfers(transfers: Mapping[str, Sequence[Transfer]], out: str | Path) -> list[Path]:
    """Write transfer.csv, transfer.json and transfer.png, each whole or not at all.

    Args:
        transfers: name of the other generator -> its transfers, one a run, the runs in the same order.
        out: the folder; made if missing.

    Raises promptopt.base.files.FileError where the folder cannot be written.
    """
    folder = writable_folder(Path(out), "the transfer")
    document = {
        "format": "promptopt-transfer",
        "version": 1,
        "transfers": [
            {"name": name, **_plain(one)} for name, several in transfers.items() for one in several
        ],
    }
    return [
        write_text(folder / "transfer.csv", _table(transfers)),
        write_json(folder / "transfer.json", document, ensure_ascii=False, allow_nan=False),
        save_figure(chart(transfers), folder / "transfer.png"),
    ]


def _table(transfers: Mapping[str, Sequence[Transfer]]) -> str:
    """One line a prompt and generator; the run's own generator is called `home`."""
    rows: list[list[object]] = []
    estimates: list[Mapping[str, Estimate]] = []

    def line(study: str, generator: str, prompt: str, *, rank: int | None, found: Mapping[str, Estimate],
             left_out: str = "") -> None:  # fmt: skip
        rows.append([study, generator, prompt, rank, left_out])
        estimates.append(found)

    for several in zip(*transfers.values(), strict=True):
        study = several[0].study
        for row in several[0].rows:
            line(study, "home", row.candidate.label, rank=row.home_rank, found={"score": row.home})
        for name, one in zip(transfers, several, strict=True):
            line(study, name, one.baseline[0], rank=None, found=one.baseline[1])
            for row in one.rows:
                score = {} if row.away is None else {"score": row.away.estimate}
                left_out = "too long" if row.away is None else ""
                found = {**score, **row.estimates}
                line(study, name, row.candidate.label, rank=row.home_rank, found=found, left_out=left_out)
    return csv_table(["study", "generator", "prompt", "home_rank", "left_out"], rows, estimates)


def _plain(one: Transfer) -> dict[str, Any]:
    """As plain JSON values."""
    return {
        "study": one.study,
        "category": one.category,
        "home": dict(zip(("uri", "fingerprint"), one.home, strict=True)),
        "generator": dict(zip(("uri", "fingerprint"), one.generator, strict=True)),
        "baseline": {
            "prompt": one.baseline[0],
            "estimates": {name: e.to_dict() for name, e in one.baseline[1].items()},
        },
        "winner": one.winner.candidate.label,
        "verdict": one.sentence,
        "rank_correlation": one.rank_correlation.to_dict(),
        "seeds": list(one.seeds),
        "prompts": [
            {
                "prompt": row.candidate.label,
                "home_rank": row.home_rank,
                "home": row.home.to_dict(),
                "away": None if row.away is None else row.away.estimate.to_dict(),
                "per_image": None if row.away is None else [float(v) for v in row.away.per_image],
                "estimates": {name: e.to_dict() for name, e in row.estimates.items()},
            }
            for row in one.rows
        ],
        "left_out": [{"prompt": o.prompt, "tokens": o.count, "lost": o.lost} for o in one.too_long],
    }


def chart(transfers: Mapping[str, Sequence[Transfer]]) -> Figure:
    """A panel a run: each prompt's score with interval, at home and with each other generator."""
    panels = []
    for several in zip(*transfers.values(), strict=True):
        rows = several[0].rows
        series = [Series(f"home ({_short(several[0].home[0])})", GRAY, [row.home for row in rows])]
        for name, one, color in zip(transfers, several, itertools.cycle(COLORS), strict=False):
            scores = [None if row.away is None else row.away.estimate for row in one.rows]
            series.append(Series(name, color, scores, missing="too long"))
        lines = [f"{row.home_rank}. {row.candidate.label}" for row in rows]
        panels.append(Panel(several[0].study, lines, series))
    return forest_plot(
        panels,
        "score: difference from the same generator's baseline prompt,\nin SDs of its images, 95 % interval",
    )


def _short(uri: str) -> str:
    """The end of a path, enough to know it by."""
    parts = uri.split("/")
    return uri if len(parts) < 4 else "/".join(["…", *parts[-2:]])
