"""The tracker that every run has: a long table of all values in the run's folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import final

import attrs

from imgcls.core.logs import cut_torn_line
from imgcls.tracking.base import Point, RunInfo, Tracker, Tracking

__all__ = ["Csv", "logged_steps"]

_FILE = "events.csv"
_HEADER = ("time", "fold", "epoch", "step", "key", "value")


@final
@attrs.frozen(kw_only=True)
class Csv(Tracker):
    """Appends each value as a line of `events.csv`: time, fold, epoch, step, key, value.

    Lines are written whole, so a kill loses none but the one being written; a run that is
    resumed goes on in the same file.
    """

    def _start(self, run: RunInfo, identity: str) -> Tracking:  # noqa: ARG002 (files need no name)
        path = run.folder / _FILE
        cut_torn_line(path)
        if not path.exists() or not path.stat().st_size:
            _append(path, [_HEADER])
        return _Table(path=path)


@final
@attrs.define(kw_only=True, eq=False)
class _Table(Tracking):
    path: Path

    def _log(self, point: Point) -> None:
        moment = datetime.fromtimestamp(point.time, UTC).isoformat(timespec="milliseconds")
        where = (moment, _text(point.fold), _text(point.epoch), str(point.step))
        _append(self.path, [(*where, key, repr(value)) for key, value in point.values.items()])

    def _keep(self, path: Path, kind: str) -> None:
        """Leave files where they are: in the run's folder."""

    def _finish(self, status: str) -> None:
        """Nothing is open between two points."""


def _text(number: int | None) -> str:
    return "" if number is None else str(number)


def _append(path: Path, rows: list[tuple[str, ...]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(text.getvalue())


def logged_steps(folder: Path) -> dict[tuple[int | None, str], int]:
    """Say how far the table of a run goes.

    Args:
        folder: The run's folder.

    Returns:
        The last step by fold and key; empty where there is no table.
    """
    steps: dict[tuple[int | None, str], int] = {}
    for fold, step, key in _rows(folder / _FILE):
        steps[fold, key] = max(step, steps.get((fold, key), -1))
    return steps


def _rows(path: Path) -> Iterator[tuple[int | None, int, str]]:
    if path.exists():
        cut_torn_line(path)
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                yield int(row["fold"]) if row["fold"] else None, int(row["step"]), row["key"]
