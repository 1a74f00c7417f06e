"""The convex problem, against a general solver and brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from promptopt.search.sets.embeddings import MeanEmbeddings
from promptopt.search.sets.weights import Problem, on_simplex


def random_problem(seed: int, k: int) -> Problem:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(k, k + 2))
    return Problem(root @ root.T, rng.normal(size=k) * 2, rng.normal(size=k))


def by_slsqp(problem: Problem) -> float:
    k = len(problem.across)
    found = minimize(
        problem.value,
        np.full(k, 1 / k),
        jac=problem.gradient,
        bounds=[(0, 1)] * k,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    return float(found.fun)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 9))
def test_no_other_solver_finds_better_weights(seed: int, k: int) -> None:
    problem = random_problem(seed, k)
    w = problem.solve()
    assert w.min() >= 0
    assert w.sum() == pytest.approx(1)
    assert problem.value(w) <= by_slsqp(problem) + 1e-6 * max(1, abs(by_slsqp(problem)))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_at_the_optimum_no_direction_leads_down(seed: int) -> None:
    problem = random_problem(seed, 7)
    w = problem.solve()
    gradient = problem.gradient(w)
    assert gradient.min() >= gradient @ w - 1e-5 * np.abs(gradient).max()


def test_a_floor_is_kept_and_costs_as_little_as_it_can() -> None:
    problem = random_problem(3, 6)
    floored = np.arange(6.0)
    free = problem.solve()
    floor = float(floored @ free) + 0.5
    bound = Problem(problem.quadratic, problem.across, problem.linear, floored, floor)
    w = bound.solve()
    assert floored @ w >= floor - 1e-6
    rng = np.random.default_rng(0)
    others = rng.dirichlet(np.full(6, 0.5), size=20_000)
    allowed = others[others @ floored >= floor]
    assert bound.value(w) <= min(bound.value(one) for one in allowed) + 1e-3


def test_a_floor_that_nothing_meets_gives_the_prompt_nearest_to_it() -> None:
    problem = random_problem(3, 4)
    bound = Problem(problem.quadratic, problem.across, problem.linear, np.array([1.0, 3.0, 2.0, 0.0]), 5.0)
    assert bound.solve().tolist() == [0, 1, 0, 0]


def test_small_shares_are_left_out_one_by_one() -> None:
    quadratic, pull = np.eye(4), np.array([1.0, 0.9, 0.52, 0.5])
    problem = Problem(quadratic, pull, np.zeros(4))
    assert problem.solve().min() > 0 or (problem.solve() > 0).sum() >= 2
    w = problem.without_crumbs(least=0.3)
    assert all(x == 0 or x >= 0.3 for x in w)
    assert w.sum() == pytest.approx(1)


def test_a_path_grows_by_one_and_never_gets_worse() -> None:
    problem = random_problem(11, 12)
    path = problem.path(6)
    values = [problem.value(w) for w in path]
    assert [int((w > 0).sum()) <= size for size, w in enumerate(path, 1)] == [True] * len(path)
    assert values == sorted(values, reverse=True)
    best_pair = min(problem.value(problem.solve(pair)) for pair in itertools.combinations(range(12), 2))
    assert values[0] == pytest.approx(min(problem.value(np.eye(12)[i]) for i in range(12)))
    assert values[1] >= best_pair - 1e-9


def test_the_weights_of_one_prompt() -> None:
    assert on_simplex(np.array([[2.0]]), np.array([1.0])).tolist() == [1.0]


def test_images_of_a_seed_are_never_compared_with_each_other() -> None:
    """Two prompts that give the very same images: what a mixture of them draws anew differs."""
    rng = np.random.default_rng(0)
    real, images = rng.normal(size=(30, 3)), rng.normal(size=(6, 3))
    embeddings = MeanEmbeddings(real, bandwidth=1.5)
    embeddings.put("a", images)
    embeddings.put("b", images)
    form = embeddings.form()
    assert form.within == pytest.approx(np.full((2, 2), form.within[0, 0]))
    assert form.mmd([1, 0]) == pytest.approx(form.mmd([0.3, 0.7]), abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_witness_is_the_gradient_and_growing_sets_change_nothing_else(seed: int) -> None:
    rng = np.random.default_rng(seed)
    real = rng.normal(size=(12, 3))
    images = [rng.normal(size=(6, 3)) for _ in range(4)]
    grown, whole = MeanEmbeddings(real, bandwidth=1.2), MeanEmbeddings(real, bandwidth=1.2)
    for place, rows in enumerate(images):
        grown.put(place, rows[:2])
        whole.put(place, rows)
    for place, rows in enumerate(images):
        grown.put(place, rows)
    assert grown.form().within == pytest.approx(whole.form().within, abs=2e-7)
    w = rng.dirichlet(np.ones(4))
    form = whole.form()
    means = np.array([g.mean() for g in whole.witness(w)])
    assert means == pytest.approx(form.within @ w - form.across, abs=1e-6)
    step, direction = 1e-4, rng.dirichlet(np.ones(4)) - w
    slope = (form.mmd(w + step * direction) - form.mmd(w - step * direction)) / (2 * step)
    assert slope == pytest.approx(2 * float(direction @ means), abs=1e-5)
