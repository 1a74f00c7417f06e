"""Fill the report's page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup
from PIL import Image

from promptopt.confirm import Confirmed
from promptopt.effects import SlotEffects, slot_effects
from promptopt.objective import Measurement
from promptopt.report import figures
from promptopt.report.metrics import METRICS
from promptopt.report.mixtures import METRICS as MIXTURE_METRICS
from promptopt.report.mixtures import mixture_rows, mixture_sentence
from promptopt.runfolder import write_text
from promptopt.search import TrialRow

if TYPE_CHECKING:
    from promptopt.export import PromptList
    from promptopt.export.prompts import PromptEntry
    from promptopt.setup import Setup

_COLUMNS = 8  # images beside each other
_PIXELS = 160  # longer side of a shown image; more would only make the file larger


@dataclass(frozen=True, kw_only=True)
class ReportInput:
    """All that the page shows. `baseline` and `confirmed` hold the images made on the fresh seeds.

    `effects` are those of `trials`; None computes them.
    """

    setup: Setup
    prompts: PromptList
    trials: tuple[TrialRow, ...]
    confirmed: tuple[Confirmed, ...]
    baseline: Measurement
    effects: SlotEffects | None = None


def write_report(path: Path, content: ReportInput) -> Path:
    """Write one self-contained HTML file: pictures, styles and scripts inside, nothing fetched."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("promptopt.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["estimate"] = format_estimate
    return write_text(path, environment.get_template("page.html.jinja").render(**_context(content)))


def verdict(prompts: PromptList) -> str:
    """The result in one or two sentences, no stronger than the intervals allow."""
    best = _best_found(prompts)
    score = best.confirmation["score"]
    n = score.n
    span = f"95 % interval {_signed(score.low)} to {_signed(score.high)}, {n} fresh seeds"
    amount = f"{_signed(score.value)} baseline standard deviations per image ({span})"
    if score.low is not None and score.low > 0:
        first = f"The best prompt found makes better images than the plain baseline prompt: {amount}."
    elif score.high is not None and score.high < 0:
        first = f"No prompt found is better than the plain baseline prompt; the best one is worse: {amount}."
    elif best.rank > 1:
        first = (
            "No prompt found is better than the plain baseline prompt, which heads the list; "
            f"the best other one: {amount}."
        )
    else:
        first = (
            f"No prompt found could be told apart from the plain baseline prompt on fresh seeds: {amount}."
        )
    others = len(prompts.tied) - 1
    if others:
        first += f" {others} other confirmed prompt{'s are' if others > 1 else ' is'} tied with it."
    return first


def _best_found(prompts: PromptList) -> PromptEntry:
    return next(entry for entry in prompts.prompts if entry.label != prompts.baseline.prompt)


def format_estimate(estimate: Any) -> str:
    """`0.81 (0.72 to 0.88)`, with a word when it is unreliable or undefined."""
    if estimate is None:
        return "—"
    if estimate.value is None:
        return f"undefined (n = {estimate.n})"
    text = _number(estimate.value)
    if estimate.low is not None and estimate.high is not None:
        text += f" ({_number(estimate.low)} to {_number(estimate.high)})"
    return text + (" unreliable" if estimate.status == "unreliable" else "")


def _context(content: ReportInput) -> dict[str, Any]:
    setup, prompts = content.setup, content.prompts
    shown = [m for m in METRICS if m.name in prompts.prompts[0].confirmation]
    effects = content.effects or slot_effects(setup.space, content.trials)
    tried = any(e.prompts for e in effects.effects)
    real = setup.positives.where(pool="test").paths()
    stride = max(1, len(real) // _COLUMNS)
    fresh = len(setup.panel.confirmation)
    return {
        "title": setup.category.title,
        "category": setup.category.name,
        "prompts": prompts,
        "verdict": verdict(prompts),
        "mixtures": mixture_rows(prompts),
        "mixture_metrics": list(MIXTURE_METRICS.values()),
        "mixture_sentence": mixture_sentence(prompts),
        "judge_sentence": _judge_sentence(prompts),
        "metrics": shown,
        "rows": _image_rows(content),
        "real": [_embed_file(path) for path in real[::stride][:_COLUMNS]],
        "fresh": fresh,
        "columns": min(_COLUMNS, fresh),
        "pixelated": max(content.baseline.images[0].load().size) <= 96,
        "plotly": Markup(figures.plotly_script()),
        "score_plot": Markup(figures.score_per_trial(content.trials)),
        "effect_plot": Markup(figures.slot_effects(effects)) if tried else None,
        "effects": [
            (e, figures.label(e.option))
            for slot in dict.fromkeys(e.slot for e in effects.effects)
            for e in effects.of(slot)
        ],
        "effects_sentence": _effects_sentence(effects),
        "interactions": [pair.sentence for pair in effects.interactions],
        "settings": list(_flatten(prompts.settings)),
        "template": setup.space.text,
        "counts": [
            (pool, len(setup.positives.where(pool=pool)), len(setup.negatives.where(pool=pool)))
            for pool in ("reference", "validation", "test")
        ],
        "texts": setup.texts,
        "phantom": not isinstance(setup.config.data, str),
    }


def _judge_sentence(prompts: PromptList) -> str | None:
    best = _best_found(prompts).confirmation.get("judge_accuracy")
    base = prompts.baseline.confirmation.get("judge_accuracy")
    if best is None or base is None or best.value is None or base.value is None:
        return None
    return (
        f"An independent network that took no part in the search sees the right category in {best.value:.0%} "
        f"of the best found prompt's images, and in {base.value:.0%} of the baseline's."
    )


def _effects_sentence(effects: SlotEffects) -> str:
    additive, pairs = effects.additive_share, effects.pairs_tested
    said = f"This rests on {effects.prompts} prompts."
    if additive.value is not None and additive.low is not None and additive.high is not None:
        said += (
            f" Words one by one explain {additive.value:.0%} ({additive.low:.0%} to {additive.high:.0%}) of "
            "the differences between prompts; the rest are combinations."
        )
    if not pairs:
        return said + " No two words were tried together, and without each other, often enough to say more."
    if effects.interactions:
        return said + f" Of {pairs} pairs of words, these do more or less than their sum:"
    return said + (
        f" Of {pairs} pairs of words that were tried together often enough, none could be told from the sum "
        "of its words."
    )


def _image_rows(content: ReportInput) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for confirmed in content.confirmed:
        plain = ", the plain baseline" if confirmed.prompt == content.baseline.prompt else ""
        tie = ", tied with the first" if confirmed.tied and confirmed.rank > 1 else ""
        rows.append(
            {
                "name": f"No. {confirmed.rank}{plain}{tie}",
                "prompt": confirmed.prompt,
                "images": _embed_all(confirmed.measurement),
            }
        )
    return rows


def _embed_all(measurement: Measurement) -> list[str]:
    return [_embed(image.load()) for image in measurement.images[:_COLUMNS]]


def _embed_file(path: Path) -> str:
    with Image.open(path) as image:
        return _embed(image.convert("RGB"))


def _embed(image: Image.Image) -> str:
    image.thumbnail((_PIXELS, _PIXELS))
    stream = io.BytesIO()
    image.save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> Sequence[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            rows += _flatten(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", "default" if value is None else str(value)))
    return rows


def _number(value: float) -> str:
    if value == 0 or 0.01 <= abs(value) < 1000:
        return f"{value:.2f}"
    return f"{value:.3g}"


def _signed(value: float | None) -> str:
    return "undefined" if value is None else f"{value:+.2f}"
