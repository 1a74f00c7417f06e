"""Fill the page of a study of sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from promptopt.base.files import write_text
from promptopt.formatting.numbers import count, estimate_parts, p_value
from promptopt.formatting.pages import page_templates
from promptopt.run.set_names import SHORT, TITLES
from promptopt.scoring.metric_titles import METRICS
from promptopt.study.report import figures
from promptopt.study.report.calibration import calibration_rows, calibration_sentence
from promptopt.study.report.likeness import nearest_pairs
from promptopt.study.report.pictures import SMALL
from promptopt.study.report.sets import atlas, charts
from promptopt.study.report.sets.album import Album, in_script
from promptopt.study.report.sets.forest import accuracy_forest, nearer_forest
from promptopt.study.report.sets.gallery import gallery
from promptopt.study.sets.words import nearer

if TYPE_CHECKING:
    from promptopt.run.prompt_sets import LearnedTemplate, SetList
    from promptopt.study.sets.confirm import Confirmation
    from promptopt.study.sets.opening import SetSetup
    from promptopt.study.sets.search import ClassSearch, StepDone

SHOWN = 8
"""Images of a row."""
_EACH = 6  # images of one prompt
_FIRST = ("baseline", "set")  # rows of the first screen, below the real images


@dataclass(frozen=True, kw_only=True)
class SetReport:
    """All that the page shows. `steps` are those of the search, for its chart."""

    setup: SetSetup
    searches: Mapping[str, ClassSearch]
    confirmation: Confirmation
    sets: SetList
    steps: Sequence[StepDone] = ()


def write_set_report(path: Path, content: SetReport) -> Path:
    """Write one self-contained HTML file: pictures, styles and scripts inside, nothing fetched."""
    environment = page_templates("promptopt.study.report")
    environment.filters["estimate"] = _estimate
    environment.filters["p"] = lambda p: p_value(p, missing="\u2014")
    environment.filters["count"] = count
    environment.filters["option"] = figures.label
    return write_text(path, environment.get_template("sets/page.html.jinja").render(**_context(content)))


def _estimate(estimate: Any, style: str = "", *, scale: float = 1, unit: str = "") -> Markup:
    shown = estimate_parts(estimate, style, scale=scale, unit=unit)
    parts = [Markup('<span class="whole">{}</span>').format(part) for part in shown]
    return Markup(" ").join(parts)


def _context(content: SetReport) -> dict[str, Any]:
    sets, setup = content.sets, content.setup
    first = next(iter(content.confirmation.classes.values()))
    real = "real" if isinstance(setup.config.data, str) else "phantom"
    request = next(iter(first.images.values()))[0].request
    size = (request.width, request.height)
    sizes_plot = charts.sizes(
        sets.classes, {label: one.chosen.sizes.chosen for label, one in content.confirmation.classes.items()}
    )
    history_plot = charts.history(content.steps)
    album = Album()
    rows = {label: dict(_rows(content, label, album)) for label in setup.labels}
    prompt_images = {label: _prompt_images(content, label, album) for label in setup.labels}
    weights = {label: one.chosen.weights for label, one in content.confirmation.classes.items()}
    classes = gallery(content.searches, weights, album)
    found, shares = atlas.points(content.searches, content.confirmation, album)
    return {
        "sets": sets,
        "album": album,
        "map_plot": Markup(atlas.chart(found, shares, real=real)),
        "page_data": in_script(
            {
                "study": sets.study,
                "data": sets.data[:16],
                "real": real,
                "classes": classes,
                "points": atlas.as_data(found),
            }
        ),
        "titles": SHORT,
        "size": size,
        "pixelated": max(size) <= SMALL,
        "phantom": real == "phantom",
        "fresh": len(first.images["set"]),
        "classifier": setup.config.confirm.classifier if sets.accuracy else None,
        "gain": _against_real(sets),
        "accuracy": accuracy_forest(sets, real=real),
        "real": real,
        "nearer": {entry.label: nearer_forest(entry) for entry in sets.classes},
        "rows": rows,
        "first_rows": ("real", *_FIRST),
        "prompt_images": prompt_images,
        "slots": {
            entry.label: list(_slots(setup.classes[entry.label].space, entry.learned))
            for entry in sets.classes
            if entry.learned is not None
        },
        "plotly": Markup(figures.plotly_script()),
        "sizes_plot": None if sizes_plot is None else Markup(sizes_plot),
        "history_plot": None if history_plot is None else Markup(history_plot),
        "comparisons": list(_comparisons(sets)),
        "metrics": _metric_heads(sets),
        "likeness": _likeness(content),
        "calibration": list(_calibration(content)),
    }


def _against_real(sets: SetList) -> Any:
    """The comparison of the set with real images alone, or None."""
    return next((one for one in sets.comparisons if (one.first, one.second) == ("set", "real")), None)


def _rows(content: SetReport, label: str, album: Album) -> Iterator[tuple[str, list[int]]]:
    """Real images, then each method's on the same seeds, as numbers in the album."""
    paths = content.setup.classes[label].positives.where(pool="test").paths()
    stride = max(1, len(paths) // SHOWN)
    yield "real", album.add_all(paths[::stride][:SHOWN])
    for name, images in content.confirmation.classes[label].images.items():
        yield name, album.add_all((i.path for i in images[:SHOWN]), small=name not in _FIRST)


def _prompt_images(content: SetReport, label: str, album: Album) -> list[list[int]]:
    """Images of each prompt of the set, in its order, on the seeds of the search."""
    known = content.searches[label].images
    chosen = content.confirmation.classes[label].chosen
    return [album.add_all((i.path for i in known[one][:_EACH]), small=True) for one in chosen.weights]


def _slots(space: Any, learned: LearnedTemplate) -> Iterator[tuple[str, list[tuple[str, float, float]]]]:
    """Slot -> option, template weight, learned weight; slots that differ most come first."""
    found = []
    for slot in space.slots:
        own = learned.weights[slot.name]
        rows = [(o, float(w), own[o]) for o, w in zip(slot.options, slot.weights, strict=True)]
        found.append((sum(abs(new - old) for _, old, new in rows), slot.name, rows))
    for _, name, rows in sorted(found, key=lambda one: -one[0]):
        yield name, sorted(rows, key=lambda row: -row[2])


def _comparisons(sets: SetList) -> Iterator[dict[str, Any]]:
    """Every comparison with its corrected p; distances with their sign turned, so that more is better."""
    named = [("all classes", one) for one in sets.comparisons]
    named += [(entry.label, one) for entry in sets.classes for one in entry.comparisons]
    titles = {
        "closeness": "nearer by, search's encoder (MMD\u00b2)",
        "second_encoder": "nearer by, second encoder (MMD\u00b2)",
        "accuracy": "balanced accuracy",
    }
    for label, one in named:
        yield {
            "label": label,
            "metric": titles[one.metric],
            "pair": f"{TITLES.get(one.first, one.first)} against {TITLES.get(one.second, one.second)}",
            "difference": _estimate(one.difference, ".1f", scale=100, unit=" points")
            if one.metric == "accuracy"
            else _estimate(nearer(one)),
            "p": one.p_adjusted,
            "verdict": one.verdict,
        }


def _metric_heads(sets: SetList) -> list[tuple[str, str]]:
    """Names and titles of the metrics that some method has."""
    known = {metric.name: f"{metric.title} ({metric.better} is better)" for metric in METRICS}
    own = {
        "margin": "category margin (higher is better)",
        "frechet": "Fr\u00e9chet distance (lower is better)",
        "inception_score": "Inception Score (higher is better)",
    }
    names = dict.fromkeys(name for entry in sets.classes for row in entry.metrics.values() for name in row)
    return [(name, own.get(name) or known.get(name, name)) for name in names]


def _likeness(content: SetReport) -> Any:
    """The nearest pairs of set images and real ones."""
    images = [
        (candidate.label, image)
        for one in content.confirmation.classes.values()
        for candidate, image in zip(one.prompts["set"], one.images["set"], strict=True)
    ]
    measuring = next(iter(content.searches.values())).measuring
    return nearest_pairs(content.setup.first.data, measuring.features, images)


def _calibration(content: SetReport) -> Iterator[tuple[str, str]]:
    """Class -> what the search's encoder knows of it on real images."""
    kind = "real images" if isinstance(content.setup.config.data, str) else "phantom images"
    for label, one in content.searches.items():
        rows = calibration_rows(one.setup, one.measuring.objectives(one.images[one.baseline]))
        yield label, calibration_sentence(rows, images=kind)
