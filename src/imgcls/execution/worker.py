"""The life of a process that runs tasks, one after the other."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from pathlib import Path
from typing import TextIO

from imgcls.execution.messages import Teller
from imgcls.execution.sending import load, save, sendable_error

__all__ = ["ANSWERS", "CONTINUABLE", "FAILED", "MESSAGES", "RESULT", "TASK", "main"]

#: The files of a task, in its folder.
TASK, MESSAGES, ANSWERS, RESULT = "task.pickle", "messages", "answers", "result.pickle"

#: What stands beside the result of a task that raised an error.
FAILED = "failed"

#: The exit code of a process that ended before its task, which can be continued (EX_TEMPFAIL of sysexits.h).
CONTINUABLE = 75


def main(folder: str, *, again: bool = False) -> None:
    """Run the task of a folder and leave its result there.

    Args:
        folder: With the function, its arguments and the file that all tasks share.
        again: Whether to wait for another task afterwards, until the parent ends this process.
    """
    tasks: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
    threading.Thread(target=_watch, args=(_lifeline(), tasks), daemon=True).start()
    kept: dict[str, object] = {}
    _run(Path(folder), kept)
    while again:
        task = tasks.get()
        _print_into(task["log"])
        _run(Path(task["folder"]), kept)


# What all tasks share is read once.
def _run(place: Path, kept: dict[str, object]) -> None:
    tell = Teller(place / MESSAGES, place / ANSWERS)
    try:
        function, arguments, shared = load(place / TASK)
        path = str((place / shared).resolve())
        if path not in kept:
            kept[path] = load(Path(path))
        value = function(kept[path], tell, **arguments)
        save({"state": "done", "value": value}, place / RESULT)
    except Exception as error:  # whatever happens in a task is its result
        reason = f"{type(error).__name__}: {error}"
        (place / FAILED).touch()
        save({"state": "failed", "error": sendable_error(error), "reason": reason}, place / RESULT)
    finally:
        tell.close()


def _print_into(log: str) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


# The parent holds the other end of our standard input, and writes further tasks to it.
def _lifeline() -> TextIO:
    lifeline, nothing = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return os.fdopen(lifeline, encoding="utf-8")


# Without its parent nobody would read the result, and the next run would meet this process in its folders.
def _watch(lifeline: TextIO, tasks: queue.SimpleQueue[dict[str, str]]) -> None:
    for line in lifeline:
        tasks.put(json.loads(line))
    os._exit(CONTINUABLE)
