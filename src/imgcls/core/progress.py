"""Progress on the console: bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, Protocol

from imgcls.core.logs import note

__all__ = ["Advance", "progress", "say", "warn"]

#: Seconds between two lines where no bar can be drawn.
_PAUSE = 10.0


def say(text: str, /, **fields: Any) -> None:
    """Print a line to the error stream, unless `IMGCLS_QUIET` is set, and write it to the log.

    Args:
        text: The line.
        **fields: What the log adds to it, such as fold and epoch.
    """
    note("info", text, **fields)
    _show(text)


def warn(text: str, /, **fields: Any) -> None:
    """Say what somebody should look at, in the log at level warning.

    Args:
        text: The line.
        **fields: As for `say`.
    """
    note("warning", text, **fields)
    _show(f"Warning: {text}")


def _show(text: str) -> None:
    if not os.environ.get("IMGCLS_QUIET"):
        print(text, file=sys.stderr, flush=True)


class Advance(Protocol):
    """Tells a progress display what was done."""

    def __call__(self, steps: int, note: str = "") -> None:
        """Show that `steps` more are done, with a note behind the bar."""


@contextlib.contextmanager
def progress(label: str, total: int) -> Iterator[Advance]:
    """Show how far a task is.

    Args:
        label: What is done.
        total: How many steps there are.

    Yields:
        A function to call with the number of steps done since the last call and a note
        that stands behind the bar.
    """
    if os.environ.get("IMGCLS_QUIET"):
        yield _nothing
    else:
        with (_bar if sys.stderr.isatty() else _lines)(label, total) as advance:
            yield advance


@contextlib.contextmanager
def _bar(label: str, total: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(label, total=total, note="")

        def advance(steps: int, note: str = "") -> None:
            fields: dict[str, Any] = {"note": note} if note else {}
            bars.update(task, advance=steps, **fields)

        yield advance


def _nothing(steps: int, note: str = "") -> None:
    """Show nothing."""


@contextlib.contextmanager
def _lines(label: str, total: int) -> Iterator[Advance]:
    done, last, printed = 0, "", time.monotonic()

    def advance(steps: int, note: str = "") -> None:
        nonlocal done, last, printed
        done, last = done + steps, note or last
        if done < total and time.monotonic() - printed > _PAUSE:
            printed = time.monotonic()
            say(f"{label}: {done}/{total} {last}".rstrip())

    yield advance
    say(f"{label}: {done}/{total} {last}".rstrip())
