"""Fill the report's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from promptopt.base.files import write_text
from promptopt.config.study_file import PhantomSource
from promptopt.formatting.numbers import estimate_parts, p_value
from promptopt.formatting.pages import page_templates
from promptopt.run.trials import TrialRow, latest
from promptopt.scoring.confirm import Confirmed
from promptopt.scoring.metric_titles import METRICS
from promptopt.scoring.objective import Measurement
from promptopt.search.model.effects import SlotEffects, slot_effects
from promptopt.study.report import figures, words
from promptopt.study.report.calibration import calibration_rows, calibration_sentence
from promptopt.study.report.likeness import nearest_pairs
from promptopt.study.report.mixtures import METRICS as MIXTURE_METRICS
from promptopt.study.report.mixtures import mixture_rows, mixture_sentence
from promptopt.study.report.pictures import SMALL, embed_all, embed_file
from promptopt.study.report.tradeoffs import MEANINGS, gains, term_pairs, tradeoffs
from promptopt.study.report.words import verdict

if TYPE_CHECKING:
    from evaluation.features.feature_store import FeatureStore
    from promptopt.run.prompts import PromptList
    from promptopt.study.measuring import Objectives
    from promptopt.study.setup import Setup

_SHOWN = 8  # images of a prompt
_MOST_LISTED = 100  # prompts of the search in the table; trials.csv has all


@dataclass(frozen=True, kw_only=True)
class ReportInput:
    """All that the page shows. `baseline` and `confirmed` hold the images made on the fresh seeds.

    Attributes:
        effects: those of `trials`; None computes them.
        objectives: None leaves out what is known about the encoders on real images.
        features: the store of the study; None leaves out the pairs of generated and real images.
    """

    setup: Setup
    prompts: PromptList
    trials: tuple[TrialRow, ...]
    confirmed: tuple[Confirmed, ...]
    baseline: Measurement
    effects: SlotEffects | None = None
    objectives: Objectives | None = None
    features: FeatureStore | None = None


def write_report(path: Path, content: ReportInput) -> Path:
    """Write one self-contained HTML file: pictures, styles and scripts inside, nothing fetched."""
    environment = page_templates("promptopt.study.report")
    environment.filters["estimate"] = _estimate
    environment.filters["p"] = lambda p: p_value(p, missing="—")
    return write_text(path, environment.get_template("page.html.jinja").render(**_context(content)))


def _estimate(estimate: Any) -> Markup:
    parts = [Markup('<span class="whole">{}</span>').format(part) for part in estimate_parts(estimate)]
    return Markup(" ").join(parts)


def _context(content: ReportInput) -> dict[str, Any]:
    setup, prompts = content.setup, content.prompts
    fresh = len(setup.panel.confirmation)
    return {
        "title": setup.category.title,
        "category": setup.category.name,
        "prompts": prompts,
        "phantom": isinstance(setup.config.data, PhantomSource),
        "has_real": setup.config.data is not None,
        "fresh": fresh,
        "columns": min(_SHOWN, fresh),
        "plotly": Markup(figures.plotly_script()),
        **_summary(prompts),
        **_pictures(content),
        **_confirmed(content),
        **_search(content),
        **_effects(content),
        **_trust(content),
        **_settings(setup, prompts),
    }


def _summary(prompts: PromptList) -> dict[str, Any]:
    return {
        "verdict": verdict(prompts),
        "judge_sentence": words.judge_sentence(prompts),
        "mixtures": mixture_rows(prompts),
        "mixture_metrics": list(MIXTURE_METRICS.values()),
        "mixture_sentence": mixture_sentence(prompts),
    }


def _pictures(content: ReportInput) -> dict[str, Any]:
    setup, prompts = content.setup, content.prompts
    real = setup.positives.where(pool="test").paths()
    stride = max(1, len(real) // _SHOWN)
    cards = []
    for confirmed, entry in zip(content.confirmed, prompts.prompts, strict=True):
        plain = ", the plain baseline" if confirmed.candidate == content.baseline.candidate else ""
        tie = ", tied with the first" if confirmed.tied and confirmed.rank > 1 else ""
        cards.append(
            {
                "name": f"No. {confirmed.rank}{plain}{tie}",
                "claim": "" if plain else words.claim_word(prompts, entry),
                "prompt": confirmed.candidate.label,
                "images": embed_all(confirmed.measurement.images, _SHOWN),
            }
        )
    return {
        "cards": cards,
        "real": [embed_file(path) for path in real[::stride][:_SHOWN]],
        "size": (size := content.baseline.images[0].load().size),
        "pixelated": max(size) <= SMALL,
    }


def _confirmed(content: ReportInput) -> dict[str, Any]:
    prompts = content.prompts
    plot = figures.optimism(content.confirmed)
    return {
        "metrics": [m for m in METRICS if m.name in prompts.prompts[0].confirmation],
        "claims": [
            (e, words.claim_word(prompts, e), words.check_sentence(prompts, e)) for e in prompts.prompts
        ],
        "has_independent_checks": any(e.independent_checks for e in prompts.prompts),
        "optimism_sentence": words.optimism_sentence(prompts),
        "optimism_plot": None if plot is None else Markup(plot),
    }


def _search(content: ReportInput) -> dict[str, Any]:
    plot = tradeoffs(content.trials, content.confirmed)
    return {
        "search_sentences": words.search_sentences(content.prompts, content.trials),
        "history_plot": Markup(figures.history(content.trials)),
        "history_cut": figures.history_range(content.trials) is not None,
        "searched": sorted(latest(content.trials), key=lambda row: -row.value)[:_MOST_LISTED],
        "tradeoff_plot": None if plot is None else Markup(plot.html),
        "tradeoffs_cut": plot is not None and plot.cut,
        "term_pairs": term_pairs(content.confirmed),
        "terms": {name: MEANINGS.get(name, name) for name in content.confirmed[0].score.gains},
        "term_rows": [(one, gains(one)) for one in content.confirmed],
        "pareto": content.setup.config.mode == "pareto",
    }


def _effects(content: ReportInput) -> dict[str, Any]:
    effects = content.effects or slot_effects(content.setup.space, content.trials)
    tried = any(e.prompts for e in effects.effects)
    return {
        "effect_plot": Markup(figures.slot_effects(effects)) if tried else None,
        "effects": [
            (e, figures.label(e.option))
            for slot in dict.fromkeys(e.slot for e in effects.effects)
            for e in effects.of(slot)
        ],
        "effects_sentence": words.effects_sentence(effects),
        "interactions": [pair.sentence for pair in effects.interactions],
    }


def _trust(content: ReportInput) -> dict[str, Any]:
    setup, objectives = content.setup, content.objectives
    if setup.config.data is None:
        objectives = None
    rows = [] if objectives is None else calibration_rows(setup, objectives)
    plots: list[Markup] = []
    if objectives is not None:
        confirming = objectives.confirming
        real = confirming.contributions(confirming.held_out.features)
        labels = confirming.held_out.labels
        first = next(c for c in content.confirmed if c.candidate != content.baseline.candidate)
        for term in [term for term in ("alignment", "utility") if term in real]:
            kind = _kind(setup).split()[0]
            sets = {
                f"{kind}, of the category": real[term][labels],
                f"{kind}, others": real[term][~labels],
                "best prompt found": first.measurement.per_image[term],
                "baseline prompt": content.baseline.per_image[term],
            }
            plots.append(Markup(figures.closeness(sets, f"{term} (log-odds)", f"scale-{term}")))
    return {
        "likeness": None
        if content.features is None
        else nearest_pairs(
            setup.data,
            content.features,
            [(c.candidate.label, image) for c in content.confirmed for image in c.measurement.images],
        ),
        "calibration": rows,
        "encoder_sentences": [check.sentence for check in content.prompts.encoder_checks],
        "calibration_sentence": calibration_sentence(rows, images=_kind(setup)) if rows else None,
        "scale_plots": plots,
    }


def _kind(setup: Setup) -> str:
    return "real images" if isinstance(setup.config.data, str) else "phantom images"


def _settings(setup: Setup, prompts: PromptList) -> dict[str, Any]:
    return {
        "settings": list(_flatten(prompts.settings)),
        "template": setup.space.text,
        "texts": setup.texts,
        "counts": [
            (pool, len(setup.positives.where(pool=pool)), len(setup.negatives.where(pool=pool)))
            for pool in ("reference", "validation", "test")
            if setup.config.data is not None
        ],
    }


def _setting(value: Any) -> str:
    return "not set" if value is None else "(empty)" if value in ("", []) else str(value)


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> Sequence[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            rows += _flatten(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", _setting(value)))
    return rows
