"""Images of several threads through one model."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from imgcls.serving.batching import Batcher, BusyError

Floats = NDArray[np.float64]


def first_pixel(pixels: NDArray[Any]) -> Floats:
    return pixels[:, 0, 0].astype(np.float64)


def image(value: int) -> NDArray[np.int64]:
    return np.full((2, 2, 1), value)


def test_everybody_gets_his_own_answer() -> None:
    sizes: list[int] = []
    batcher = Batcher(first_pixel, batch=4, waiting=1000, told=sizes.append)
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda value: batcher.submit(image(value)).result()[0], range(400)))
    batcher.close()
    assert found == list(range(400))
    assert sum(sizes) == 400
    assert max(sizes) <= 4


def test_what_waits_is_predicted_together() -> None:
    begun, go = threading.Event(), threading.Event()
    sizes: list[int] = []

    def slow(pixels: NDArray[Any]) -> Floats:
        begun.set()
        go.wait(10)
        return first_pixel(pixels)

    batcher = Batcher(slow, batch=8, waiting=100, told=sizes.append)
    answers = [batcher.submit(image(0))]
    begun.wait(10)
    answers += [batcher.submit(image(value)) for value in range(1, 6)]
    go.set()
    assert [answer.result(10)[0] for answer in answers] == list(range(6))
    assert sizes == [1, 5]
    batcher.close()


def test_too_many_are_refused_and_room_comes_back() -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(pixels: NDArray[Any]) -> Floats:
        begun.set()
        go.wait(10)
        return first_pixel(pixels)

    batcher = Batcher(slow, batch=1, waiting=2)
    answers = [batcher.submit(image(1)), batcher.submit(image(2))]
    begun.wait(10)
    with pytest.raises(BusyError, match="too many waiting"):
        batcher.submit(image(3))
    go.set()
    assert [answer.result(10)[0] for answer in answers] == [1, 2]
    assert batcher.submit(image(4)).result(10)[0] == 4
    batcher.close()


def test_an_error_reaches_those_who_asked_and_nobody_else() -> None:
    def picky(pixels: NDArray[Any]) -> Floats:
        if pixels.max() > 100:
            raise ArithmeticError("too bright")
        return first_pixel(pixels)

    batcher = Batcher(picky, batch=1, waiting=9)
    with pytest.raises(ArithmeticError, match="too bright"):
        batcher.submit(image(200)).result(10)
    assert batcher.submit(image(5)).result(10)[0] == 5
    assert batcher.alive
    batcher.close()
    assert not batcher.alive


def test_an_answer_that_nobody_wants_is_left_out() -> None:
    begun, go = threading.Event(), threading.Event()
    seen: list[int] = []

    def slow(pixels: NDArray[Any]) -> Floats:
        seen.append(len(pixels))
        begun.set()
        go.wait(10)
        return first_pixel(pixels)

    batcher = Batcher(slow, batch=8, waiting=9)
    batcher.submit(image(0))
    begun.wait(10)
    unwanted, wanted = batcher.submit(image(1)), batcher.submit(image(2))
    unwanted.cancel()
    go.set()
    assert wanted.result(10)[0] == 2
    assert seen == [1, 1]
    batcher.close()
