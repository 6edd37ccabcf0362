"""Tasks one after the other, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, final

import attrs

from imgcls.core.options import rejected
from imgcls.execution.base import Executor, Listener, Result, Task

__all__ = ["Local"]


class _Refused(BaseException):
    """Carries an error of the listener through a task, whose own it is not."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


@final
@attrs.frozen(kw_only=True)
class Local(Executor):
    """Runs tasks one after the other in this process, which a signal or a crash ends with them."""

    def _run(self, tasks: Iterator[Task | None], shared: Any, listener: Listener) -> None:
        for task in filter(None, tasks):
            if task.timeout is not None:
                raise rejected("timeout", "be left out in this process", task.timeout, "executor 'processes' keeps it")
            try:
                result = _result(task, shared, listener)
            except _Refused as refused:
                raise refused.error from None
            listener.done(task, result)


@attrs.frozen(kw_only=True)
class _Tell:
    task: Task
    listener: Listener

    def __call__(self, message: Any) -> None:
        self._said(self.listener.heard, message)

    def ask(self, message: Any) -> Any:
        return self._said(self.listener.asked, message)

    def _said(self, listening: Callable[[Task, Any], Any], message: Any) -> Any:
        try:
            return listening(self.task, message)
        except Exception as error:
            raise _Refused(error) from None


def _result(task: Task, shared: Any, listener: Listener) -> Result:
    started = time.monotonic()
    try:
        value = task.function(shared, _Tell(task=task, listener=listener), **task.arguments)
        ending = {"state": "done", "value": value}
    except Exception as error:  # the task's own affair
        ending = {"state": "failed", "error": error, "reason": f"{type(error).__name__}: {error}"}
    return Result(name=task.name, seconds=time.monotonic() - started, **ending)
