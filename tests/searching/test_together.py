"""Trials whose processes train together, as under torchrun."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tests.searching import work
from tests.searching.crashes import searcher

from imgcls.core.errors import ConfigError
from imgcls.core.folders import read_json
from imgcls.execution.base import Result, Task
from imgcls.execution.processes import Processes
from imgcls.runtime.together import train_together
from imgcls.search.trials import Entry

HERE = Path(__file__).parent


def run(folder: Path, *fates: str, reuse: bool = True) -> list[Result]:
    function = functools.partial(train_together, work.together, ranks=2)
    tasks = [Task(name=fate, function=function, arguments={"fate": fate}) for fate in fates]
    executor = Processes(parallel=1, scratch=folder / "scratch", threads=1, logs=folder, reuse=reuse)
    return executor.run(tasks, shared="shared")


def value(entry: Entry) -> float:
    assert entry.outcome is not None
    return entry.outcome.values[0]


def test_a_search_whose_trials_train_in_two_processes_is_that_of_one(tmp_path: Path, one_thread: None) -> None:
    alone = searcher(tmp_path / "alone", trials=1).run()
    both = searcher(tmp_path / "both", trials=1, executor="processes", ranks=2).run()
    assert [entry.outcome.state for entry in both.entries if entry.outcome] == ["complete"]
    assert read_json(tmp_path / "both" / "trial_0000" / "environment.json")["processes"] == 2
    np.testing.assert_allclose(value(both.entries[0]), value(alone.entries[0]), atol=1e-3)


@pytest.mark.slow
def test_processes_of_a_trial_train_together_on_ray(tmp_path: Path, one_thread: None) -> None:
    pytest.importorskip("ray")
    found = searcher(tmp_path, trials=1, executor={"name": "ray", "cpus": 1}, ranks=2).run()
    assert [entry.outcome.state for entry in found.entries if entry.outcome] == ["complete"]
    assert read_json(tmp_path / "trial_0000" / "environment.json")["processes"] == 2


@pytest.mark.slow
def test_pruned_trials_end_in_all_processes_and_go_on_in_all(tmp_path: Path, one_thread: None) -> None:
    halving = {"name": "halving", "min_epochs": 1}
    found = searcher(tmp_path, backend=halving, trials=4, executor="processes", ranks=2).run()
    epochs = [entry.outcome.facts["epochs"] for entry in found.entries if entry.outcome]
    states = [entry.outcome.state for entry in found.entries if entry.outcome]
    assert sorted(epochs) != [4, 4, 4, 4]
    assert max(epochs) == 4
    assert set(states) == {"complete", "pruned"}


@pytest.mark.slow
def test_each_end_is_told(tmp_path: Path) -> None:
    good, raises, dies, again = run(tmp_path, "good", "raises", "dies", "again")
    assert (good.state, good.value) == ("done", ["shared", 0, 2])
    assert (raises.state, raises.reason) == ("failed", "ValueError: not in process 1")
    assert (dies.state, "died" in dies.reason) == ("killed", True)
    assert again.state == "done"


@pytest.mark.slow
def test_messages_and_answers_go_through(tmp_path: Path, one_thread: None) -> None:
    trials = searcher(
        tmp_path, backend={"name": "optuna", "pruner": "median"}, trials=3, executor="processes", ranks=2
    ).run()
    assert len(trials.entries) == 3
    reported = [entry.reports for entry in trials.entries]
    assert all(reported)


@pytest.mark.slow
def test_a_signal_ends_all_processes_with_a_checkpoint_and_the_same_call_goes_on(tmp_path: Path) -> None:
    path = os.pathsep.join([str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(HERE / "crashes.py"), str(tmp_path), "random", "processes", "1", "2", "4"]
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("trial_*/fold_0/history.csv")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 75
    assert subprocess.run(command, env=environment, check=False, timeout=240).returncode == 0
    assert len(list(tmp_path.glob("trial_*/fold_0/fold.json"))) == 4


def test_processes_that_train_together_are_no_part_of_one_process(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'ranks' must be 1 in one process, got 2; choose executor 'processes'"):
        searcher(tmp_path, ranks=2)


def test_more_processes_than_gpus_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(ConfigError, match="'ranks' must be at most 1, a GPU for each process, got 2; or choose device"):
        searcher(tmp_path, ranks=2, executor="processes")
