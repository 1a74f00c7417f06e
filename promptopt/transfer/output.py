"""What `promptopt transfer` leaves in its folder: a table, a JSON of everything, a figure."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.estimate import Estimate
from promptopt.base.files import new_file, writable_folder, write_json, write_text
from promptopt.transfer.transfer import Transfer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = ("#3b82c4", "#d97706", "#4d9f5b", "#9c5bb5", "#c44e52", "#5f9ea0", "#8c6d31", "#d6619e")
_GRAY = "#888888"
_PARTS = ("value", "low", "high", "n", "status")


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
    picture = folder / "transfer.png"
    with new_file(picture) as partial:
        chart(transfers).savefig(partial, format="png", dpi=130)
    return [
        write_text(folder / "transfer.csv", _table(transfers)),
        write_json(folder / "transfer.json", document, ensure_ascii=False, allow_nan=False),
        picture,
    ]


def _table(transfers: Mapping[str, Sequence[Transfer]]) -> str:
    """One line a prompt and generator; the run's own generator is called `home`."""
    names = list(
        dict.fromkeys(name for several in transfers.values() for t in several for name in t.baseline[1])
    )
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    header = ["study", "generator", "prompt", "home_rank", "left_out"]
    writer.writerow(header + [f"{name}:{part}" for name in ("score", *names) for part in _PARTS])

    def line(head: list[object], found: Mapping[str, Estimate]) -> None:
        cells = [found.get(n) for n in ("score", *names)]
        writer.writerow(head + [_cell(e, part) for e in cells for part in _PARTS])

    for several in zip(*transfers.values(), strict=True):
        for row in several[0].rows:
            line([several[0].study, "home", row.candidate.label, row.home_rank, ""], {"score": row.home})
        for name, one in zip(transfers, several, strict=True):
            line([one.study, name, one.baseline[0], "", ""], one.baseline[1])
            for row in one.rows:
                score = {} if row.away is None else {"score": row.away.estimate}
                left_out = "too long" if row.away is None else ""
                line(
                    [one.study, name, row.candidate.label, row.home_rank, left_out],
                    {**score, **row.estimates},
                )
    return stream.getvalue()


def _cell(estimate: Estimate | None, part: str) -> object:
    value = None if estimate is None else getattr(estimate, part)
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value


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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    runs = list(zip(*transfers.values(), strict=True))
    lines = [len(several[0].rows) * (len(transfers) + 1.6) for several in runs]
    figure = Figure(figsize=(10, 1.3 + sum(0.9 + 0.2 * count for count in lines)))
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained")
    panels = figure.subplots(len(runs), 1, squeeze=False, gridspec_kw={"height_ratios": lines})
    for axes, several in zip(panels[:, 0], runs, strict=True):
        _panel(axes, dict(zip(transfers, several, strict=True)))
    panels[-1, 0].set_xlabel(
        "score: difference from the same generator's baseline prompt,\nin SDs of its images, 95 % interval"
    )
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=min(4, len(labels)), frameon=False)
    return figure


def _panel(axes: Axes, by_name: Mapping[str, Transfer]) -> None:
    first = next(iter(by_name.values()))
    step = 0.8 / (len(by_name) + 1)
    series: list[tuple[str, str, list[Estimate | None]]] = [
        (f"home ({_short(first.home[0])})", _GRAY, [row.home for row in first.rows])
    ]
    for index, (name, one) in enumerate(by_name.items()):
        scores = [None if row.away is None else row.away.estimate for row in one.rows]
        series.append((name, _COLORS[index % len(_COLORS)], scores))
    for index, (name, color, estimates) in enumerate(series):
        offset = (index - len(by_name) / 2) * step
        label: str | None = name
        for place, estimate in enumerate(estimates):
            if estimate is None or estimate.value is None:
                axes.text(0, place + offset, " too long", color=color, fontsize=8, va="center")
                continue
            low, high = (b if b is not None else estimate.value for b in (estimate.low, estimate.high))
            reach = [[estimate.value - low], [high - estimate.value]]
            axes.errorbar(
                estimate.value, place + offset, xerr=reach, fmt="o", color=color, markersize=5, label=label
            )
            label = None  # once in the legend
    axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    ticks = [f"{row.home_rank}. " + textwrap.fill(row.candidate.label, 48) for row in first.rows]
    axes.set_yticks(range(len(ticks)), ticks, fontsize=8.5)
    axes.set_ylim(len(ticks) - 0.4, -0.6)
    axes.set_title(first.study, loc="left", fontsize=10)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _short(uri: str) -> str:
    """The end of a path, enough to know it by."""
    parts = uri.split("/")
    return uri if len(parts) < 4 else "/".join(["…", *parts[-2:]])
