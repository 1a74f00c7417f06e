"""The learned template with slots that go together, against brute force and planted truth."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

from promptopt.search.sets.embedding_model import EmbeddingModel
from promptopt.search.sets.embeddings import Form, MeanEmbeddings
from promptopt.search.sets.learned import fit_product, learn
from promptopt.search.sets.weights import Problem, on_simplex
from promptopt.space import compile_template
from promptopt.space.weighted import weighted_template
from tests.promptopt.search.sets.worlds import World

TIED = np.array([[0.4, 0.0, 0.0], [0.0, 0.3, 0.0], [0.0, 0.0, 0.3]])


@dataclass(frozen=True)
class Measured:
    """Every prompt of a small world, six images each, and real images of a target."""

    world: World
    codes: np.ndarray
    form: Form
    real: np.ndarray

    @property
    def template(self) -> list[np.ndarray]:
        return [np.full(n, 1 / n) for n in self.world.sizes]

    def distance(self, shares: np.ndarray) -> float:
        """MMD^2 of a distribution over all prompts to fresh real images of the target, both sides many."""
        return self.world.distance(dict(zip(map(tuple, self.codes.tolist()), shares, strict=True)))


def measured(seed: int, *, tied: bool, real: int = 120) -> Measured:
    """The target has slots 0 and 1 tied, or all slots independent."""
    world = World(seed, sizes=(3, 3, 2), noise=0.5)
    rng = np.random.default_rng([seed, 9])
    codes = np.array(list(itertools.product(range(3), range(3), range(2))))
    joint = TIED if tied else np.outer([0.6, 0.2, 0.2], [0.1, 0.6, 0.3])
    target = np.einsum("ab,c->abc", joint, [0.7, 0.3]).ravel()
    world.held_out = world.fresh(codes[rng.choice(len(codes), 800, p=target)])
    images = world.fresh(codes[rng.choice(len(codes), real, p=target)])
    embeddings = MeanEmbeddings[int](images, bandwidth=world.bandwidth)
    for place, code in enumerate(codes):
        embeddings.put(place, world.measure(code, 6))
    return Measured(world, codes, embeddings.form(), images)


def shares(codes: np.ndarray, probabilities, blocks) -> np.ndarray:
    """Probability of each prompt."""
    parts = [p[tuple(codes[:, list(block)].T)] for p, block in zip(probabilities, blocks, strict=True)]
    return np.prod(parts, axis=0)


def points(model: EmbeddingModel, codes: np.ndarray, sizes) -> np.ndarray:
    """a(p) of every prompt, one a column."""
    alone = [(s,) for s in range(len(sizes))]
    certain = [[np.eye(n)[i] for n, i in zip(sizes, code, strict=True)] for code in codes]
    return np.stack([model.weights(q, alone) for q in certain], axis=1)


@pytest.mark.parametrize("blocks", [[(0,), (1,), (2,)], [(0, 1), (2,)], [(0,), (2, 1)]])
def test_the_embedding_of_a_distribution_is_the_mean_over_its_prompts(blocks) -> None:
    one = measured(0, tied=True)
    model = EmbeddingModel.fit(one.codes, one.form)
    rng = np.random.default_rng(1)
    sizes = one.world.sizes
    shapes = [[sizes[s] for s in block] for block in blocks]
    q = [rng.dirichlet(np.ones(np.prod(shape))).reshape(shape) for shape in shapes]
    weights = shares(one.codes, q, blocks)
    assert weights.sum() == pytest.approx(1)
    assert model.weights(q, blocks) == pytest.approx(points(model, one.codes, sizes) @ weights, abs=1e-9)

    gradient = rng.normal(size=len(one.codes))
    for p, slopes in zip(q, model.pull(q, blocks, gradient), strict=True):
        for place in np.ndindex(p.shape):
            p[place] += 1e-6
            above = gradient @ model.weights(q, blocks)
            p[place] -= 2e-6
            slope = (above - gradient @ model.weights(q, blocks)) / 2e-6
            p[place] += 1e-6
            assert slopes[place] == pytest.approx(slope, rel=1e-4, abs=1e-5)


def test_a_pair_without_a_pull_is_the_best_of_all_distributions() -> None:
    """Two slots together can be any distribution over their prompts, and the best of those is convex."""
    world = World(2, sizes=(3, 3), noise=0.5)
    codes = np.array(list(itertools.product(range(3), range(3))))
    embeddings = MeanEmbeddings[int](world.real, bandwidth=world.bandwidth)
    for place, code in enumerate(codes):
        embeddings.put(place, world.measure(code, 6))
    form = embeddings.form()
    problem, model = Problem.of(form), EmbeddingModel.fit(codes, form)
    template = [np.full(3, 1 / 3)] * 2
    found = fit_product(form, problem, model, template, strength=0.0, pairs=[(0, 1)])
    a = points(model, codes, world.sizes)
    best = on_simplex(a.T @ problem.quadratic @ a, a.T @ problem.across)
    value = problem.value(a @ found.probabilities[0].ravel())
    assert value == pytest.approx(problem.value(a @ best), abs=2e-4)
    apart = fit_product(form, problem, model, template, strength=0.0)
    assert problem.value(a @ shares(codes, apart.probabilities, apart.blocks)) >= value - 1e-6


def test_slots_that_go_together_in_the_real_images_are_found() -> None:
    gains = []
    for seed in range(3):
        one = measured(seed, tied=True)
        problem = Problem.of(one.form)
        adjacent = [(0, 1), (1, 2)]
        together = learn(one.form, problem, one.codes, one.template, adjacent=adjacent, seed=seed)
        apart = learn(one.form, problem, one.codes, one.template, seed=seed)
        assert together.pairs == ((0, 1),)
        assert apart.pairs == ()
        joint = together.probabilities[0]
        assert joint[TIED > 0].sum() > 0.7
        near, far = (one.distance(shares(one.codes, q.probabilities, q.blocks)) for q in (together, apart))
        gains.append(far - near)
        assert [len(p) for p in together.marginals] == [3, 3, 2]
        rng = np.random.default_rng(0)
        drawn = np.array([together.sample(rng) for _ in range(2000)])
        seen = np.histogram2d(drawn[:, 0], drawn[:, 1], bins=[range(4), range(4)])[0] / 2000
        assert np.abs(seen - joint).max() < 0.05
    assert min(gains) > 0


def test_slots_that_are_independent_stay_so() -> None:
    chosen = []
    for seed in range(4):
        one = measured(seed, tied=False)
        found = learn(
            one.form, Problem.of(one.form), one.codes, one.template, adjacent=[(0, 1), (1, 2)], seed=seed
        )
        chosen.append(len(found.pairs))
    assert sum(chosen) <= 1


def test_the_template_that_is_written_draws_as_the_distribution_does() -> None:
    space = compile_template("a {|big|small} {red|pale \\| dim} polyp{|, sharp}{, near|}")
    rng = np.random.default_rng(4)
    first, second, third, fourth = space.slots
    both = list(itertools.product(second.options, third.options))
    joint = dict(zip(both, rng.dirichlet(np.ones(len(both))).tolist(), strict=True))
    weights = {
        s.name: dict(zip(s.options, rng.dirichlet(np.ones(len(s.options))), strict=True)) for s in space.slots
    }
    text = weighted_template(space, weights, together={(second.name, third.name): joint})
    expected: dict[str, float] = {}
    for choice in space.enumerate():
        p = joint[choice[second.name], choice[third.name]]
        p *= np.prod([weights[s.name][choice[s.name]] for s in (first, fourth)])
        prompt = space.render(choice)
        expected[prompt] = expected.get(prompt, 0.0) + float(p)
    written = compile_template(text)
    found: dict[str, float] = {}
    for choice in written.enumerate():
        p = np.prod([s.weights[s.options.index(choice[s.name])] for s in written.slots])
        prompt = written.render(choice)
        found[prompt] = found.get(prompt, 0.0) + float(p)
    assert found == pytest.approx(expected, abs=0.005)  # weights are written in three digits
