"""What a step sees is a function of the seed and the step."""

from promptopt.base.training.order import DataOrder


def test_every_epoch_is_a_permutation_and_any_step_can_be_asked_for() -> None:
    order = DataOrder(10, batch_size=4, seed=3)
    stream = [index for step in range(5) for index in order.batch(step)]
    assert sorted(stream[:10]) == sorted(stream[10:]) == list(range(10))
    assert stream[:10] != stream[10:]
    assert DataOrder(10, batch_size=4, seed=3).batch(4) == stream[16:]
