"""Tasks one after the other, in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
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

    def _run(self, tasks: Iterator[Task], shared: Any, listener: Listener) -> None:
        for task in tasks:
            if task.timeout is not None:
                raise rejected("timeout", "be left out in this process", task.timeout, "executor 'processes' keeps it")
            try:
                result = _result(task, shared, listener)
            except _Refused as refused:
                raise refused.error from None
            listener.done(task, result)


def _result(task: Task, shared: Any, listener: Listener) -> Result:
    def tell(message: Any) -> None:
        try:
            listener.heard(task, message)
        except Exception as error:
            raise _Refused(error) from None

    started = time.monotonic()
    try:
        ending = {"state": "done", "value": task.function(shared, tell, **task.arguments)}
    except Exception as error:  # the task's own affair
        ending = {"state": "failed", "error": error, "reason": f"{type(error).__name__}: {error}"}
    return Result(name=task.name, seconds=time.monotonic() - started, **ending)
