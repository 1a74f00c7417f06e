"""The model over slots, against planted truth."""

import itertools

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from promptopt.search.model import slot_model
from promptopt.search.model.noise import Panel, _image_noise, _members, _normal_equations, means_with_noise
from promptopt.search.model.slot_model import PRIOR, SlotModel, correlations

LEVELS = (4, 3, 3)
CODES = np.array(list(itertools.product(*map(range, LEVELS))))


def planted(seed: int, *, noise: float = 1.0) -> tuple[np.ndarray, list[np.ndarray]]:
    """Values of all 36 prompts, additive with some interaction, and 16 images of each on shared seeds."""
    rng = np.random.default_rng(seed)
    values = sum(rng.normal(size=n)[CODES[:, i]] for i, n in enumerate(LEVELS))
    values = values + 0.5 * rng.normal(size=(4, 3))[CODES[:, 0], CODES[:, 1]]
    shared = rng.normal(size=16)
    return values, [v + noise * (shared + rng.normal(size=16)) for v in values]


def test_further_looks_at_the_lucky_do_not_mislead() -> None:
    """Prompts that did well on 4 images get 16: what their seeds did to all is known from the others."""
    errors = []
    for seed in range(40):
        values, scores = planted(seed, noise=2.0)
        first = np.array([row[:4].mean() for row in scores])
        more = set(np.argsort(-first)[:12].tolist())
        raced = [row if i in more else row[:4] for i, row in enumerate(scores)]
        mean, _ = SlotModel(CODES, raced).predict(CODES)
        lucky = sorted(more)
        rest = sorted(set(range(36)) - more)
        gap = mean - values
        errors.append(gap[lucky].mean() - gap[rest].mean())
    assert abs(np.mean(errors)) < 3 * np.std(errors) / np.sqrt(40) + 0.1


def test_it_predicts_prompts_never_seen_better_than_their_mean_and_knows_how_well() -> None:
    errors, plain, covered = [], [], []
    for seed in range(12):
        values, scores = planted(seed)
        rng = np.random.default_rng([seed, 1])
        known = np.sort(rng.choice(len(CODES), 18, replace=False))
        rest = np.setdiff1d(np.arange(len(CODES)), known)
        mean, sd = SlotModel(CODES[known], [scores[i] for i in known]).predict(CODES[rest])
        # Seeds are shared, so all values are off by the same: what counts is the order.
        gap = (mean - mean.mean()) - (values[rest] - values[rest].mean())
        errors.append(np.mean(gap**2))
        plain.append(np.var(values[rest]))
        covered.append(np.mean(np.abs(gap) < 2 * sd))
    assert np.mean(errors) < 0.4 * np.mean(plain)
    assert np.mean(covered) > 0.8


def test_draws_have_the_mean_and_spread_that_are_predicted() -> None:
    _, scores = planted(3)
    known, rest = np.arange(0, 36, 2), np.arange(1, 36, 2)
    model = SlotModel(CODES[known], [scores[i] for i in known])
    draws = model.draws(CODES[rest], 4000, np.random.default_rng(0))
    mean, sd = model.predict(np.concatenate([CODES[known], CODES[rest]]))
    assert draws.shape == (4000, 36)
    assert np.abs(draws.mean(axis=0) - mean).max() < 5 * sd.max() / np.sqrt(4000)
    assert draws.std(axis=0) == pytest.approx(sd, rel=0.08)


def test_the_best_of_many_is_shrunk() -> None:
    optimism, shrunk = [], []
    for seed in range(20):
        values, scores = planted(seed, noise=3.0)
        means = np.array([row.mean() for row in scores])
        best = int(means.argmax())
        predicted, _ = SlotModel(CODES, scores).predict(CODES[[best]])
        # what all share is an error of the level, not of the choice
        level = float(np.mean(means - values))
        optimism.append(means[best] - values[best] - level)
        shrunk.append(predicted[0] - values[best] - level)
    assert np.mean(optimism) > 0.5
    assert abs(np.mean(shrunk)) < 0.5 * np.mean(optimism)


@pytest.mark.parametrize("scores", [[np.ones(4), np.ones(4)], [np.zeros(1), np.ones(1)]])
def test_equal_scores_and_single_images_leave_it_finite(scores: list[np.ndarray]) -> None:
    mean, sd = SlotModel(np.array([[0], [1]]), scores).predict(np.array([[0], [1], [2]]))
    assert np.isfinite([*mean, *sd]).all()


def long_way(scores: list[np.ndarray], codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Generalized least squares over every image, by the definition."""
    found = _image_noise(Panel.of(scores), codes)
    assert found is not None
    image = found.covariance()
    n, most = len(scores), max(map(len, scores))
    owner = np.concatenate([np.full(len(row), i) for i, row in enumerate(scores)])
    seed = np.concatenate([np.arange(len(row)) for row in scores])
    assert len(np.unique(seed)) == most
    noise = image[np.ix_(owner, owner)] * (seed[:, None] == seed)
    design = np.eye(n)[owner]
    solved = np.linalg.solve(noise, design)
    covariance = np.linalg.inv(design.T @ solved)
    return covariance @ solved.T @ np.concatenate(scores), covariance


@pytest.mark.parametrize("images", [(4,), (4, 8), (2, 3, 7, 16)])
def test_means_and_their_noise_are_those_of_generalized_least_squares(images: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(images))
    _, scores = planted(5)
    raced = [row[: rng.choice(images)] for row in scores]
    means, covariance = means_with_noise(raced, CODES)
    expected_means, expected = long_way(raced, CODES)
    assert means == pytest.approx(expected_means, rel=1e-8, abs=1e-8)
    assert covariance == pytest.approx(expected, rel=1e-7, abs=1e-10)


@pytest.mark.parametrize("images", [(4,), (1, 2, 5), (2, 3, 7, 16)])
def test_shares_of_the_noise_are_least_squares_over_every_pair_of_prompts(images: tuple[int, ...]) -> None:
    """The same equations, written down pair by pair."""
    rng = np.random.default_rng(sum(images))
    scores = [row[: rng.choice(images)] * (0.5 + rng.random()) for row in planted(7)[1]]
    scale = 0.5 + rng.random(len(scores))
    groups = np.column_stack([np.zeros(36, dtype=int), CODES])
    system, side = np.zeros((4, 4)), np.zeros(4)
    for (i, one), (j, other) in itertools.permutations(enumerate(scores), 2):
        shared = min(len(one), len(other))
        if shared < 2:
            continue
        same = (groups[i] == groups[j]).astype(float)
        product = np.cov(one[:shared], other[:shared])[0, 1] / (scale[i] * scale[j])
        system += (shared - 1) * np.outer(same, same)
        side += (shared - 1) * same * product
    ours = _normal_equations(Panel.of(scores), scale, *_members(groups))
    assert ours[0] == pytest.approx(system, rel=1e-12)
    assert ours[1] == pytest.approx(side, rel=1e-10)


def test_the_variances_are_where_the_density_is_greatest() -> None:
    """No step in any of the three makes the values and the prior more probable."""
    _, scores = planted(9)
    model = SlotModel(CODES, scores)
    spread = float(np.var(model._values))
    scale = max(spread - float(np.mean(np.diag(model._error))), 0.1 * spread)

    def density(variances: np.ndarray) -> float:
        whole = model._constant + np.tensordot(variances, correlations(CODES, CODES), axes=1) + model._error
        off = np.log(variances / scale) - PRIOR
        return float(multivariate_normal(np.zeros(36), whole).logpdf(model._values) - 0.5 * off @ off)

    for place, factor in itertools.product(range(3), (0.9, 1.1)):
        other = model._variances * np.where(np.arange(3) == place, factor, 1.0)
        assert density(other) < density(model._variances)


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("share", [0.05, 0.6])
def test_the_most_promising_are_those_of_greatest_bound(
    share: float, many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By way of their effects, and where these are too many by way of the measured prompts."""
    monkeypatch.setattr(slot_model, "_FEW_EFFECTS", 0 if many else 1_000)
    rng = np.random.default_rng(3)
    codes = np.array(list(itertools.product(range(6), range(5), range(5), range(4))))
    order = rng.permutation(len(codes))
    known, rest = order[:200], order[200:]
    values = sum(rng.normal(size=6)[codes[:, i]] for i in range(4))
    scores = [v + share * rng.normal() + rng.normal(size=4) for v in values[known]]
    model = SlotModel(codes[known], scores)
    mean, sd = model.predict(codes[rest])
    assert model.means(codes[rest]) == pytest.approx(mean)
    for count in (1, 20, len(rest), len(rest) + 5):
        expected = np.argsort(-(mean + 2 * sd), kind="stable")[:count]
        assert model.most_promising(codes[rest], count).tolist() == expected.tolist()


def test_covariances_by_shared_options_are_those_of_the_kernel() -> None:
    _, scores = planted(1)
    known, rest = np.arange(0, 36, 2), np.arange(0, 36, 3)
    model = SlotModel(CODES[known], [scores[i] for i in known])
    parts = correlations(CODES[rest], CODES[known])
    prior = model._constant + np.tensordot(model._variances, parts, axes=1)
    assert model._covariance(CODES[rest]) == pytest.approx(prior, rel=1e-12)
    own = model._constant + np.tensordot(model._variances, correlations(CODES[rest], CODES[rest]), axes=1)
    whole = model._constant + np.tensordot(model._variances, correlations(CODES[known], CODES[known]), axes=1)
    left = own - prior @ np.linalg.solve(whole + model._error, prior.T)
    assert model.covariance(CODES[rest]) == pytest.approx(left, rel=1e-6, abs=1e-9)
