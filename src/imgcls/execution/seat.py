"""A place on a machine of a cluster, where one task after the other runs in a process of its own."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import attrs

from imgcls.execution.base import Task
from imgcls.execution.process import Ending, Process, end
from imgcls.execution.worker import TASK

__all__ = ["News", "Seat", "Setting"]

#: Seconds that news are waited for; so long a request to end may have to wait.
_PATIENCE = 0.2

#: Seconds between two looks at the process.
_PAUSE = 0.005

#: Seconds in which a shared folder shows on every machine what was written on another one.
_DELAY = 10.0

_SHARED = "shared.pickle"


@final
@attrs.frozen(kw_only=True)
class Setting:
    """What a seat must know of the program that it works for.

    Attributes:
        home: The working folder, which relative paths start from.
        sign: A file in the folder that all machines share.
        text: What stands in it.
        paths: Where modules are found.
        version: Of this package.
        variables: For the environment of processes.
        logs: Where what they print goes, or None.
        reuse: Whether a process whose task is done takes another one.
    """

    home: str
    sign: Path
    text: str
    paths: Sequence[str]
    version: str
    variables: Mapping[str, str]
    logs: Path | None
    reuse: bool


@final
@attrs.frozen(kw_only=True)
class News:
    """What happened since the last time.

    Attributes:
        messages: What the task told, each pickled.
        ending: How it ended, or None.
    """

    messages: list[bytes]
    ending: Ending | None


@final
class Seat:
    """An actor of Ray: it begins processes on its machine and passes on what they say.

    It reads nothing of what it passes on, so that it needs little memory and none of the user's modules.

    Args:
        setting: Of the program.
        shared: What all tasks share, pickled.
    """

    def __init__(self, setting: Setting, shared: bytes) -> None:
        self._setting = setting
        self._shared = shared
        self._scratch: Path | None = None
        self._busy: Process | None = None
        self._spare: Process | None = None

    def problem(self) -> str:
        """Say what keeps tasks from running on this machine.

        Returns:
            The problem, for people; empty where there is none.
        """
        setting = self._setting
        if setting.version != version("imgcls"):
            return f"imgcls {setting.version} must be installed on every machine, got {version('imgcls')} on {_here()}"
        if not _appears(setting):
            return (
                f"'out' must lie in a folder that every machine sees under one path, got {str(setting.sign.parent)!r}, "
                f"which {_here()} does not see; put it on a file system that they share"
            )
        os.chdir(setting.home)
        sys.path[:] = [*setting.paths, *(path for path in sys.path if path not in setting.paths)]
        return ""

    def begin(self, name: str, data: bytes, timeout: float | None) -> News:
        """Begin a task.

        Args:
            name: What it is called.
            data: Its function and arguments, and where what all share lies, pickled.
            timeout: Seconds that it may take.

        Returns:
            Nothing new.
        """
        folder = self._own_folder() / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / TASK).write_bytes(data)
        log = (self._setting.logs or folder) / f"{name}.log"
        task = Task(name=name, function=_in_its_process, timeout=timeout)
        process = None if self._spare is None else self._spare.takes(task, folder=folder, log=log)
        self._spare = None
        self._busy = process or Process.begin(
            task, folder=folder, log=log, variables=self._setting.variables, again=self._setting.reuse
        )
        return News(messages=[], ending=None)

    # Made with the first task, since a seat may be ended before it has one.
    def _own_folder(self) -> Path:
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="imgcls-"))
            (self._scratch / _SHARED).write_bytes(self._shared)
        return self._scratch

    def news(self, answers: Sequence[bytes]) -> News:
        """Pass on answers, and wait a moment for messages or the end of the task.

        Args:
            answers: To what was asked, each pickled.

        Returns:
            What happened.
        """
        process = self._busy
        assert process is not None
        for answer in answers:
            process.answers.send(answer)
        until = time.monotonic() + _PATIENCE
        while True:
            ended = process.ended()  # asked first, so that no message is missed
            messages = list(process.inbox.unread())
            if ended or messages or time.monotonic() > until:
                return News(messages=messages, ending=self._ending(process) if ended else None)
            time.sleep(_PAUSE)

    def _ending(self, process: Process) -> Ending:
        found = process.ending()
        self._busy = None
        if process.waits and found.done:
            self._spare = process
        elif process.waits:
            process.release()
        shutil.rmtree(process.folder, ignore_errors=True)
        return found

    def close(self) -> None:
        """End what still runs, as a scheduler does, and clean up."""
        if self._spare is not None:
            self._spare.release()
        end([] if self._busy is None else [self._busy])
        self._busy = self._spare = None
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)


def _in_its_process(*_: Any) -> None:
    raise AssertionError


def _here() -> str:
    return f"{platform.node()!r}"


def _appears(setting: Setting) -> bool:
    until = time.monotonic() + _DELAY
    while True:
        if Path(setting.home).is_dir() and setting.sign.exists() and setting.sign.read_text() == setting.text:
            return True
        if time.monotonic() > until:
            return False
        time.sleep(_PAUSE)
