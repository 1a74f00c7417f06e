"""Which pictures and captions a step uses."""

import numpy as np

from evaluation.training.batches import Batches, draw_captions


def test_an_epoch_uses_every_row_once_and_the_next_has_another_order() -> None:
    batches = Batches(24, batch_size=6, seed=1)
    first = np.concatenate([batches.rows_at(step) for step in range(4)])
    second = np.concatenate([batches.rows_at(step) for step in range(4, 8)])
    assert sorted(first) == sorted(second) == list(range(24))
    assert first.tolist() != second.tolist()


def test_a_step_does_not_depend_on_the_steps_asked_before() -> None:
    walked = Batches(50, batch_size=8, seed=2, groups=[i % 7 for i in range(50)])
    rows = [walked.rows_at(step).tolist() for step in range(20)]
    for step in (19, 3, 7):
        fresh = Batches(50, batch_size=8, seed=2, groups=[i % 7 for i in range(50)])
        assert fresh.rows_at(step).tolist() == rows[step]
    other = Batches(50, batch_size=8, seed=3, groups=[i % 7 for i in range(50)])
    assert other.rows_at(0).tolist() != rows[0]


def test_a_data_set_smaller_than_a_batch_is_a_batch() -> None:
    assert sorted(Batches(3, batch_size=8, seed=0).rows_at(5)) == [0, 1, 2]


def test_rows_of_a_group_are_dealt_out_evenly() -> None:
    # 40 rows of one group among 160: ten batches of 16 can hold four of them each.
    groups = [0] * 40 + list(range(1, 121))
    batches = Batches(160, batch_size=16, seed=4, groups=groups)
    held = [int((batches.rows_at(step) < 40).sum()) for step in range(10)]
    assert sum(held) == 40
    assert min(held) >= 2
    assert max(held) <= 6


def test_no_caption_comes_twice_in_a_batch() -> None:
    captions = [[0, 1], [0, 2], [0], [0], [3]]
    seen = set()
    for seed in range(50):
        rows, chosen = draw_captions(np.arange(5), captions, np.random.default_rng(seed))
        assert len(set(chosen.tolist())) == len(chosen)
        assert all(caption in captions[row] for row, caption in zip(rows, chosen, strict=True))
        assert 4 in rows  # its caption is its own
        seen.update(zip(rows.tolist(), chosen.tolist(), strict=True))
    # Each caption of each picture is drawn sooner or later, though not every picture in every batch.
    assert seen >= {(0, 0), (0, 1), (1, 0), (1, 2), (2, 0), (4, 3)}


def test_pictures_that_share_their_only_caption_are_thinned_to_one() -> None:
    rows, chosen = draw_captions(np.arange(4), [[7], [7], [7], [8]], np.random.default_rng(0))
    assert rows.tolist() == [0, 3]
    assert chosen.tolist() == [7, 8]
