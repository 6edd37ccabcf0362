"""What is measured of training steps, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from imgcls.training.profiling import profiled


def steps(folder: Path, number: int) -> None:
    with profiled(folder, wanted=True) as mark:
        for _ in range(number):
            torch.ones(2, 2) @ torch.ones(2, 2)
            mark()
        torch.ones(2).cumsum(0)  # as a validation that follows


@pytest.mark.parametrize(("number", "measured"), [(5, 1), (9, 5), (14, 10), (20, 10)])
def test_table_and_trace_are_of_so_many_steps_as_is_said(
    number: int, measured: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        steps(tmp_path, number)
    assert f"Profile of {measured} steps: " in caplog.text
    (row,) = [line.split() for line in (tmp_path / "profile.txt").read_text().splitlines() if "aten::mm" in line]
    assert row[-1] == str(measured)  # the number of calls
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert sum(event["name"] == "aten::mm" for event in events) == measured


@pytest.mark.parametrize("number", [0, 3, 4])
def test_too_few_steps_leave_nothing_and_that_is_said(
    number: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    steps(tmp_path, number)
    assert f"No step was profiled: the first 4 are let pass, and there were {number};" in caplog.text
    assert not list(tmp_path.iterdir())


def test_nothing_is_measured_where_nobody_asks(tmp_path: Path) -> None:
    with profiled(tmp_path, wanted=False) as mark:
        for _ in range(20):
            mark()
    assert not list(tmp_path.iterdir())
