"""Signals that end a process: training first saves where it is."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from imgcls.core.progress import say

__all__ = ["EXIT_CODE", "Interrupted", "at_once", "deferred", "interruptible", "wanted"]

#: The exit code of a process that can be continued (EX_TEMPFAIL of sysexits.h).
EXIT_CODE = 75

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

#: Within so many seconds signals are one request: launchers pass on what the whole group got anyway.
_SAME = 3.0


class Interrupted(SystemExit):
    """The process was asked to end; the same command continues it."""

    def __init__(self) -> None:
        super().__init__(EXIT_CODE)


class _Requests:
    """What the handler, which runs between any two instructions, leaves for the rest to see."""

    deferring: bool = False
    wanted: bool = False
    last: float = -math.inf


_requests = _Requests()


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into `Interrupted` while the block runs.

    Outside of the main thread, where Python handles no signals, nothing changes.

    Yields:
        Nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _handle) for number in _SIGNALS}
    try:
        yield
    except Interrupted:
        say("Stopped; the same command goes on from here")
        raise
    finally:
        _requests.wanted, _requests.last = False, -math.inf
        for number, handler in before.items():
            signal.signal(number, handler)


# The second request ends at once, also what is deferred.
def _handle(_number: int, _frame: FrameType | None) -> None:
    now = time.monotonic()
    if now - _requests.last < _SAME:
        return
    _requests.last = now
    if not _requests.deferring or _requests.wanted:
        raise Interrupted
    _requests.wanted = True


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Let the block finish what it does: it asks `wanted` at places where it can stop.

    Yields:
        Nothing.

    Raises:
        Interrupted: at the end of the block if a signal came after it asked for the last time.
    """
    _requests.deferring = True
    try:
        yield
    finally:
        _requests.deferring = False
    if _requests.wanted:
        raise Interrupted


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Let a signal end this part of a deferred block at once, since all is saved already.

    Yields:
        Nothing.

    Raises:
        Interrupted: if a signal came before.
    """
    if _requests.wanted:
        raise Interrupted
    before, _requests.deferring = _requests.deferring, False
    try:
        yield
    finally:
        _requests.deferring = before


def wanted() -> bool:
    """Say whether a signal came while signals are deferred.

    Returns:
        Whether to stop.
    """
    return _requests.wanted
