"""What the processes of these tests do; they import this module."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Tell = Callable[[Any], None]


class Fussy(Exception):  # noqa: N818
    """An error that cannot be made from its text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def add(shared: int, tell: Tell, *, number: int) -> int:
    return shared + number


def local_value(shared: Any, tell: Tell) -> Any:
    return lambda: 0


def fail(shared: Any, tell: Tell, *, error: Exception) -> None:
    raise error


def fussy(shared: Any, tell: Tell) -> None:
    raise Fussy(3, "no")


def process_of(shared: Any, tell: Tell) -> dict[str, Any]:
    names = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "IMGCLS_QUIET")
    return {"pid": os.getpid(), "torch": "torch" in sys.modules, **{name: os.environ.get(name) for name in names}}


def die(shared: Any, tell: Tell, *, number: int) -> None:
    print("about to die", file=sys.stderr, flush=True)
    os.kill(os.getpid(), number)
    time.sleep(60)


def leave(shared: Any, tell: Tell) -> None:
    sys.exit(3)


# Says that it is at work, and what it was asked.
def wait(folder: Path, tell: Tell, *, name: str, stubborn: bool = False) -> None:
    def asked(_: int, __: Any) -> None:
        (folder / f"{name}.asked").touch()
        if not stubborn:
            sys.exit(75)

    signal.signal(signal.SIGTERM, asked)
    (folder / f"{name}.tmp").write_text(str(os.getpid()))
    (folder / f"{name}.tmp").rename(folder / f"{name}.begun")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.01)


# Waits for the others, so that it shows who runs beside whom.
def meet(folder: Path, tell: Tell, *, name: str, count: int) -> str | None:
    (folder / f"{name}.here").touch()
    deadline = time.monotonic() + 30
    while len(list(folder.glob("*.here"))) < count:
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.01)
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def ask(shared: Any, tell: Any, *, number: int) -> Any:
    tell("told")
    return tell.ask(number)


def ask_twice(shared: Any, tell: Any) -> list[int]:
    return [tell.ask(1), tell.ask(2)]


# What begins tasks on a machine of a cluster is the parent of their processes.
def end_parent(shared: Any, tell: Tell) -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def count(shared: int, tell: Tell, *, number: int) -> None:
    for value in range(number):
        tell({"value": shared + value})


# Deaf to requests until it has an answer, as training is within an epoch.
def ask_deaf(folder: Path, tell: Any, *, name: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (folder / f"{name}.begun").touch()
    answer = tell.ask(name)
    (folder / f"{name}.{answer}").touch()
