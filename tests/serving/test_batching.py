"""Images of several threads through one model."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from imgcls.serving.batching import Batcher, BusyError


def doubled(orders: Sequence[int]) -> list[int]:
    return [2 * order for order in orders]


def test_everybody_gets_his_own_answer() -> None:
    sizes: list[int] = []

    def work(orders: Sequence[int]) -> list[int]:
        sizes.append(len(orders))
        return doubled(orders)

    batcher = Batcher(work, batch=4, waiting=1000, threads=3)
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda value: batcher.submit(value).result(), range(400)))
    batcher.close()
    assert found == list(range(0, 800, 2))
    assert sum(sizes) == 400
    assert max(sizes) <= 4


def test_what_waits_is_predicted_together() -> None:
    begun, go = threading.Event(), threading.Event()
    sizes: list[int] = []

    def slow(orders: Sequence[int]) -> list[int]:
        sizes.append(len(orders))
        begun.set()
        go.wait(10)
        return doubled(orders)

    batcher = Batcher(slow, batch=8, waiting=100)
    answers = [batcher.submit(0)]
    begun.wait(10)
    answers += [batcher.submit(value) for value in range(1, 6)]
    go.set()
    assert [answer.result(10) for answer in answers] == list(range(0, 12, 2))
    assert sizes == [1, 5]
    batcher.close()


def test_too_many_are_refused_and_room_comes_back() -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(orders: Sequence[int]) -> list[int]:
        begun.set()
        go.wait(10)
        return doubled(orders)

    batcher = Batcher(slow, batch=1, waiting=2)
    answers = [batcher.submit(1), batcher.submit(2)]
    begun.wait(10)
    with pytest.raises(BusyError, match="too many waiting"):
        batcher.submit(3)
    go.set()
    assert [answer.result(10) for answer in answers] == [2, 4]
    assert batcher.submit(4).result(10) == 8
    batcher.close()


def test_what_comes_at_once_is_shared_among_idle_threads() -> None:
    sizes: list[int] = []
    go = threading.Event()

    def work(orders: Sequence[int]) -> list[int]:
        sizes.append(len(orders))
        go.wait(10)
        return doubled(orders)

    batcher = Batcher(work, batch=16, waiting=99, threads=2)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(10)  # all are submitted before a thread looks
    try:
        answers = [batcher.submit(value) for value in range(10)]
    finally:
        sys.setswitchinterval(interval)
    go.set()
    assert [answer.result(10) for answer in answers] == list(range(0, 20, 2))
    assert sizes[0] < 10
    batcher.close()


def test_an_error_reaches_those_who_asked_and_nobody_else() -> None:
    def picky(orders: Sequence[int]) -> list[int]:
        if max(orders) > 100:
            raise ArithmeticError("too bright")
        return doubled(orders)

    batcher = Batcher(picky, batch=1, waiting=9)
    with pytest.raises(ArithmeticError, match="too bright"):
        batcher.submit(200).result(10)
    assert batcher.submit(5).result(10) == 10
    assert batcher.alive
    batcher.close()
    assert not batcher.alive


def test_an_error_in_place_of_an_answer_is_that_ones_alone() -> None:
    begun, go = threading.Event(), threading.Event()

    def picky(orders: Sequence[int]) -> list[int | Exception]:
        begun.set()
        go.wait(10)
        return [ArithmeticError("too bright") if order > 100 else order for order in orders]

    batcher: Batcher[int, int] = Batcher(picky, batch=8, waiting=9)
    batcher.submit(0)
    begun.wait(10)
    bad, good = batcher.submit(200), batcher.submit(5)
    go.set()
    assert good.result(10) == 5
    with pytest.raises(ArithmeticError, match="too bright"):
        bad.result(10)
    batcher.close()


def test_an_answer_that_nobody_wants_is_left_out() -> None:
    begun, go = threading.Event(), threading.Event()
    seen: list[int] = []

    def slow(orders: Sequence[int]) -> list[int]:
        seen.append(len(orders))
        begun.set()
        go.wait(10)
        return doubled(orders)

    batcher = Batcher(slow, batch=8, waiting=9)
    batcher.submit(0)
    begun.wait(10)
    unwanted, wanted = batcher.submit(1), batcher.submit(2)
    unwanted.cancel()
    go.set()
    assert wanted.result(10) == 4
    assert seen == [1, 1]
    batcher.close()
