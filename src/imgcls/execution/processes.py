"""Tasks side by side, each in a process of its own."""

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

__all__ = ["THREADS", "Processes"]

#: Seconds between two looks at the processes.
_PAUSE = 0.02

#: What says to libraries of mathematics how many threads they may use.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@final
@attrs.frozen(kw_only=True)
class Processes(Executor):
    """Runs each task in a fresh Python process, several at a time.

    Nothing is forked, and a process ends with its task, so that all its memory is free again, unless it may be
    used again. It shows no progress, what else it prints goes to a file, and it ends at once if this process dies.

    Attributes:
        parallel: How many run at a time.
        scratch: A folder for what goes to the processes and comes back; it is removed before and after.
        threads: How many threads libraries of mathematics use in each; None leaves that to them.
        gpus: What `CUDA_VISIBLE_DEVICES` may say, in turn, so that each process sees one GPU;
            None lets each see what this process sees.
        logs: Where `<task>.log` goes if a process prints something; None keeps none.
        reuse: Whether a process whose task is done takes another one, which spares what it costs to begin; one
            whose task failed ends.
    """

    parallel: int = attrs.field(validator=count(1))
    scratch: Path = attrs.field(validator=instance(Path))
    threads: int | None = attrs.field(default=None, validator=optional(count(1)))
    gpus: tuple[str, ...] | None = attrs.field(default=None, converter=texts, validator=optional(several(str)))
    logs: Path | None = attrs.field(default=None, validator=optional(instance(Path)))
    reuse: bool = attrs.field(default=False, validator=instance(bool))

    def _run(self, tasks: Iterator[Task | None], shared: Any, listener: Listener) -> None:
        with _cleared(self.scratch):
            sent = self.scratch / "shared.pickle"
            _send(shared, sent, name="shared")
            places = [_Place() for _ in range(self.parallel)]
            try:
                while self._fill(places, tasks, sent):
                    time.sleep(_PAUSE)
                    for place in places:
                        place.report(listener)
            finally:
                for place in places:
                    place.dismiss()
                end(place.busy for place in places if place.busy is not None)

    # The place of a process decides which GPU it has.
    def _fill(self, places: list[_Place], tasks: Iterator[Task | None], sent: Path) -> bool:
        for number, place in enumerate(places):
            if place.busy is None:
                task = next(tasks, _NONE)
                if task is _NONE:
                    break
                if task is None:  # it depends on those that run
                    return True
                assert isinstance(task, Task)
                place.busy = self._begun(task, sent, number, place.spare)
                place.spare = None
        return any(place.busy is not None for place in places)

    def _begun(self, task: Task, sent: Path, number: int, spare: Process | None) -> Process:
        folder = self.scratch / task.name
        folder.mkdir()
        _send((task.function, dict(task.arguments), sent.resolve()), folder / TASK, name=task.name)
        log = (self.logs or folder) / f"{task.name}.log"
        process = None if spare is None else spare.takes(task, folder=folder, log=log)
        variables = self._variables(number)
        return process or Process.begin(task, folder=folder, log=log, variables=variables, again=self.reuse)

    def _variables(self, number: int) -> dict[str, str]:
        threads = {} if self.threads is None else dict.fromkeys(THREADS, str(self.threads))
        gpu = {} if self.gpus is None else {"CUDA_VISIBLE_DEVICES": self.gpus[number % len(self.gpus)]}
        return {"IMGCLS_QUIET": "1", **threads, **gpu}


#: Says that there are no tasks any more.
_NONE = object()


@attrs.define(kw_only=True)
class _Place:
    """Where one process after the other works.

    Attributes:
        busy: The process at work.
        spare: One whose task is done, and which may take another.
    """

    busy: Process | None = None
    spare: Process | None = None

    def report(self, listener: Listener) -> None:
        process = self.busy
        if process is None:
            return
        ended = process.ended()  # asked first, so that no message is missed
        for wants, message in process.inbox.new():
            if wants:
                process.answers(_answer(listener, process, message))
            else:
                listener.heard(process.task, message)
        if ended:
            self._done(process, listener)

    def _done(self, process: Process, listener: Listener) -> None:
        result = process.result()
        self.busy = None
        if result.state == "done" and process.waits:
            self.spare = process
        elif process.waits:
            process.release()
        try:
            listener.done(process.task, result)
        finally:
            shutil.rmtree(process.folder, ignore_errors=True)

    def dismiss(self) -> None:
        if self.spare is not None:
            self.spare.release()
            self.spare = None


# Who waits for an answer could not end otherwise.
def _answer(listener: Listener, process: Process, message: Any) -> Any:
    try:
        return listener.asked(process.task, message)
    except BaseException:
        process.answers(None)
        raise


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
