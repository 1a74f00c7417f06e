"""The map: real and generated images in the first two principal components of their features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from promptopt.formatting.charts import BLUE, GRAY, ORANGE
from promptopt.study.report.figures import fragment, hover

if TYPE_CHECKING:
    from promptopt.study.report.sets.album import Album
    from promptopt.study.sets.confirm import Confirmation
    from promptopt.study.sets.search import ClassSearch

PICTURES = 300
"""Points of all classes."""
_COLORS = {"real": GRAY, "baseline": ORANGE, "set": BLUE}
_SYMBOLS = ("circle", "diamond", "square", "cross", "triangle-up")


@dataclass(frozen=True, kw_only=True)
class Point:
    """One image. `alone` is its distance to the nearest image of the other kind: set and real."""

    label: str
    kind: str
    text: str
    picture: int
    x: float
    y: float
    alone: float


def points(
    searches: Mapping[str, ClassSearch], confirmation: Confirmation, album: Album
) -> tuple[list[Point], tuple[float, float]]:
    """Real images held out, the baseline's and the set's on fresh seeds; and the share of both components."""
    most = PICTURES // (len(_COLORS) * len(searches))
    named: list[tuple[str, str, str, Path]] = []
    rows = []
    for label, one in searches.items():
        real = one.setup.positives.where(pool="test").paths()
        confirmed = confirmation.classes[label]
        own = [(label, "real", "", path) for path in spread_out(real, most)]
        for kind in ("baseline", "set"):
            drawn = zip(confirmed.prompts[kind], confirmed.images[kind], strict=True)
            own += [(label, kind, candidate.label, image.path) for candidate, image in list(drawn)[:most]]
        named += own
        rows.append(one.measuring.features.features(one.setup.encoder, [path for *_, path in own]))
    features = np.concatenate(rows).astype(np.float64)
    places, shares = principal(features)
    lonely = _alone(features, [(label, kind) for label, kind, *_ in named])
    return [
        Point(
            label=label,
            kind=kind,
            text=text,
            picture=album.add(path, small=True),
            x=round(float(x), 4),
            y=round(float(y), 4),
            alone=round(float(far), 4),
        )
        for (label, kind, text, path), (x, y), far in zip(named, places, lonely, strict=True)
    ], shares


def spread_out(paths: Sequence[Path], most: int) -> list[Path]:
    """At most so many, evenly from all."""
    return list(paths[:: max(1, -(-len(paths) // most))])


def principal(features: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Places on the first two principal components, (n, 2), and the share of the variance of each.

    The largest loading of each component is positive, so that the map does not flip between machines.

    >>> import numpy as np
    >>> places, shares = principal(np.array([[4.0, 0.0], [-4.0, 0.0], [0.0, 2.0], [0.0, -2.0]]))
    >>> places.shape, [round(share, 2) for share in shares]
    ((4, 2), [0.8, 0.2])
    """
    centered = features - features.mean(axis=0)
    _, sizes, axes = np.linalg.svd(centered, full_matrices=False)
    axes = axes[:2]
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    places = np.zeros((len(features), 2))
    places[:, : len(axes)] = centered @ (axes * np.where(signs == 0, 1, signs)[:, None]).T
    variances = np.zeros(2)
    variances[: len(axes)] = sizes[:2] ** 2
    total = float((sizes**2).sum()) or 1.0
    return places, (float(variances[0] / total), float(variances[1] / total))


def _alone(features: NDArray[np.float64], kinds: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
    """Real: distance to the nearest image of the class's set; generated: to the nearest real one."""
    found = np.zeros(len(features))
    for label in dict.fromkeys(label for label, _ in kinds):
        own = {k: [i for i, kind in enumerate(kinds) if kind == (label, k)] for k in _COLORS}
        for kind, rows in own.items():
            others = features[own["set" if kind == "real" else "real"]]
            for row in rows:
                found[row] = np.sqrt(((features[row] - others) ** 2).sum(axis=1).min())
    return found


def chart(found: Sequence[Point], shares: tuple[float, float], *, real: str = "real") -> str:
    """A point an image; `customdata` is its place in `found`, for the script that shows the selected."""
    figure = go.Figure()
    labels = list(dict.fromkeys(point.label for point in found))
    for place, label in enumerate(labels):
        for kind, color in _COLORS.items():
            own = [i for i, point in enumerate(found) if (point.label, point.kind) == (label, kind)]
            figure.add_scatter(
                x=[found[i].x for i in own],
                y=[found[i].y for i in own],
                mode="markers",
                name=f"{label}, {real if kind == 'real' else kind}",
                customdata=own,
                text=[hover(found[i].text) for i in own],
                marker={"color": color, "size": 8, "symbol": _SYMBOLS[place % len(_SYMBOLS)]},
                hovertemplate="%{fullData.name}<br>%{text}<extra></extra>",
            )
    for axis, share in zip("xy", shares, strict=True):
        figure.update_layout({f"{axis}axis": {"title": f"{100 * share:.0f} % of the variance"}})
    figure.update_layout(dragmode="lasso")
    return fragment(figure, "map", 460, top=60)


def as_data(found: Sequence[Point]) -> list[dict[str, Any]]:
    """What the script needs of each point."""
    return [
        {"label": p.label, "kind": p.kind, "text": p.text, "picture": p.picture, "alone": p.alone}
        for p in found
    ]
