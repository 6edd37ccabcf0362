"""Folds and trials on a real Ray of this machine with two workers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.execution import work
from tests.execution.test_executors import alive, appeared, task
from tests.searching import work as trials
from tests.searching.crashes import SPACE
from tests.searching.test_conducting import conductor, opened

from imgcls import Run, Searcher, Trainer
from imgcls.core.errors import ConfigError, DataError
from imgcls.execution.base import Listener, Result, Task
from imgcls.execution.ray import Ray
from imgcls.runtime.interruption import Interrupted
from imgcls.testing import blobs
from imgcls.training.events import EpochEnd, StepEnd

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

SMALL: dict[str, Any] = {
    "backbone": {"name": "small-cnn", "base": 4, "depth": 2},
    "image": {"size": 32, "channels": 1},
    "splitter": {"name": "stratified-group-kfold", "k": 2},
    "stages": [{"epochs": 4, "lr": 0.01}],
    "batch_size": 8,
    "device": "cpu",
    "precision": "fp32",
}
ON_RAY: dict[str, Any] = {"executor": {"name": "ray", "cpus": 1}, "parallel": 2}


def trainer(out: Path, **changes: Any) -> Trainer:
    return Trainer(blobs(size=32), **{**SMALL, "out": out, **changes})


def same(one: Run, other: Run) -> bool:
    found = [(run.predictions("val"), run.predictions("test")) for run in (one, other)]
    return all(np.array_equal(ours.logits, theirs.logits) for ours, theirs in zip(*found, strict=True))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray that all tests of this file share, which the executor finds connected."""
    ray = pytest.importorskip("ray")
    before = signal.getsignal(signal.SIGTERM)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=200 << 20)
    signal.signal(signal.SIGTERM, before)
    yield ray
    ray.shutdown()


@pytest.fixture
def executor(cluster: Any, tmp_path: Path) -> Callable[..., Ray]:
    return lambda **options: Ray(**{"parallel": 2, "scratch": tmp_path / "scratch", **options})


def test_tasks_do_there_what_they_do_in_processes(executor: Callable[..., Ray], tmp_path: Path) -> None:
    heard: list[Any] = []
    listener = Listener(heard=lambda _, message: heard.append(message), asked=lambda _, message: message + 1)
    tasks = [
        task(work.process_of, "pid"),
        task(work.ask, "ask", number=4),
        task(work.ask_twice, "twice"),
        task(work.fail, "fail", error=DataError("'x' must be y")),
        task(work.die, "die", number=signal.SIGKILL),
        task(work.wait, "wait", name="w", timeout=8),
        task(work.end_parent, "parent"),
        task(work.add, "add", number=1),
    ]
    found = {
        one.name: one
        for one in executor(logs=tmp_path / "logs", reuse=True).run(tasks[:-1], shared=tmp_path, listener=listener)
    }
    assert list(found) == [one.name for one in tasks[:-1]]
    states = {name: result.state for name, result in found.items()}
    assert states == dict.fromkeys(["pid", "ask", "twice"], "done") | {
        "fail": "failed",
        "die": "killed",
        "wait": "timeout",
        "parent": "killed",
    }
    assert (found["ask"].value, found["twice"].value, heard) == (5, [2, 3], ["told"])
    assert found["pid"].value["OMP_NUM_THREADS"] == "1"
    assert isinstance(found["fail"].error, DataError)
    assert "work.py" in found["fail"].error.__notes__[0]
    assert "SIGKILL" in found["die"].reason
    assert "about to die" in found["die"].reason
    assert found["parent"].reason.startswith("a machine or a worker of Ray that died: ")
    assert not alive(int((tmp_path / "w.begun").read_text()))
    assert not (tmp_path / "scratch").exists()


def test_tasks_run_side_by_side_and_wait_for_each_other(executor: Callable[..., Ray], tmp_path: Path) -> None:
    ended: list[str] = []

    def tasks() -> Iterator[Task | None]:
        yield task(work.meet, "a", name="a", count=2)
        yield task(work.meet, "b", name="b", count=2)
        while len(ended) < 2:
            yield None
        yield task(work.process_of, "c")

    found = executor().run(tasks(), shared=tmp_path, listener=Listener(done=lambda one, _: ended.append(one.name)))
    assert [result.state for result in found] == ["done"] * 3
    assert ended[-1] == "c"


def test_an_error_of_the_caller_ends_what_still_runs(executor: Callable[..., Ray], tmp_path: Path) -> None:
    def fail(_: Task, __: Result) -> None:
        appeared(tmp_path / "b.begun")
        raise KeyError("caller")

    tasks = [task(work.wait, "b", name="b"), task(work.meet, "a", name="a", count=1)]
    with pytest.raises(KeyError, match="caller"):
        executor().run(tasks, shared=tmp_path, listener=Listener(done=fail))
    assert (tmp_path / "b.asked").exists()
    assert not alive(int((tmp_path / "b.begun").read_text()))


def test_what_cannot_be_sent_is_refused_by_name(executor: Callable[..., Ray]) -> None:
    with pytest.raises(ConfigError, match="'shared' must be something that another process can load"):
        executor().run([task(work.add, number=1)], shared=lambda: 0)


def test_folds_have_the_weights_of_one_process_and_callbacks_hear_of_all(cluster: Any, tmp_path: Path) -> None:
    heard: list[StepEnd | EpochEnd] = []
    run = trainer(tmp_path / "ray", callbacks=[heard.append], **ON_RAY).fit()
    assert same(run, trainer(tmp_path / "local").fit())
    epochs = sorted((event.fold, event.epoch) for event in heard if isinstance(event, EpochEnd))
    assert epochs == [(fold, epoch) for fold in (0, 1) for epoch in range(4)]


def test_a_run_goes_on_after_a_signal(cluster: Any, tmp_path: Path) -> None:
    def stop(_: StepEnd | EpochEnd) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        trainer(tmp_path / "ray", callbacks=[stop], **ON_RAY).fit()
    assert not (tmp_path / "ray" / "run.json").exists()
    assert same(trainer(tmp_path / "ray", **ON_RAY).fit(), trainer(tmp_path / "local").fit())


def test_a_search_has_the_trials_of_one_process(cluster: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"space": SPACE, "trials": 4}
    own = trainer(tmp_path / "unused", splitter="holdout", decision=0.5)
    local = Searcher(own, **options, out=tmp_path / "local").run()
    there: dict[str, Any] = {"executor": {"name": "ray", "cpus": 1}, "workers": 2}
    found = Searcher(own, **options, **there, out=tmp_path / "ray").run()
    assert [entry.trial for entry in found.entries] == [entry.trial for entry in local.entries]
    values = [[entry.outcome.values for entry in one.entries if entry.outcome] for one in (found, local)]
    assert values[0] == values[1]
    assert len(values[0]) == 4


@pytest.mark.parametrize(("retries", "state", "attempts"), [(1, "complete", 2), (0, "killed", 1)])
def test_a_trial_whose_process_is_killed_is_tried_again_or_recorded(
    retries: int, state: str, attempts: int, executor: Callable[..., Ray], tmp_path: Path
) -> None:
    study = opened(tmp_path, trials=2)
    conductor(study, tmp_path, trials.dies_once, retries=retries).conduct(executor(reuse=True))
    outcomes = [entry.outcome for entry in study.entries]
    assert [(one.state, one.facts["attempts"]) for one in outcomes if one] == [(state, attempts)] * 2


PARENT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have had ignored
sys.path[:] = {path!r}
from pathlib import Path
from imgcls.execution.base import Task
from imgcls.execution.ray import Ray
from tests.execution import work
folder = Path({folder!r})
tasks = [Task(name=name, function=work.wait, arguments={{"name": name}}) for name in "ab"]
Ray(parallel=2, scratch=folder / "scratch").run(tasks, shared=folder)
"""


def processes_of(session: int) -> list[str]:
    listed = subprocess.run(["ps", "-s", str(session), "-o", "args="], check=False, capture_output=True, text=True)
    return listed.stdout.splitlines()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_ray_of_our_own_ends_with_its_program(number: signal.Signals, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    code = PARENT.format(path=sys.path, folder=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, start_new_session=True) as parent:
        for name in "ab":
            appeared(tmp_path / f"{name}.begun")
        pids = [int((tmp_path / f"{name}.begun").read_text()) for name in "ab"]
        assert any("raylet" in line for line in processes_of(parent.pid))
        parent.send_signal(number)
        assert parent.wait(60) == -number
    deadline = time.monotonic() + 120  # what watches over a Ray that was killed takes its time
    while any(map(alive, pids)) or processes_of(parent.pid):
        assert time.monotonic() < deadline, processes_of(parent.pid)
        time.sleep(0.1)
    assert len(list(tmp_path.glob("*.asked"))) == (2 if number == signal.SIGINT else 0)


# The lines of the page on clusters, on the processors of this machine and without the GPU that one of them asks for.
_PAGE = (Path(__file__).parent.parent / "docs" / "cluster.md").read_text(encoding="utf-8")
_LINES = "".join(re.findall(r"^```python\n(.*?)^```", _PAGE, re.DOTALL | re.MULTILINE)).splitlines()


@pytest.mark.parametrize("line", [line for line in _LINES if "ray" in line])
def test_the_lines_of_the_page_on_clusters_run(line: str, cluster: Any, tmp_path: Path) -> None:
    few = {"trials": 2, "workers": 2, "out": tmp_path / "search"}
    given = {
        "data": blobs(size=32),
        "trainer": trainer(tmp_path / "trainer"),
        "space": {"stages.0.lr": [0.01, 0.02]},
        "Trainer": lambda data, **options: Trainer(data, **{**SMALL, **options, "out": tmp_path / "run"}),
        "Searcher": lambda found, **options: Searcher(found, **{**options, **few}),
    }
    exec(line.replace('"cpus": 8', '"cpus": 1').replace(', "gpus": 1', ""), given)
    assert list(tmp_path.glob("run/metrics.csv")) or list(tmp_path.glob("search/trials.csv"))
