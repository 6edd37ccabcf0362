"""Images of several requests at a time through one model."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar, final

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import ImgclsError

__all__ = ["Batcher", "BusyError"]

T = TypeVar("T")

Model = Callable[[NDArray[Any]], Iterable[T]]


class BusyError(ImgclsError):
    """More images wait for the model than may."""


@attrs.frozen(kw_only=True, eq=False)
class _Waiting(Generic[T]):
    pixels: NDArray[Any]
    answer: Future[T]


@final
class Batcher(Generic[T]):
    """Threads that predict, each time all images that wait, up to a limit.

    While the model computes, the images of the next batch gather; nobody waits for a batch to fill.

    Args:
        model: From pixels (B, H, W, C) to what it says of each image.
        batch: Images at a time, at most.
        waiting: How many may wait.
        told: Is called with the size of each batch.
        threads: Batches at a time.
    """

    def __init__(
        self,
        model: Model[T],
        *,
        batch: int,
        waiting: int,
        told: Callable[[int], None] = lambda _: None,
        threads: int = 1,
    ) -> None:
        self._model, self._batch, self._told = model, batch, told
        self._room = threading.BoundedSemaphore(waiting)
        self._queue: queue.SimpleQueue[_Waiting[T] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"imgcls-batcher-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether it takes images."""
        return all(thread.is_alive() for thread in self._threads)

    @property
    def waiting(self) -> int:
        """How many images wait."""
        return self._queue.qsize()

    def submit(self, pixels: NDArray[Any]) -> Future[T]:
        """Ask for a prediction.

        Args:
            pixels: One image (H, W, C) in the form that the model takes.

        Returns:
            What the model says of it, later.

        Raises:
            BusyError: if too many wait already.
        """
        if not self._room.acquire(blocking=False):
            raise BusyError("the server must have room for the image, got too many waiting; try again")
        answer: Future[T] = Future()
        answer.add_done_callback(lambda _: self._room.release())
        self._queue.put(_Waiting(pixels=pixels, answer=answer))
        return answer

    def close(self) -> None:
        """Answer what waits, and end."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            taken, end = self._gathered(first)
            self._told(len(taken))
            _answer(taken, self._model)
            if end:
                return

    # What waits now, and whether the end came among it.
    def _gathered(self, first: _Waiting[T]) -> tuple[list[_Waiting[T]], bool]:
        taken = [first]
        while len(taken) < self._batch:
            try:
                following = self._queue.get_nowait()
            except queue.Empty:
                break
            if following is None:
                return taken, True
            taken.append(following)
        return taken, False


# A request that was given up has cancelled its answer; one that fails takes none of the others with it.
def _answer(taken: Sequence[_Waiting[T]], model: Model[T]) -> None:
    asked = [one for one in taken if one.answer.set_running_or_notify_cancel()]
    if not asked:
        return
    try:
        found = model(np.stack([one.pixels for one in asked]))
    except Exception as error:  # the thread must live on
        for one in asked:
            one.answer.set_exception(error)
        return
    for one, said in zip(asked, found, strict=True):
        one.answer.set_result(said)
