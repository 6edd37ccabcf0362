"""Progress on the console."""

from __future__ import annotations

import pytest

from imgcls.core import progress as module
from imgcls.core.progress import progress, say


@pytest.fixture(autouse=True)
def loud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMGCLS_QUIET")


def test_without_a_terminal_one_line_closes_a_task(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Work", 3) as advance:
        for _ in range(3):
            advance(1)
        advance(0, "good")
    assert capsys.readouterr().err == "Work: 3/3 good\n"


def test_long_tasks_say_where_they_are(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE", -1.0)
    with progress("Work", 2) as advance:
        advance(1)
    assert capsys.readouterr().err.splitlines()[0] == "Work: 1/2"


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress("Work", 2) as advance:
        advance(2, "done")
    assert "2/2" in capsys.readouterr().err


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGCLS_QUIET", "1")
    with progress("Work", 2) as advance:
        advance(2)
    say("words")
    assert capsys.readouterr().err == ""
