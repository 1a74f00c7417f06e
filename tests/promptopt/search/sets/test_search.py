"""The search for a set on planted worlds, where every prompt can be looked at."""

import itertools

import numpy as np
import pytest

from promptopt.search.sets.embedding_model import EmbeddingModel
from promptopt.search.sets.embeddings import MeanEmbeddings
from promptopt.search.sets.learned import fit_product
from promptopt.search.sets.sizes import choose_size
from promptopt.search.sets.weights import Problem
from tests.promptopt.search.sets.worlds import World


def random_search(world: World, images: int, seed: int) -> float:
    """Prompts of the template, four images each, and the same weights."""
    rng, state = np.random.default_rng(seed), world.state()
    embeddings, codes = MeanEmbeddings(world.real, bandwidth=world.bandwidth), {}
    while len(codes) < images // 4:
        codes.setdefault(world.code(world.space.sample(rng)), None)
    for code in codes:
        embeddings.put(code, world.measure(code, 4))
    del state
    w = Problem.of(embeddings.form()).without_crumbs()
    return world.distance({code: float(x) for code, x in zip(codes, w, strict=True) if x > 0})


def test_half_of_the_images_of_a_random_search_come_as_near() -> None:
    ours, random = [], []
    for seed in range(4):
        world = World(seed, sizes=(4, 5, 4, 4))
        _, state = world.search(images=200)
        ours.append(world.distance(world.by_code(state, state.weights)))
        random.append(random_search(world, 400, seed))
    assert np.mean(ours) < np.mean(random)


def test_the_budget_is_kept_and_the_baseline_comes_first() -> None:
    world = World(0)
    search, state = world.search(images=120)
    assert state.images <= 120
    assert next(iter(state.looks)) == search.baseline.key
    assert all(look.images <= search.budget.most for look in state.looks.values())


def test_a_search_is_a_function_of_its_seed() -> None:
    first, again, other = (World(1).search(images=100, seed=seed)[1] for seed in (5, 5, 6))
    assert list(first.looks.items()) == list(again.looks.items())
    assert first.weights == again.weights
    assert list(first.looks) != list(other.looks)


@pytest.mark.slow
def test_the_certificate_bounds_what_is_left() -> None:
    """True gap of the found weights, by the true embeddings of all prompts, in 20 worlds."""
    held = []
    for seed in range(20):
        world = World(seed, sizes=(3, 3, 3), dim=5)
        search, state = world.search(images=140, seed=seed)
        certificate = search.certificate(state)
        assert certificate is not None
        assert certificate.complete
        assert certificate.prompts == 27
        codes = list(itertools.product(*map(range, world.sizes)))
        images = MeanEmbeddings(world.real, bandwidth=world.bandwidth)
        for code in codes:
            images.put(code, world.fresh(np.array([code] * 60)))
        form = images.form()
        weights = world.by_code(state, state.weights)
        w = np.array([weights.get(code, 0.0) for code in codes])
        best = Problem(form.within + form.error, form.across, np.zeros(len(codes))).solve()
        held.append(form.mmd(w) - form.mmd(best) <= certificate.bound)
    assert sum(held) >= 19


def test_it_stops_when_the_certificate_says_so() -> None:
    world = World(2, sizes=(2, 2, 2))
    search, state = world.search(images=2000, tolerance=0.5)
    assert state.images < 2000
    assert search.next_step(state, 10_000)[0] == []


def test_more_prompts_are_chosen_where_more_are_needed_and_one_where_one_is_the_target() -> None:
    world = World(3)
    _, state = world.search(images=240)
    assert state.form is not None
    assert state.problem is not None
    many = choose_size(state.form, state.problem, most=12)
    assert many.chosen > 1
    assert many.fitted[-1] <= many.held_out[-1].value  # what was fitted is too good
    narrow = World(3)
    narrow.target = [np.eye(n)[0] for n in narrow.sizes]
    narrow.real = narrow.fresh(narrow.drawn(narrow.target, 60))
    narrow.bandwidth = World(3).bandwidth
    _, state = narrow.search(images=240)
    assert max(state.weights.values()) > 0.5


def test_the_learned_template_comes_nearer_than_the_template() -> None:
    gains = []
    for seed in range(4):
        world = World(seed)
        _, state = world.search(images=240)
        assert state.form is not None
        assert state.problem is not None
        places, codes = state.coded()
        form, problem = state.form.only(places), state.problem.only(places)
        template = [slot.weights for slot in world.space.slots]
        model = EmbeddingModel.fit(codes, form)
        product = fit_product(form, problem, model, template, strength=0.003)
        assert [len(p) for p in product.probabilities] == list(world.sizes)
        assert all(p.sum() == pytest.approx(1) for p in product.probabilities)
        own, plain = (
            world.distance(_shares(world, q))
            for q in (product.probabilities, [np.array(t) for t in template])
        )
        gains.append(plain - own)
    assert min(gains) > 0
    assert np.mean(gains) > 0.05


def test_a_strong_pull_leaves_the_template_as_it_was() -> None:
    world = World(0)
    _, state = world.search(images=120)
    assert state.form is not None
    assert state.problem is not None
    places, codes = state.coded()
    form, problem = state.form.only(places), state.problem.only(places)
    template = [slot.weights for slot in world.space.slots]
    model = EmbeddingModel.fit(codes, form)
    product = fit_product(form, problem, model, template, strength=1e3)
    for own, given in zip(product.probabilities, template, strict=True):
        assert own == pytest.approx(np.array(given), abs=1e-3)


def test_the_slopes_of_the_embedding_model() -> None:
    world = World(0)
    _, state = world.search(images=120)
    assert state.form is not None
    places, codes = state.coded()
    model = EmbeddingModel.fit(codes, state.form.only(places))
    rng = np.random.default_rng(0)
    gradient = rng.normal(size=len(codes))
    q = [rng.dirichlet(np.ones(n)) for n in world.sizes]
    alone = [(s,) for s in range(len(q))]
    slopes = model.pull(q, alone, gradient)
    for s, size in enumerate(world.sizes):
        for option in range(size):
            moved = [p.copy() for p in q]
            moved[s][option] += 1e-6
            slope = gradient @ (model.weights(moved, alone) - model.weights(q, alone)) / 1e-6
            assert slopes[s][option] == pytest.approx(slope, rel=1e-3, abs=1e-4)


def _shares(
    world: World, product: "list[np.ndarray] | tuple[np.ndarray, ...]"
) -> dict[tuple[int, ...], float]:
    codes = itertools.product(*map(range, world.sizes))
    return {code: float(np.prod([p[i] for p, i in zip(product, code, strict=True)])) for code in codes}
