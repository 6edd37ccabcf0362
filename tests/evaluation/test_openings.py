"""Each opening of a test set is counted once, whatever is killed, and whoever writes at the same time."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgcls.evaluation.openings import LEDGER, digest_of, note_opening, openings
from imgcls.evaluation.openings import test_fingerprint as fingerprint_of
from imgcls.evaluation.predictions import Predictions


def told(ids: Any = ("a.png", "b.png"), labels: Any = (0, 1)) -> Predictions:
    probs = np.full((len(ids), 2), 0.5)
    return Predictions(
        ids=ids,
        labels=labels,
        logits=probs,
        probs=probs,
        fold=np.zeros(len(ids)),
        split="test",
        classes=("no", "yes"),
        positive="yes",
    )


def note(folder: Path, key: str, configuration: str = "c", predictions: Predictions | None = None) -> Any:
    found = told() if predictions is None else predictions
    return note_opening(folder, found, configuration=configuration, run=f"run-{key}", key=key)


def test_openings_and_configurations_are_counted(tmp_path: Path) -> None:
    assert (note(tmp_path, "1").count, note(tmp_path, "2").configurations) == (1, 1)
    found = note(tmp_path, "3", "other")
    assert (found.count, found.configurations) == (3, 2)
    assert str(found).startswith("These test records were opened 3 times by 2 configurations; the best")
    assert note(tmp_path, "4", predictions=told(labels=(1, 0))).count == 1
    assert openings(tmp_path, "unknown").count == 0


def test_a_run_that_goes_on_after_a_kill_counts_once(tmp_path: Path) -> None:
    assert [note(tmp_path, "same").count for _ in range(3)] == [1, 1, 1]


def test_the_fingerprint_is_of_records_and_labels_alone() -> None:
    first = fingerprint_of(told())
    assert fingerprint_of(told(("b.png", "a.png"), (1, 0))) == first
    assert fingerprint_of(told(("a.png", "b.png", "a.png"), (0, 1, 0))) == first
    assert fingerprint_of(told(("a.png", "c.png"))) != first


def test_a_torn_line_spoils_nothing_but_itself(tmp_path: Path) -> None:
    note(tmp_path, "1")
    with (tmp_path / LEDGER).open("ab") as file:
        file.write(b'{"test": "abc", "confi')
    assert note(tmp_path, "2").count == 2
    assert len((tmp_path / LEDGER).read_bytes().splitlines()) == 3


def test_writers_at_one_time_lose_nothing(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: note(tmp_path, str(number)), range(24)))
    assert openings(tmp_path, fingerprint_of(told())).count == 24


def test_lines_are_only_added(tmp_path: Path) -> None:
    note(tmp_path, "1")
    before = (tmp_path / LEDGER).read_bytes()
    note(tmp_path, "2")
    assert (tmp_path / LEDGER).read_bytes().startswith(before)


def test_what_changes_only_speed_or_place_is_one_configuration() -> None:
    first = digest_of({"out": "runs/a", "device": "cpu", "seed": 1})
    assert digest_of({"out": "runs/b", "device": "cuda", "seed": 1}) == first
    assert digest_of({"out": "runs/a", "device": "cpu", "seed": 2}) != first


@pytest.mark.parametrize(
    "module",
    [
        "openings",
        "baselines",
        "calibration",
        "conformal",
        "errors",
        "label_errors",
        "rejecting",
        "reliability",
        "rules",
    ],
)
def test_what_judges_predictions_needs_no_torch(module: str) -> None:
    code = f"import sys, imgcls.evaluation.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
