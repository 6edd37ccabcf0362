"""The life of a process that runs one task."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from imgcls.execution.messages import Outbox
from imgcls.execution.sending import load, save, sendable_error

__all__ = ["CONTINUABLE", "MESSAGES", "RESULT", "TASK", "main"]

#: The files of a task, in its folder.
TASK, MESSAGES, RESULT = "task.pickle", "messages", "result.pickle"

#: The exit code of a process that ended before its task, which can be continued (EX_TEMPFAIL of sysexits.h).
CONTINUABLE = 75


def main(folder: str) -> None:
    """Run the task of a folder and leave its result there.

    Args:
        folder: With the function, its arguments and the file that all tasks share.
    """
    threading.Thread(target=_watch, args=(_lifeline(),), daemon=True).start()
    place = Path(folder)
    try:
        function, arguments, shared = load(place / TASK)
        value = function(load(shared), Outbox(place / MESSAGES), **arguments)
        save({"state": "done", "value": value}, place / RESULT)
    except Exception as error:  # whatever happens in a task is its result
        reason = f"{type(error).__name__}: {error}"
        save({"state": "failed", "error": sendable_error(error), "reason": reason}, place / RESULT)


# The parent holds the other end of our standard input, and never writes to it.
def _lifeline() -> int:
    lifeline, nothing = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return lifeline


# Without its parent nobody would read the result, and the next run would meet this process in its folders.
def _watch(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(CONTINUABLE)
