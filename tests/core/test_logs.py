"""The log of a run."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from imgcls.core import logs
from imgcls.core.logs import note, run_logs
from imgcls.core.progress import say, warn

LEVELS = ("debug", "info", "warning", "error")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def messages(folder: Path) -> dict[str, list[str]]:
    files = {level: folder / f"{level}.jsonl" for level in LEVELS}
    return {level: [line["message"] for line in lines(file)] for level, file in files.items() if file.exists()}


def test_each_level_has_a_file_of_what_is_at_least_as_grave(tmp_path: Path) -> None:
    with run_logs(tmp_path):
        for level in LEVELS:
            note(level, level)
    assert messages(tmp_path) == {level: list(LEVELS[number:]) for number, level in enumerate(LEVELS)}


def test_a_line_says_when_where_and_what(tmp_path: Path) -> None:
    with run_logs(tmp_path):
        note("info", "Größe 100 %", fold=1, loss=float("nan"), path=tmp_path, message="mine", level="mine")
    (line,) = lines(tmp_path / "info.jsonl")
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "imgcls",
        "message": "Größe 100 %",
        "fold": 1,
        "loss": "nan",
        "path": str(tmp_path),
    }


def test_what_is_said_on_the_console_is_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with run_logs(tmp_path):
        say("so", epoch=1)  # quiet in tests
        warn("beware")
    assert messages(tmp_path)["info"] == ["so", "beware"]
    assert messages(tmp_path)["warning"] == ["beware"]
    assert capsys.readouterr().err == ""


def test_a_warning_is_shown_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMGCLS_QUIET")
    warn("beware")
    assert capsys.readouterr().err == "Warning: beware\n"


def test_a_second_run_adds_to_the_log(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with run_logs(tmp_path):
            say(text)
    assert messages(tmp_path)["info"] == ["first", "second"]


def test_a_line_torn_by_a_kill_does_not_spoil_the_next(tmp_path: Path) -> None:
    with run_logs(tmp_path):
        say("first")
    with (tmp_path / "info.jsonl").open("a") as file:
        file.write('{"time": "20')
    with run_logs(tmp_path):
        say("second")
    assert messages(tmp_path)["info"] == ["first", "second"]


def test_files_are_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_BYTES", 500)
    monkeypatch.setattr(logs, "_BACKUPS", 2)
    with run_logs(tmp_path):
        for number in range(50):
            say(f"line {number}")
    assert {path.name for path in tmp_path.glob("info*")} == {"info.jsonl", "info.jsonl.1", "info.jsonl.2"}
    assert all(path.stat().st_size <= 500 for path in tmp_path.glob("info*"))
    assert lines(tmp_path / "info.jsonl")[-1]["message"] == "line 49"


def test_the_limits_are_those_that_were_promised() -> None:
    assert (logs._BYTES, logs._BACKUPS) == (10_485_760, 20)


def test_an_error_that_ends_the_run_is_logged_with_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), run_logs(tmp_path):
        _ = 1 / 0
    (line,) = lines(tmp_path / "error.jsonl")
    assert line["message"] == "ZeroDivisionError"
    assert line["traceback"].endswith("ZeroDivisionError: division by zero")


def test_logging_is_as_before_when_a_run_ends(tmp_path: Path) -> None:
    def state() -> list[Any]:
        loggers = logging.getLogger(), logging.getLogger("imgcls")
        return [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]

    before = state()
    with run_logs(tmp_path):
        assert state()[0] == before[0]
    assert state() == before
    with pytest.raises(KeyboardInterrupt), run_logs(tmp_path):
        raise KeyboardInterrupt
    assert state() == before


def test_the_users_own_logging_gets_once_what_its_level_lets_through(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
    with run_logs(tmp_path / "a"), run_logs(tmp_path / "b"):
        note("debug", "hidden")
        note("error", "seen")
    assert [record.getMessage() for record in caplog.records] == ["seen"]


def test_nothing_is_printed_for_users_without_logging(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    warn("before")
    with run_logs(tmp_path):
        warn("in a run")
    assert capsys.readouterr().err == ""
