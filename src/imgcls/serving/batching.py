"""Images of several requests at a time through one model."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar, final

import attrs

from imgcls.core.errors import ImgclsError

__all__ = ["Batcher", "BusyError"]

#: Fewer are not shared among threads: a network takes hardly longer for them than for one.
_LEAST = 4

Given = TypeVar("Given")
T = TypeVar("T")

#: From what was submitted to an answer or an error for each.
Work = Callable[[Sequence[Given]], Iterable[T | Exception]]


class BusyError(ImgclsError):
    """More images wait for the model than may."""


@attrs.frozen(kw_only=True, eq=False)
class _Waiting(Generic[Given, T]):
    order: Given
    answer: Future[T]


@final
class Batcher(Generic[Given, T]):
    """Threads that work, each time on all that waits, up to a limit.

    While one batch is worked on, the next one gathers; nobody waits for a batch to fill. When much waits it is shared
    among the threads that have nothing to do.

    Args:
        work: What is done with a batch; answers in its order. An error in place of an answer is that one's alone.
        batch: Images at a time, at most.
        waiting: How many may wait.
        threads: Batches at a time.
    """

    def __init__(
        self,
        work: Work[Given, T],
        *,
        batch: int,
        waiting: int,
        threads: int = 1,
    ) -> None:
        self._do, self._batch = work, batch
        self._idle, self._counting = 0, threading.Lock()
        self._room = threading.BoundedSemaphore(waiting)
        self._queue: queue.SimpleQueue[_Waiting[Given, T] | None] = queue.SimpleQueue()
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

    def submit(self, order: Given) -> Future[T]:
        """Ask for something.

        Args:
            order: What is to be worked on.

        Returns:
            The answer, later.

        Raises:
            BusyError: if too many wait already.
        """
        if not self._room.acquire(blocking=False):
            raise BusyError("the server must have room for the image, got too many waiting; try again")
        answer: Future[T] = Future()
        answer.add_done_callback(lambda _: self._room.release())
        self._queue.put(_Waiting(order=order, answer=answer))
        return answer

    def close(self) -> None:
        """Answer what waits, and end."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (first := self._first()) is not None:
            taken, end = self._gathered(first)
            _answer(taken, self._do)
            if end:
                return

    def _first(self) -> _Waiting[Given, T] | None:
        with self._counting:
            self._idle += 1
        found = self._queue.get()
        with self._counting:
            self._idle -= 1
        return found

    # This thread's share of what waits now, and whether the end came among it.
    def _gathered(self, first: _Waiting[Given, T]) -> tuple[list[_Waiting[Given, T]], bool]:
        taken, share = [first], math.ceil((1 + self._queue.qsize()) / (1 + self._idle))
        while len(taken) < min(max(share, _LEAST), self._batch):
            try:
                following = self._queue.get_nowait()
            except queue.Empty:
                break
            if following is None:
                return taken, True
            taken.append(following)
        return taken, False


# A request that was given up has cancelled its answer; one that fails takes none of the others with it.
def _answer(taken: Sequence[_Waiting[Given, T]], work: Work[Given, T]) -> None:
    asked = [one for one in taken if one.answer.set_running_or_notify_cancel()]
    if not asked:
        return
    try:
        found = list(work([one.order for one in asked]))
    except Exception as error:  # the thread must live on
        for one in asked:
            one.answer.set_exception(error)
        return
    for one, said in zip(asked, found, strict=True):
        if isinstance(said, Exception):
            one.answer.set_exception(said)
        else:
            one.answer.set_result(said)
