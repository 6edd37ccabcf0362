"""All trackers of a run as one, and the table that is always there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pandas as pd
import pytest

from imgcls.core.folders import read_json
from imgcls.tracking.base import Point, RunInfo, Tracker, Tracking
from imgcls.tracking.csv import Csv
from imgcls.tracking.together import tracked

Info = Callable[..., RunInfo]


@attrs.frozen(kw_only=True)
class Memory(Tracker):
    """Keeps what it is told, and fails where it is told to."""

    told: list[Any] = attrs.field(factory=list, eq=False)
    fails: str = ""

    def _start(self, run: RunInfo, identity: str) -> Tracking:
        self.told.append(("start", identity))
        if self.fails == "start":
            raise ConnectionError("no server")
        return MemorySession(tracker=self, identity=identity or "run-1")


@attrs.define(kw_only=True, eq=False)
class MemorySession(Tracking):
    tracker: Memory

    def _tell(self, what: str, *words: Any) -> None:
        self.tracker.told.append((what, *words))
        if self.tracker.fails == what:
            raise ConnectionError("server\nis gone")

    def _log(self, point: Point) -> None:
        self._tell("log", point.step, dict(point.named))

    def _keep(self, path: Path, kind: str) -> None:
        self._tell(kind, path.name)

    def _finish(self, status: str) -> None:
        self._tell("finish", status)


def table(info: RunInfo) -> pd.DataFrame:
    return pd.read_csv(info.folder / "events.csv")


def follow(info: RunInfo, *trackers: Tracker, steps: range = range(1, 4)) -> None:
    with tracked(trackers, info) as run:
        for step in steps:
            run.log({"val/loss": 1 / step}, step=step, epoch=step - 1, fold=0)
        run.log_artifact(info.folder)
        run.log_model(info.folder)


def test_every_run_has_a_table_of_all_values(info: Info) -> None:
    with tracked([], info()) as run:
        run.log({"val/loss": 0.25, "val/roc_auc": float("nan")}, step=10, epoch=1, fold=0)
        run.log({"test/roc_auc": 0.9}, step=20)
    found = table(info())
    assert found.columns.tolist() == ["time", "fold", "epoch", "step", "key", "value"]
    rows = found.drop(columns="time").fillna(-1).to_numpy().tolist()
    assert rows == [[0, 1, 10, "val/loss", 0.25], [-1, -1, 20, "test/roc_auc", 0.9]]
    assert pd.to_datetime(found["time"]).dt.tz is not None


def test_the_table_is_written_once_however_often_it_is_named(info: Info) -> None:
    follow(info(), Csv(), Csv())
    assert len(table(info())) == 3


def test_trackers_are_told_everything_in_order(info: Info) -> None:
    memory = Memory()
    follow(info(), memory, steps=range(1, 3))
    assert memory.told == [
        ("start", ""),
        ("log", 1, {"fold_0/val/loss": 1.0}),
        ("log", 2, {"fold_0/val/loss": 0.5}),
        ("artifact", "chest"),
        ("model", "chest"),
        ("finish", "complete"),
    ]


@pytest.mark.parametrize("fails", ["start", "log", "artifact", "model", "finish"])
def test_a_tracker_that_fails_is_dropped_with_one_warning(
    fails: str, info: Info, caplog: pytest.LogCaptureFixture
) -> None:
    broken, good = Memory(fails=fails), Memory()
    follow(info(), broken, good)
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert warning.getMessage().startswith("Tracker 'Memory' no longer follows this run (ConnectionError: ")
    assert "\n" not in warning.getMessage()
    assert broken.told[-1][0] == fails
    assert [word for word, *_ in good.told] == ["start", *["log"] * 3, "artifact", "model", "finish"]
    assert len(table(info())) == 3


def test_a_full_disk_stops_the_table_and_nothing_else(info: Info, caplog: pytest.LogCaptureFixture) -> None:
    memory = Memory()
    with tracked([memory], info()) as run:
        (info().folder / "events.csv").unlink()
        (info().folder / "events.csv").mkdir()
        run.log({"a": 1}, step=1)
        assert run.names == ("Memory",)
        run.log({"a": 1}, step=2)
    assert "Tracker 'csv' no longer follows this run (IsADirectoryError" in caplog.text
    assert len(memory.told) == 4


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "failed"), (KeyboardInterrupt, "stopped"), (SystemExit, "stopped")]
)
def test_trackers_are_told_how_a_run_ends(error: type[BaseException], status: str, info: Info) -> None:
    memory = Memory()
    with pytest.raises(error), tracked([memory], info()):
        raise error
    assert memory.told[-1] == ("finish", status)


def test_an_exit_inside_a_tracker_is_none_of_its_failures(info: Info) -> None:
    @attrs.frozen(kw_only=True)
    class Interrupted(Tracker):
        def _start(self, run: RunInfo, identity: str) -> Tracking:
            raise SystemExit(75)  # as a handler of signals does

    with pytest.raises(SystemExit), tracked([Interrupted()], info()):
        pass


def test_wrong_values_are_an_error_of_the_caller(info: Info) -> None:
    with tracked([], info()) as run, pytest.raises(ValueError, match="'step' must be a whole number"):
        run.log({"a": 1}, step=1.5)  # type: ignore[arg-type]


def test_an_absent_file_is_an_error_of_the_caller(info: Info) -> None:
    memory = Memory()
    with tracked([memory], info()) as run:
        for keep in (run.log_artifact, run.log_model):
            with pytest.raises(ValueError, match="'path' must exist"):
                keep(info().folder / "absent")
        assert run.names == ("Memory", "csv")


# Resuming


def test_a_resumed_run_keeps_its_identity_and_logs_nothing_twice(info: Info) -> None:
    follow(info(), Memory(), Memory(), steps=range(1, 4))
    again = Memory(), Memory()
    follow(info(resumed=True), *again, steps=range(2, 6))
    assert [memory.told[0] for memory in again] == [("start", "run-1")] * 2
    for memory in again:
        assert [words[0] for what, *words in memory.told if what == "log"] == [4, 5]
    assert table(info())["step"].tolist() == [1, 2, 3, 4, 5]
    assert read_json(info().folder / "trackers.json") == {"Memory": "run-1", "Memory#2": "run-1"}


def test_folds_and_names_are_resumed_each_for_itself(info: Info) -> None:
    with tracked([], info()) as run:
        run.log({"a": 1}, step=5, fold=0)
    with tracked([], info(resumed=True)) as run:
        run.log({"a": 1, "b": 2}, step=5, fold=0)
        run.log({"a": 1}, step=5, fold=1)
        run.log({"a": 1}, step=5)
    assert list(zip(table(info())["fold"].fillna(-1), table(info())["key"], strict=True)) == [
        (0, "a"),
        (0, "b"),
        (1, "a"),
        (-1, "a"),
    ]


def test_the_line_that_a_kill_tore_is_written_again(info: Info) -> None:
    follow(info(), steps=range(1, 4))
    path = info().folder / "events.csv"
    path.write_bytes(path.read_bytes()[:-3])
    follow(info(resumed=True), steps=range(1, 5))
    assert table(info())["step"].tolist() == [1, 2, 3, 4]
    assert table(info())["value"].tolist() == [1, 0.5, 1 / 3, 0.25]


def test_a_tracker_that_was_away_comes_back_under_its_identity(info: Info) -> None:
    follow(info(), Memory())
    follow(info(resumed=True), Memory(fails="start"))
    back = Memory()
    follow(info(resumed=True), back)
    assert back.told[0] == ("start", "run-1")


@pytest.mark.parametrize("name", ["trackers.json", "events.csv"])
def test_damaged_notes_stop_nothing(name: str, info: Info, caplog: pytest.LogCaptureFixture) -> None:
    follow(info(), Memory())
    (info().folder / name).write_text("time,fold\n1,2\n")
    memory = Memory()
    follow(info(resumed=True), memory)
    assert memory.told[-1] == ("finish", "complete")
    assert caplog.records


def test_a_new_run_takes_no_identity(info: Info) -> None:
    follow(info(), Memory())
    memory = Memory()
    follow(info(), memory)
    assert memory.told[0] == ("start", "")
