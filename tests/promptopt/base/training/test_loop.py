"""The loop itself, on networks of a few weights."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from promptopt.base.training.checkpoint import load_checkpoint
from promptopt.base.training.errors import TrainingError
from promptopt.base.training.loop import Loop, LoopResult, Method
from promptopt.base.training.progress import JsonLog, Progress
from promptopt.base.training.schedule import warmed_up


def adam(lr: float) -> Callable[[Mapping[str, nn.Parameter]], torch.optim.Optimizer]:
    return lambda named: torch.optim.AdamW([{"params": list(named.values()), "name": "all"}], lr=lr)


def a_method(**changes: Any) -> Method:
    settings: dict[str, Any] = {
        "steps": 9,
        "batch_size": 4,
        "optimizer": adam(1e-2),
        "schedule": warmed_up("cosine", steps=9, warmup=2),
        "grad_clip": 1.0,
        "checkpoint_every": 2,
        "step_seed": lambda step: 100 + step,
        "if_diverged": "lower the rate",
    }
    return Method(**(settings | changes))


def a_network() -> nn.Module:
    """With all that a checkpoint must hold: weights, running means, and layers that draw."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))


def loss_of(network: nn.Module) -> Callable[[int, slice], torch.Tensor]:
    def loss(step: int, rows: slice) -> torch.Tensor:
        x = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))
        return (network(x[rows]) - x[rows].sum(dim=1, keepdim=True)).square().sum() / len(x)

    return loss


def run(network: nn.Module, method: Method, folder: Path | None, **others: Any) -> LoopResult:
    loss = others.pop("loss", None) or loss_of(network)
    return Loop(
        stage="t", modules={"m": network}, loss=loss, method=method, checkpoints=folder, **others
    ).run()


class KilledError(Exception):
    """Stands for a power cut."""


def kill_at(step: int) -> Callable[[Progress], None]:
    def stop(progress: Progress) -> None:
        if progress.step == step:
            raise KilledError

    return stop


@pytest.mark.parametrize("ema_decay", [None, 0.5])
@pytest.mark.parametrize("kill", [3, 4, 8])
def test_a_killed_run_ends_with_the_bits_of_one_that_was_not(
    kill: int, ema_decay: float | None, tmp_path: Path
) -> None:
    method = a_method(ema_decay=ema_decay)
    whole = a_network()
    run(whole, method, tmp_path / "whole")
    with pytest.raises(KilledError):
        run(a_network(), method, tmp_path / "cut", on_progress=kill_at(kill))
    torch.rand(7)  # the global generator is elsewhere by now, and must not matter
    resumed, steps = a_network(), []
    run(resumed, method, tmp_path / "cut", on_progress=lambda progress: steps.append(progress.step))
    assert steps[0] == kill // 2 * 2 + 1
    expected = whole.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.state_dict().items())


def test_checkpoints_change_nothing_and_the_global_stream_is_left_alone(tmp_path: Path) -> None:
    one, other = a_network(), a_network()
    state = torch.random.get_rng_state()
    run(one, a_method(), tmp_path)
    run(other, a_method(), None)
    assert torch.equal(state, torch.random.get_rng_state())
    expected = one.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in other.state_dict().items())
    assert not one.training


def test_several_passes_train_as_one() -> None:
    torch.manual_seed(0)
    one, four = nn.Linear(5, 1), nn.Linear(5, 1)
    four.load_state_dict(one.state_dict())
    run(one, a_method(), None)
    run(four, a_method(passes=4), None)
    torch.testing.assert_close(one.weight, four.weight)
    with pytest.raises(TrainingError, match="multiple of 3"):
        run(one, a_method(passes=3), None)


def test_what_is_trained_is_held_in_float32() -> None:
    module = nn.Linear(3, 1).to(torch.bfloat16)
    module.bias.requires_grad_(False)
    run(module, a_method(steps=1), None, loss=lambda step, rows: module.weight.square().sum())
    assert (module.weight.dtype, module.bias.dtype) == (torch.float32, torch.bfloat16)


def test_a_step_after_which_the_run_was_killed_is_looked_at_again(tmp_path: Path) -> None:
    looked: list[int] = []

    def look(step: int) -> None:
        if step == 4 and 4 not in looked:
            looked.append(step)
            raise KilledError  # after the checkpoint of step 4

    with pytest.raises(KilledError):
        run(a_network(), a_method(), tmp_path, after_step=look)
    seen: list[int] = []
    run(a_network(), a_method(), tmp_path, after_step=seen.append)
    assert seen == [4, 5, 6, 7, 8, 9]


def test_events_and_the_log_say_where_it_is(tmp_path: Path) -> None:
    events: list[Progress] = []
    told: list[dict[str, float]] = []
    log = JsonLog(tmp_path / "log.jsonl")
    result = run(
        a_network(),
        a_method(),
        tmp_path / "c",
        on_progress=events.append,
        log=log,
        tell=lambda step, values: told.append(values),
    )
    assert [event.step for event in events] == list(range(1, 10))
    assert (events[-1].seconds_left, events[-1].loss) == (0.0, result.loss)
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert (lines[-1]["event"], lines[-1]["step"], lines[-1]["stage"]) == ("step", 9, "t")
    assert set(told[-1]) == {"loss", "lr/all", "images_per_second"}
    assert result.steps == 9


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    run(a_network(), a_method(), tmp_path)
    with pytest.raises(TrainingError, match="another model"):
        run(nn.Linear(5, 1), a_method(), tmp_path)


# --- divergence --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 5])
def test_weights_that_explode_in_the_last_step_are_never_kept(steps: int, tmp_path: Path) -> None:
    def wild(step: int, rate: float) -> dict[str, float]:
        return {"lr": 1e30 if step == steps - 1 else rate}

    method = a_method(steps=steps, schedule=wild)
    with pytest.raises(TrainingError, match=rf"step {steps}: .*diverged, a weight is \S+e\+\d\d; lower"):
        run(a_network(), method, tmp_path)
    kept = load_checkpoint(tmp_path)
    assert (None if kept is None else kept.step) == (None if steps == 1 else 4)
    # also where nothing is kept: the network is not handed back as trained
    with pytest.raises(TrainingError, match="diverged"):
        run(a_network(), method, None)


def test_a_step_that_ruins_the_next_loss_is_not_kept(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Linear(5, 1)  # weights of 10,000 are within bounds, a loss of 1e8 and more is not
    method = a_method(steps=4, schedule=lambda step, rate: {"lr": 1e4 if step == 3 else rate})
    with pytest.raises(TrainingError, match="step 4: the training diverged, the loss is"):
        run(network, method, tmp_path)
    kept = load_checkpoint(tmp_path)
    assert kept is not None
    assert kept.step == 2
    assert all(float(t.abs().max()) < 10 for name, t in kept.tensors.items() if name.startswith("weights."))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_or_gradient_that_is_not_finite_ends_it_before_the_step(bad: float, tmp_path: Path) -> None:
    network = nn.Linear(5, 1)
    plain = loss_of(network)

    def loss(step: int, rows: slice) -> torch.Tensor:
        return plain(step, rows) * (bad if step == 3 else 1.0)

    with pytest.raises(TrainingError, match="step 3: the training diverged, the loss is"):
        run(network, a_method(), tmp_path, loss=loss)
    assert torch.isfinite(network.weight).all()

    def steep(step: int, rows: slice) -> torch.Tensor:
        # a finite loss, whose derivative at 0 is not
        return plain(step, rows) + (network.bias - network.bias.detach()).square().sum().sqrt()

    with pytest.raises(TrainingError, match="step 0: the training diverged, the gradient's norm is nan"):
        run(network, a_method(), None, loss=steep)
    assert torch.isfinite(network.bias).all()
