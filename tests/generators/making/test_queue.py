"""What is handed out, taken back and given up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from generators.making.queue import WorkQueue
from generators.request import ImageRequest
from tests.promptopt.fakes import SquareGenerator


def requests(count: int) -> list[ImageRequest]:
    return [SquareGenerator().request("red", seed) for seed in range(count)]


def test_chunks_are_handed_out_until_all_is_done() -> None:
    queue = WorkQueue(requests(5), size=2, ahead=100)
    hands = {worker: queue.take(worker) for worker in "abc"}
    assert [len(chunk) for chunk in hands.values()] == [2, 2, 1]
    assert queue.take("d") == []
    for worker, chunk in hands.items():
        assert queue.open
        for request in chunk:
            assert queue.finish(worker, request.key) == request
            assert queue.finish(worker, request.key) is None  # said twice
        queue.done(worker)
    assert not queue.open


@pytest.mark.parametrize("ahead", [1, 4, 9])
def test_no_more_is_read_than_the_window_holds(ahead: int) -> None:
    read = 0

    def counted() -> Iterator[ImageRequest]:
        nonlocal read
        for request in requests(40):
            read += 1
            yield request

    queue, done = WorkQueue(counted(), size=4, ahead=ahead), 0
    while chunk := queue.take("a"):
        for request in chunk:
            assert read <= done + max(4, ahead)
            queue.finish("a", request.key)
            done += 1
        queue.done("a")
    assert done == read == 40


def test_a_chunk_whose_worker_ends_is_handed_out_again_one_by_one() -> None:
    asked = requests(3)
    queue = WorkQueue(asked, size=3, ahead=3)
    chunk = queue.take("a")
    queue.finish("a", chunk[0].key)
    queue.ended("a")
    assert [queue.take(worker) for worker in "bcd"] == [[chunk[1]], [chunk[2]], []]


def test_a_request_that_ends_its_worker_twice_is_given_up_and_the_others_are_made() -> None:
    asked = requests(6)
    deadly, made, ends = asked[3], [], 0
    queue = WorkQueue(asked, size=4, ahead=6)
    for worker in range(100):
        chunk = queue.take(worker)
        if not chunk:
            break
        for request in chunk:
            if request == deadly:
                queue.ended(worker)
                ends += 1
                break
            queue.finish(worker, request.key)
            made.append(request)
        else:
            queue.done(worker)
    assert not queue.open
    assert queue.given_up == [deadly]
    assert sorted(r.seed for r in made) == [0, 1, 2, 4, 5]
    assert ends == 3  # once among others, which says nothing, and twice alone


def test_a_worker_that_says_done_without_images_does_not_turn_for_ever() -> None:
    queue = WorkQueue(requests(2), size=2, ahead=2)
    turns = 0
    while queue.take("a"):
        queue.done("a")
        turns += 1
    assert turns == 5
    assert len(queue.given_up) == 2


def test_stopped_it_hands_out_nothing_more() -> None:
    queue = WorkQueue(iter(requests(9)), size=2, ahead=4)
    chunk = queue.take("a")
    queue.stop()
    assert queue.take("b") == []
    assert queue.open
    for request in chunk:
        queue.finish("a", request.key)
    assert not queue.open
