"""What is confirmed beside a set: the learned template, the baseline, random prompts, the best single one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from promptopt.config.sets import SetSettings
from promptopt.run.prompt_sets import dealing_seed, spread
from promptopt.search.sets.certificate import Certificate
from promptopt.search.sets.embeddings import FloatArray
from promptopt.search.sets.learned import Product, learn
from promptopt.search.sets.sizes import SizeChoice, choose_size
from promptopt.search.sets.weights import Problem
from promptopt.space import Candidate
from promptopt.space.captions import caption_prompts
from promptopt.space.weighted import adjacent_slots, can_be_weighted
from promptopt.study.sets.search import ClassSearch
from promptopt.study.setup import Setup


@dataclass(frozen=True, eq=False)
class Chosen:
    """What a class's search ends with.

    Attributes:
        weights: of the set, the largest first.
        adds: what the set's objective would rise by without each prompt, the others' weights solved anew.
        learned: the product distribution, None where too few prompts of the template were measured.
        single: the prompt whose images alone come nearest.
    """

    weights: Mapping[Candidate, float]
    adds: Mapping[Candidate, float]
    sizes: SizeChoice
    learned: Product | None
    single: Candidate
    certificate: Certificate | None


def choose(one: ClassSearch, *, most: int, seed: int) -> Chosen:
    """The set of the size that real images held out ask for, and what else is confirmed beside it."""
    state = one.known
    form, problem = state.form, state.problem
    assert form is not None
    assert problem is not None
    allowed = [i for i, key in enumerate(state.keys) if key not in state.excluded]
    allowed = _far_apart(one, problem, allowed, most=most)
    part = problem.only(allowed)
    sizes = choose_size(form.only(allowed), part, most=most, seed=seed)
    path = part.path(most)
    rows = [allowed[int(i)] for i in np.flatnonzero(path[min(sizes.chosen, len(path)) - 1])]
    w = problem.without_crumbs(rows)
    order = sorted((i for i in rows if w[i] > 0), key=lambda i: (-w[i], i))
    keys = state.keys
    alone = np.diag(form.within) - 2 * form.across + problem.linear
    best = min(allowed, key=lambda i: (float(alone[i]), i))
    return Chosen(
        weights=_shares({keys[i]: float(w[i]) for i in order}),
        adds={keys[i]: _adds(problem, w, i) for i in order},
        sizes=sizes,
        learned=_learned(one, problem, seed=seed),
        single=keys[best],
        certificate=one.engine.certificate(state),
    )


def method_prompts(one: ClassSearch, chosen: Chosen, *, count: int, seed: int) -> dict[str, list[Candidate]]:
    """The candidates of `count` images by each method, one an image, in the order of the seeds."""
    space = one.setup.space
    own = dealing_seed(seed)
    rng = np.random.default_rng([own, 1])
    found = {
        "set": spread(chosen.weights, count, seed=own),
        "baseline": [one.baseline] * count,
        "random": [space.candidate(space.sample(rng)) for _ in range(count)],
        "single": [chosen.single] * count,
    }
    if chosen.learned is not None:
        rng = np.random.default_rng([own, 2])
        found["learned"] = [
            space.candidate(
                {
                    slot.name: slot.options[i]
                    for slot, i in zip(space.slots, chosen.learned.sample(rng), strict=True)
                }
            )
            for _ in range(count)
        ]
    if one.setup.config.confirm.captions:
        found["captions"] = spread(caption_weights(one.setup), count, seed=own)
    return found


def caption_weights(setup: Setup) -> dict[Candidate, float]:
    """Captions of the real images that the search may look at, as prompts, and their weights."""
    captions = caption_prompts(setup.positives, setup.positive_name)
    return {Candidate(prompt): weight for prompt, weight in captions}


def prompt_distances(settings: SetSettings, prompts: Sequence[str]) -> tuple[str, FloatArray]:
    """By what the distances are taken, in words, and those between all prompts, (k, k)."""
    from promptopt.portfolio.distance import SENTENCES, WORDS, sentence_distances, word_distances

    if settings.sentence_model is None:
        return WORDS, word_distances(prompts)
    return SENTENCES, sentence_distances(prompts, settings.sentence_model)


def _far_apart(one: ClassSearch, problem: Problem, allowed: list[int], *, most: int) -> list[int]:
    """Without prompts that are too near, in words or meaning, to one earlier in the path of sets."""
    settings = one.setup.config.set
    if settings.min_distance <= 0:
        return allowed
    _, apart = prompt_distances(settings, [one.known.keys[i].prompt for i in allowed])
    kept = list(range(len(allowed)))
    while True:
        order = dict.fromkeys(
            int(i) for row in problem.only([allowed[i] for i in kept]).path(most) for i in np.flatnonzero(row)
        )
        seen: list[int] = []
        for place in (kept[i] for i in order):
            if any(apart[place, other] < settings.min_distance for other in seen):
                kept.remove(place)
                break
            seen.append(place)
        else:
            return [allowed[i] for i in kept]


def _adds(problem: Problem, weights: FloatArray, place: int) -> float:
    rest = [int(i) for i in np.flatnonzero(weights) if int(i) != place]
    if not rest:
        return 0.0
    return max(problem.value(problem.solve(rest)) - problem.value(weights), 0.0)


def _shares(weights: Mapping[Candidate, float]) -> dict[Candidate, float]:
    """In steps of 1 / 10,000, sum 1: finer ones would be noise."""
    steps = {key: round(10_000 * weight) for key, weight in weights.items()}
    steps[next(iter(steps))] += 10_000 - sum(steps.values())
    return {key: count / 10_000 for key, count in steps.items()}


def _learned(one: ClassSearch, problem: Problem, *, seed: int) -> Product | None:
    """The learned template, where enough prompts of a template that can be written with weights were seen."""
    state = one.known
    assert state.form is not None
    places, codes = state.coded()
    if len(places) < 3 or not one.setup.space.slots or not can_be_weighted(one.setup.space):
        return None
    numbers = {slot.name: i for i, slot in enumerate(one.setup.space.slots)}
    return learn(
        state.form.only(places),
        problem.only(places),
        codes,
        [slot.weights for slot in one.setup.space.slots],
        adjacent=[(numbers[s], numbers[t]) for s, t in adjacent_slots(one.setup.space)],
        seed=seed,
    )
