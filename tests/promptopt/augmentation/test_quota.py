"""How many images each prompt of a class owes: shares, rounds, and who makes up for whom."""

from __future__ import annotations

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from promptopt.augmentation.journal import Progress
from promptopt.augmentation.quota import Quota
from promptopt.synthesis.plan import shares


def play(quota: Quota, chances: list[float], seed: int, *, stop: int | None = None) -> list[Progress]:
    """All rounds, each attempt kept with its prompt's chance; looked at again after every `stop` attempts."""
    at = [Progress() for _ in chances]
    rounds = 0
    while due := quota.due(at):
        rounds += 1
        assert rounds < 1000
        while due:
            for prompt, attempt in due[: stop or len(due)]:
                assert attempt == at[prompt].tried + 1
                at[prompt].tried += 1
                at[prompt].kept += random.Random(f"{seed} {prompt} {attempt}").random() < chances[prompt]
            due = quota.due(at)
        for one in at:
            one.tried_before, one.kept_before = one.tried, one.kept
    return at


def test_a_rare_prompt_that_is_always_refused_costs_no_image() -> None:
    at = play(Quota([0.9, 0.08, 0.02], count=100, attempts=5), [0.8, 0.8, 0.0], seed=1)
    assert sum(one.kept for one in at) == 100
    assert (at[2].tried, at[2].kept) == (10, 0)
    assert [one.kept for one in at[:2]] == shares([0.9, 0.08], 100)


def test_nothing_is_made_for_a_prompt_of_weight_0() -> None:
    at = play(Quota([1.0, 0.0], count=5, attempts=2), [0.0, 1.0], seed=1)
    assert [one.tried for one in at] == [10, 0]


@given(
    weights=st.lists(st.floats(0.01, 1), min_size=1, max_size=6),
    count=st.integers(1, 60),
    attempts=st.floats(1, 6),
    stop=st.integers(1, 70),
    data=st.data(),
)
def test_laws(weights: list[float], count: int, attempts: float, stop: int, data: st.DataObject) -> None:
    chance = st.sampled_from([0.0, 0.3, 0.9, 1.0])
    chances = data.draw(st.lists(chance, min_size=len(weights), max_size=len(weights)))
    quota = Quota(weights, count=count, attempts=attempts)
    at = play(quota, chances, seed=count)
    kept, base = [one.kept for one in at], shares(weights, count)
    limits = [math.ceil(attempts * share) for share in base]
    assert sum(kept) <= count
    assert all(one.tried <= limit for one, limit in zip(at, limits, strict=True))
    # short only where every prompt has used up its attempts
    assert sum(kept) == count or [one.tried for one in at] == limits
    if min(chances) == 1.0:
        assert kept == base
    assert play(quota, chances, seed=count, stop=stop) == at  # where a kill comes between changes nothing
