"""A search that is killed goes on as if it had not been."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.searching.crashes import searcher

from imgcls.search.ledger import load

HERE = Path(__file__).parent


def begin(folder: Path, backend: str, workers: int, executor: str, trials: int) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(HERE / "crashes.py"), str(folder), backend, executor, str(workers), "1", str(trials)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"})


def params(folder: Path) -> dict[int, dict[str, Any]]:
    return {number: entry.trial.params for number, entry in load(folder / "study").items()}


def histories(folder: Path) -> dict[str, int]:
    """Give when each checkpoint of a finished fold was written."""
    done = [path.parent for path in folder.glob("trial_*/fold_*/fold.json")]
    return {str(path): path.stat().st_mtime_ns for fold in done for path in fold.glob("checkpoints/best/*")}


def killed(folder: Path, moment: float, backend: str, workers: int, executor: str, trials: int) -> dict[str, int]:
    with begin(folder, backend, workers, executor, trials) as process:
        deadline = time.monotonic() + 120
        while not list(folder.glob("trial_*/fold_0/history.csv")) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
    return histories(folder)


@pytest.mark.parametrize(("backend", "moments"), [("optuna", [0.3])])
def test_a_killed_search_has_the_same_trials_as_another(
    backend: str, moments: list[float], tmp_path: Path, one_thread: None
) -> None:
    check(backend, moments, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["random", "halving", "optuna"])
@pytest.mark.parametrize(("executor", "workers"), [("local", 1), ("processes", 2)])
def test_kills_at_many_moments(backend: str, executor: str, workers: int, tmp_path: Path, one_thread: None) -> None:
    moments = np.random.default_rng(workers).uniform(0, 3, 4).tolist()
    check(backend, moments, tmp_path, workers=workers, executor=executor)


@pytest.mark.slow
def test_thirty_trials_killed_three_times(tmp_path: Path, one_thread: None) -> None:
    check("random", [1.0, 3.0, 5.0], tmp_path, trials=30)


@pytest.mark.slow
def test_kills_of_a_search_on_ray(tmp_path: Path, one_thread: None) -> None:
    pytest.importorskip("ray")
    check("random", [0.0, 1.5], tmp_path, workers=2, executor="ray")


def check(
    backend: str, moments: list[float], folder: Path, *, workers: int = 1, executor: str = "local", trials: int = 4
) -> None:
    if backend == "optuna":
        pytest.importorskip("optuna")
    whole = searcher(folder / "whole", backend=backend, trials=trials).run()
    finished: dict[str, int] = {}
    for moment in moments:
        finished |= killed(folder / "cut", moment, backend, workers, executor, trials)
    with begin(folder / "cut", backend, workers, executor, trials) as process:
        assert process.wait(240) == 0
    same_trials = workers == 1 or backend != "optuna"  # with several workers it learns from what is there
    if same_trials:
        assert params(folder / "cut") == params(folder / "whole")
    entries = load(folder / "cut" / "study")
    assert sorted(entries) == list(range(trials))
    assert all(entry.outcome is not None for entry in entries.values())
    assert {path: when for path, when in histories(folder / "cut").items() if path in finished} == finished
    if same_trials:
        for number, entry in entries.items():
            theirs = whole.entries[number].outcome
            assert entry.outcome is not None
            assert theirs is not None
            assert (entry.outcome.state, entry.outcome.values) == (theirs.state, theirs.values)
    for path in (folder / "cut").glob("trial_*/fold_0/history.csv"):
        with path.open(newline="") as file:
            epochs = [int(row["epoch"]) for row in csv.DictReader(file)]
        assert epochs == list(range(len(epochs)))
