"""A process that runs a task, as seen by its parent."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, final

import attrs

from imgcls.execution.base import Result, Task
from imgcls.execution.messages import Inbox, Outbox
from imgcls.execution.sending import sendable_error
from imgcls.execution.worker import ANSWERS, CONTINUABLE, FAILED, MESSAGES, RESULT

__all__ = ["Ending", "Process", "end"]

#: Seconds that a process has to end by itself once it was asked to.
_GRACE = 10.0

#: Seconds between two looks at a process that was asked to end.
_PAUSE = 0.02

#: How many lines of what a process printed at its end are shown.
_SHOWN = 20

#: What Python does in the process: modules are found where they are found here.
_CODE = "import sys; sys.path[:] = {path!r}; from imgcls.execution.worker import main; main({folder!r}, again={again})"

#: How processes end that were asked to.
_ASKED = frozenset({CONTINUABLE, -signal.SIGTERM, -signal.SIGINT})


@final
@attrs.define(kw_only=True, eq=False)
class Process:
    """A process and its task.

    Attributes:
        task: What it does.
        folder: Where its files are.
        log: What it prints.
        child: The process.
        again: Whether it waits for another task when this one is done.
        inbox: What it tells.
        answers: What it is answered.
        started: When it began, by the monotonic clock.
        asked: When it was asked to end, or None.
    """

    task: Task
    folder: Path
    log: Path
    child: subprocess.Popen[bytes]
    again: bool
    inbox: Inbox = attrs.field(init=False)
    answers: Outbox = attrs.field(init=False)
    started: float = attrs.field(factory=time.monotonic)
    asked: float | None = None

    def __attrs_post_init__(self) -> None:
        self.inbox, self.answers = Inbox(self.folder / MESSAGES), Outbox(self.folder / ANSWERS)

    @classmethod
    def begin(cls, task: Task, *, folder: Path, log: Path, variables: Mapping[str, str], again: bool) -> Process:
        """Start a process.

        Args:
            task: What it shall do.
            folder: With its files.
            log: Where what it prints is added.
            variables: Variables of its environment beside ours.
            again: Whether it shall wait for another task when this one is done.

        Returns:
            The process.
        """
        code = _CODE.format(path=sys.path, folder=str(folder.resolve()), again=again)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            child = subprocess.Popen(  # noqa: S603 (our own interpreter and code)
                [sys.executable, "-X", "faulthandler", "-c", code],
                env={**os.environ, **variables},
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
            )
        return cls(task=task, folder=folder, log=log, child=child, again=again)

    def takes(self, task: Task, *, folder: Path, log: Path) -> Process | None:
        """Give it another task, now that the last one is done.

        Args:
            task: What it shall do.
            folder: With its files.
            log: Where what it prints is added.

        Returns:
            The same process with its new task; None where it has died meanwhile.
        """
        assert self.child.stdin is not None
        line = json.dumps({"folder": str(folder.resolve()), "log": str(log.resolve())}) + "\n"
        try:
            self.child.stdin.write(line.encode())
            self.child.stdin.flush()
        except OSError:
            self.release()
            return None
        return Process(task=task, folder=folder, log=log, child=self.child, again=True)

    def ended(self) -> bool:
        """Say whether its task has ended; one whose time is over is asked to, and killed if it does not.

        Returns:
            Whether it has.
        """
        if self.child.poll() is not None or (self.again and (self.folder / RESULT).exists()):
            return True
        now, limit = time.monotonic(), self.task.timeout
        if self.asked is None and limit is not None and now - self.started > limit:
            self.ask()
        if self.asked is not None and now - self.asked > _GRACE:
            self.child.kill()
        return False

    def ask(self) -> None:
        """Ask it to end, as a scheduler does."""
        if self.asked is None:
            self.asked = time.monotonic()
            self.child.terminate()

    def answer_nothing(self) -> None:
        """Answer what it asks with None, so that it goes on to where it can end."""
        for wants, _ in self.inbox.new():
            if wants:
                self.answers(None)

    def result(self) -> Result:
        """Tell how the task ended; a process that does not wait for another one is released.

        Returns:
            The result.
        """
        return self.ending().result(self.task.name)

    def ending(self) -> Ending:
        """Tell how the task ended without reading what it left, for another machine to do so.

        Returns:
            The ending.
        """
        if self.waits:
            self._let_go()  # it may go on with another task, which has files of its own
        else:
            self.release()
        path = self.folder / RESULT  # what it left counts, even if it could not end properly then
        left = path.read_bytes() if path.exists() else None
        seconds = time.monotonic() - self.started
        done = left is not None and not (self.folder / FAILED).exists()
        return Ending(done=done, seconds=seconds, left=left, fate=self._fate() if left is None else {})

    @property
    def waits(self) -> bool:
        """Whether it waits for another task."""
        return self.again and self.child.poll() is None

    def _fate(self) -> dict[str, Any]:
        code = self.child.returncode
        if self.asked is not None:
            return {"state": "timeout", "reason": f"no end within {self.task.timeout:g} s"}
        if code in _ASKED:
            return {"state": "interrupted", "reason": "a request to end"}
        return {"state": "killed", "reason": "a process that " + _end_in_words(code) + self._last_lines()}

    def _last_lines(self) -> str:
        text = self.log.read_text(encoding="utf-8", errors="replace").rstrip() if self.log.exists() else ""
        return f"; its last lines in {str(self.log)!r}:\n" + "\n".join(text.splitlines()[-_SHOWN:]) if text else ""

    def release(self) -> None:
        """Close what binds the process to this one; one that still runs ends at once."""
        assert self.child.stdin is not None
        with contextlib.suppress(OSError):  # of a line that a dead process did not read
            self.child.stdin.close()
        self.child.wait()
        self._let_go()

    def _let_go(self) -> None:
        self.answers.close()
        if self.log.exists() and not self.log.stat().st_size:
            self.log.unlink()


@final
@attrs.frozen(kw_only=True)
class Ending:
    """How a process ended.

    Attributes:
        done: Whether its task returned.
        seconds: How long it took.
        left: The state of a `Result` with what belongs to it, pickled; None where it could not leave one.
        fate: The same for a process that left nothing.
    """

    done: bool
    seconds: float
    left: bytes | None
    fate: Mapping[str, str]

    def result(self, name: str) -> Result:
        """Read what it left.

        Args:
            name: Of its task.

        Returns:
            The result.
        """
        return Result(name=name, seconds=self.seconds, **(self.fate if self.left is None else _read(self.left)))


def _read(left: bytes) -> dict[str, Any]:
    try:
        return dict(pickle.loads(left))  # noqa: S301 (our own process wrote it)
    except Exception as error:  # a value whose class cannot be loaded here
        reason = f"a value that cannot be read: {type(error).__name__}: {error}"
        return {"state": "failed", "error": sendable_error(error), "reason": reason}


def _end_in_words(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}" + (", as happens when memory is short" if code == -9 else "")


def end(processes: Iterable[Process]) -> None:
    """End processes: ask all, wait 10 s for them, and kill the others.

    Args:
        processes: Those that still run.
    """
    asked = list(processes)
    try:
        for process in asked:
            process.ask()
        while [process for process in asked if not process.ended()]:
            for process in asked:
                process.answer_nothing()
            time.sleep(_PAUSE)
    finally:
        for process in asked:
            process.child.kill()
            process.release()
