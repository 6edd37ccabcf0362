"""Tasks side by side, each in a fresh process of its own."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import attrs

from imgcls.core.options import count, instance, optional, several, texts
from imgcls.execution.base import Executor, Listener, Task
from imgcls.execution.process import Process, end
from imgcls.execution.sending import refuse_unsendable, save
from imgcls.execution.worker import TASK

__all__ = ["Processes"]

#: Seconds between two looks at the processes.
_PAUSE = 0.02

#: What says to libraries of mathematics how many threads they may use.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@final
@attrs.frozen(kw_only=True)
class Processes(Executor):
    """Runs each task in a fresh Python process, several at a time.

    Nothing is forked, and a process ends with its task, so that all its memory is free again. It shows
    no progress, what else it prints goes to a file, and it ends at once if this process dies.

    Attributes:
        parallel: How many run at a time.
        scratch: A folder for what goes to the processes and comes back; it is removed before and after.
        threads: How many threads libraries of mathematics use in each; None leaves that to them.
        gpus: What `CUDA_VISIBLE_DEVICES` may say, in turn, so that each process sees one GPU;
            None lets each see what this process sees.
        logs: Where `<task>.log` goes if a process prints something; None keeps none.
    """

    parallel: int = attrs.field(validator=count(1))
    scratch: Path = attrs.field(validator=instance(Path))
    threads: int | None = attrs.field(default=None, validator=optional(count(1)))
    gpus: tuple[str, ...] | None = attrs.field(default=None, converter=texts, validator=optional(several(str)))
    logs: Path | None = attrs.field(default=None, validator=optional(instance(Path)))

    def _run(self, tasks: Iterator[Task], shared: Any, listener: Listener) -> None:
        with _cleared(self.scratch):
            sent = self.scratch / "shared.pickle"
            _send(shared, sent, name="shared")
            places: list[Process | None] = [None] * self.parallel
            try:
                while self._fill(places, tasks, sent):
                    time.sleep(_PAUSE)
                    _report(places, listener)
            finally:
                end(process for process in places if process is not None)

    # The place of a process decides which GPU it has.
    def _fill(self, places: list[Process | None], tasks: Iterator[Task], sent: Path) -> bool:
        for number, process in enumerate(places):
            if process is None and (task := next(tasks, None)) is not None:
                places[number] = self._begun(task, sent, number)
        return any(places)

    def _begun(self, task: Task, sent: Path, number: int) -> Process:
        folder = self.scratch / task.name
        folder.mkdir()
        _send((task.function, dict(task.arguments), sent.resolve()), folder / TASK, name=task.name)
        log = (self.logs or folder) / f"{task.name}.log"
        return Process.begin(task, folder=folder, log=log, variables=self._variables(number))

    def _variables(self, number: int) -> dict[str, str]:
        threads = {} if self.threads is None else dict.fromkeys(_THREADS, str(self.threads))
        gpu = {} if self.gpus is None else {"CUDA_VISIBLE_DEVICES": self.gpus[number % len(self.gpus)]}
        return {"IMGCLS_QUIET": "1", **threads, **gpu}


# Of a run that was killed something may be left.
@contextlib.contextmanager
def _cleared(scratch: Path) -> Iterator[None]:
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700, parents=True)
    try:
        yield
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _send(value: Any, path: Path, *, name: str) -> None:
    try:
        save(value, path)
    except Exception:  # pickling runs foreign code, which raises what it likes
        refuse_unsendable(value, path=name)
        raise


def _report(places: list[Process | None], listener: Listener) -> None:
    for number, process in enumerate(places):
        if process is None:
            continue
        ended = process.ended()  # asked first, so that no message is missed
        for message in process.inbox.new():
            listener.heard(process.task, message)
        if ended:
            places[number] = None
            listener.done(process.task, process.result())
            shutil.rmtree(process.folder, ignore_errors=True)
