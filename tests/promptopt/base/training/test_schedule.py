"""Learning rates by step, against the schedules of diffusers and torch."""

import pytest
import torch
from diffusers.optimization import get_scheduler

from promptopt.base.training.schedule import one_cycle, warmed_up


def test_the_learning_rate_warms_up_and_follows_the_cosine_to_zero() -> None:
    rate = warmed_up("cosine", steps=110, warmup=10)
    assert [rate(step, 1.0)["lr"] for step in (0, 9, 10, 60)] == pytest.approx([0.1, 1.0, 1.0, 0.5])
    assert rate(109, 1.0)["lr"] < 0.001
    for name, last in {"constant": 1.0, "linear": 0.01, "polynomial": 0.01}.items():
        rate = warmed_up(name, steps=110, warmup=10)
        shares = [rate(step, 1.0)["lr"] for step in (4, 10, 109)]
        assert shares == pytest.approx([0.5, 1.0, last], abs=1e-4)


@pytest.mark.parametrize("name", ["cosine", "cosine_with_restarts", "linear", "polynomial", "constant"])
@pytest.mark.parametrize("warmup", [0, 7])
def test_after_the_warm_up_it_is_diffusers(name: str, warmup: int) -> None:
    theirs = "constant_with_warmup" if name == "constant" else name
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    oracle = get_scheduler(theirs, optimizer, num_warmup_steps=warmup, num_training_steps=50).lr_lambdas[0]
    ours = warmed_up(name, steps=50, warmup=warmup)
    for step in range(warmup, 50):
        assert ours(step, 1.0)["lr"] == pytest.approx(oracle(step), abs=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 30])
def test_one_cycle_is_torchs(steps: int) -> None:
    optimizer = torch.optim.AdamW([torch.zeros(1)], lr=0.1)
    oracle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=max(2, steps))
    ours = one_cycle(steps=steps, rate=0.1)
    for step in range(steps):
        group = optimizer.param_groups[0]
        assert ours(step, 0.1) == {"lr": group["lr"], "betas": group["betas"]}
        optimizer.step()
        oracle.step()
