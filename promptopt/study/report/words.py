"""The report's sentences: what was found, no stronger than the corrected tests allow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from promptopt.formatting.numbers import count, p_value, percent, signed
from promptopt.run.trials import TrialRow, latest
from promptopt.search.model.effects import SlotEffects

if TYPE_CHECKING:
    from promptopt.run.prompts import PromptEntry, PromptList

_INDEPENDENT = {
    "second_encoder": "the second encoder, which the search never asked",
    "judge": "the judge, an independent network that the search never asked",
}


def verdict(prompts: PromptList) -> str:
    """The result in a few sentences, no stronger than the corrected tests allow."""
    best = _best_found(prompts)
    said = _claim(prompts, best)
    found = [entry for entry in prompts.prompts if entry.candidate != prompts.baseline.candidate]
    better = sum(entry.better_than_baseline for entry in found)
    if better > 1:
        said += f" {better} of the {len(found)} confirmed prompts are better than the baseline."
    others = len(prompts.tied) - 1
    if others > 0:
        said += f" {count(others, 'other prompt')} cannot be told apart from the first of the list."
    blamed = sum(entry.contradicted_by is not None for entry in found)
    if blamed and best.contradicted_by is None:
        said += (
            f" {count(blamed, 'prompt')} {'was' if blamed == 1 else 'were'} set aside: an independent "
            "check contradicts the score."
        )
    return said


def _claim(prompts: PromptList, best: PromptEntry) -> str:
    score = best.confirmation["score"]
    compared = len(prompts.prompts) - 1
    amount = (
        f"{signed(score.value)} baseline standard deviations per image (95 % interval {signed(score.low)} to "
        f"{signed(score.high)}, {score.n} fresh seeds{_chance(best.p_value, compared)})"
    )
    if best.contradicted_by is not None:
        return (
            "No prompt found can be called better than the plain baseline prompt: the search's encoder "
            f"gives the best one {amount}, but {_INDEPENDENT[best.contradicted_by]}, contradicts it."
        )
    if best.better_than_baseline:
        return (
            "By the study's score, the best prompt found makes better images than the plain baseline prompt: "
            f"{amount}."
        )
    if best.p_value is not None and best.p_value < prompts.alpha and (score.value or 0.0) < 0:
        return (
            "No prompt found is better than the plain baseline prompt; the best one is worse by the study's "
            f"score: {amount}."
        )
    if best.rank > 1:
        return (
            "No prompt found is better than the plain baseline prompt, which heads the list; "
            f"the best other one: {amount}."
        )
    said = f"No prompt found could be told apart from the plain baseline prompt on fresh seeds: {amount}."
    if score.low is not None and score.low > 0 and compared > 1:
        said += (
            f" The interval alone leaves out 0, but with {compared} prompts compared that may well be chance."
        )
    return said


def _chance(p: float | None, compared: int) -> str:
    if p is None:
        return ""
    return f", {p_value(p, name='p')}" + (f" after correction for {compared} prompts" if compared > 1 else "")


def _best_found(prompts: PromptList) -> PromptEntry:
    return next(entry for entry in prompts.prompts if entry.candidate != prompts.baseline.candidate)


def judge_sentence(prompts: PromptList) -> str | None:
    """What share of the best prompt's images the judge takes for the category."""
    best = _best_found(prompts).confirmation.get("judge_accuracy")
    base = prompts.baseline.confirmation.get("judge_accuracy")
    if best is None or base is None or best.value is None or base.value is None:
        return None
    return (
        f"An independent network that took no part in the search sees the right category in "
        f"{percent(best.value)} of the best found prompt's images, and in {percent(base.value)} of the "
        "baseline's."
    )


def check_sentence(prompts: PromptList, entry: PromptEntry) -> str:
    """What the independent checks say of one prompt, in a few words."""
    said = []
    for name, check in entry.independent_checks.items():
        gain, sure = check.gain, check.p_value < prompts.alpha
        title = "Second encoder" if name == "second_encoder" else "Judge"
        unit = " of its SDs" if name == "second_encoder" else " in the share of images it recognizes"
        word = "no clear difference" if not sure else "better" if (gain.value or 0) > 0 else "worse"
        said.append(f"{title}: {word}, {signed(gain.value)}{unit}")
        if entry.contradicted_by == name:
            said[-1] += "; contradicts the score"
    return ". ".join(said)


def claim_word(prompts: PromptList, entry: PromptEntry) -> str:
    """What may be said of a prompt beside the baseline."""
    if entry.contradicted_by is not None:
        return f"unclear: contradicted by the {entry.contradicted_by.replace('_', ' ')}"
    return prompts.verdict(entry) or "the baseline itself"


def search_sentences(prompts: PromptList, trials: Sequence[TrialRow]) -> list[str]:
    """How many images the prompts got, who dropped out, and why the search ended."""
    rows = latest(trials)
    counts = Counter(row.images for row in rows)
    said = []
    if len(counts) > 1:
        steps = "; ".join(f"{n} prompts got {images} images" for images, n in sorted(counts.items()))
        said.append(
            f"Every prompt was tried on the same {min(counts)} seeds first, and those that might still be "
            f"the best on more of them: {steps}.".replace(" 1 prompts got", " 1 prompt got")
        )
    elif counts:
        said.append(f"Every prompt was tried on the same {min(counts)} seeds.")
    if prompts.images_in_search is not None:
        said.append(f"The search asked for {prompts.images_in_search:,} images in all.")
    lost, broken = (
        sum(row.eliminated_by is not None for row in rows),
        sum(bool(row.violations) for row in rows),
    )
    if lost:
        said.append(
            f"{count(lost, 'prompt')} dropped out because another one was shown to be better on the same "
            "seeds (bounds that hold however often one looks)."
        )
    if broken:
        said.append(
            f"{count(broken, 'prompt')} broke a constraint of the study, so that others went before "
            "them; the table below says which."
        )
    if prompts.stopped:
        said.append(f"Why it ended: {prompts.stopped}.")
    return said


def optimism_sentence(prompts: PromptList) -> str | None:
    """By how much the search's scores were too good."""
    gap = prompts.optimism
    if gap is None or gap.value is None:
        return None
    span = (
        ""
        if gap.low is None
        else f", 95 % interval over these prompts {signed(gap.low)} to {signed(gap.high)}"
    )
    start = f"Over the {gap.n} prompts that were tested again, search score minus fresh score is on average "
    if gap.n == 1:
        start = "For the one prompt that was tested again, search score minus fresh score is "
    said = start + f"{signed(gap.value)} baseline SDs{span}."
    if span:
        said += " The interval is over the prompts alone: another panel of seeds would move them together."
    if gap.value > 0:
        return said + " The search's own numbers were too good by that much, as the best of many are."
    return said + " Here the search's numbers were not too good."


def effects_sentence(effects: SlotEffects) -> str:
    """What the words explain, one by one and in pairs."""
    additive, pairs = effects.additive_share, effects.pairs_tested
    said = f"This rests on {effects.prompts} prompts."
    if additive.value is not None and additive.low is not None and additive.high is not None:
        share = f"{percent(additive.value)} ({percent(additive.low)} to {percent(additive.high)})"
        if additive.low > 0.99:
            share = "nearly all"
        said += (
            f" Words one by one explain {share} of the differences between prompts; combinations the rest."
        )
    if not pairs:
        return said + " No two words were tried together, and without each other, often enough to say more."
    if effects.interactions:
        return said + f" Of {pairs} pairs of words, these do more or less than their sum:"
    return said + (
        f" Of {pairs} pairs of words that were tried together often enough, none could be told from the sum "
        "of its words."
    )
