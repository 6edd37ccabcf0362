"""Folds that are trained by processes of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from imgcls import Run, Trainer
from imgcls.core.errors import ConfigError, ImgclsError, TrainingError
from imgcls.core.folders import read_json
from imgcls.execution.process import Process
from imgcls.models.module import ModuleBackbone
from imgcls.runtime.interruption import Interrupted
from imgcls.testing import blobs
from imgcls.training.events import EpochEnd, StepEnd
from imgcls.training.side_by_side import fewer_threads, visible_gpus

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL: dict[str, Any] = {
    "backbone": {"name": "small-cnn", "base": 4, "depth": 2},
    "image": {"size": 8, "channels": 1},
    "splitter": {"name": "stratified-group-kfold", "k": 2},
    "stages": [{"epochs": 30, "lr": 0.01}],
    "batch_size": 8,
    "device": "cpu",
    "precision": "fp32",
}
SIDE_BY_SIDE: dict[str, Any] = {"executor": "processes", "parallel": 2}


def trainer(out: Path, **changes: Any) -> Trainer:
    return Trainer(blobs(size=8), **{**SMALL, "out": out, **changes})


def same(one: Run, other: Run) -> bool:
    found = [(run.predictions("val"), run.predictions("test")) for run in (one, other)]
    return all(np.array_equal(ours.logits, theirs.logits) for ours, theirs in zip(*found, strict=True))


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Run:
    return trainer(tmp_path_factory.mktemp("local") / "run").fit()


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> dict[str, Process]:
    """The processes that were started, by task."""
    found: dict[str, Process] = {}
    begin = Process.begin

    def noted(task: Any, **options: Any) -> Process:
        found[task.name] = begin(task, **options)
        return found[task.name]

    monkeypatch.setattr(Process, "begin", noted)
    return found


def test_results_are_those_of_one_process_and_callbacks_hear_of_all(local: Run, tmp_path: Path) -> None:
    heard: list[StepEnd | EpochEnd] = []
    run = trainer(tmp_path / "run", callbacks=[heard.append], **SIDE_BY_SIDE).fit()
    assert same(run, local)
    assert run.value("roc_auc")[0] == local.value("roc_auc")[0]
    epochs = sorted((event.fold, event.epoch) for event in heard if isinstance(event, EpochEnd))
    assert epochs == [(fold, epoch) for fold in (0, 1) for epoch in range(30)]
    ours, theirs = ((one.folder / "events.csv").read_text().splitlines() for one in (run, local))
    assert len(ours) == len(theirs)
    assert read_json(run.folder / "environment.json")["runtime"]["threads"] == 1
    assert not (run.folder / ".processes").exists()


def test_a_killed_process_is_reported_and_the_run_goes_on(
    begun: dict[str, Process], local: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Process.begin

    def killed(task: Any, **options: Any) -> Process:
        process = begin(task, **options)
        if task.name == "fold_1":
            process.child.kill()
        return process

    monkeypatch.setattr(Process, "begin", killed)
    with pytest.raises(ImgclsError, match="'fold_1' must run to its end, got a process that was killed by SIGKILL"):
        trainer(tmp_path / "run", **SIDE_BY_SIDE).fit()
    assert all(process.child.returncode is not None for process in begun.values())
    assert not (tmp_path / "run" / "run.json").exists()
    assert same(trainer(tmp_path / "run").fit(), local)


@pytest.mark.slow
def test_a_run_goes_on_after_a_kill_within_training(begun: dict[str, Process], local: Run, tmp_path: Path) -> None:
    def kill(event: StepEnd | EpochEnd) -> None:
        if event.fold == 1:
            begun["fold_1"].child.kill()

    with pytest.raises(ImgclsError, match="'fold_1' must run to its end, got a process that was killed by SIGKILL"):
        trainer(tmp_path / "run", callbacks=[kill], **SIDE_BY_SIDE).fit()
    assert begun["fold_0"].child.returncode in {0, 75, -signal.SIGTERM}  # or it had not begun to train
    assert same(trainer(tmp_path / "run").fit(), local)


@pytest.mark.slow
def test_a_run_goes_on_after_a_signal(begun: dict[str, Process], local: Run, tmp_path: Path) -> None:
    def stop(_: StepEnd | EpochEnd) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted) as caught:
        trainer(tmp_path / "run", callbacks=[stop], **SIDE_BY_SIDE).fit()
    assert caught.value.code == 75
    assert {process.child.returncode for process in begun.values()} <= {0, 75, -signal.SIGTERM}
    assert same(trainer(tmp_path / "run", **SIDE_BY_SIDE).fit(), local)


def test_an_error_in_a_process_is_that_of_the_run(tmp_path: Path) -> None:
    diverging = {"epochs": 30, "lr": 1e30, "optimizer": "sgd"}
    holdout = {"name": "holdout", "val": 0.3, "test": 0.3}
    with pytest.raises(TrainingError, match="finite") as caught:
        trainer(tmp_path / "run", stages=[diverging], splitter=holdout, executor="processes").fit()
    assert "loop.py" in caught.value.__notes__[0]


def test_what_another_process_could_not_load_is_refused_by_name(tmp_path: Path) -> None:
    backbone = ModuleBackbone(module=lambda: nn.Conv2d(1, 2, 3))
    with pytest.raises(ConfigError, match=r"'backbone.module' must be something that another process can load"):
        trainer(tmp_path / "run", backbone=backbone, **SIDE_BY_SIDE).fit()
    assert not (tmp_path / "run").exists()


def test_processes_of_torchrun_train_no_folds_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgcls.runtime.ranks.Ranks.__init__", lambda self: object.__setattr__(self, "world", 2))
    with pytest.raises(ConfigError, match="'executor' must be 'local' under torchrun"):
        trainer(tmp_path / "run", **SIDE_BY_SIDE).fit()


def test_several_at_a_time_in_one_process_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'parallel' must be 1 in one process, got 2; choose executor 'processes'"):
        trainer(tmp_path / "run", parallel=2)


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("parallel", "each"), [(1, 4), (2, 2), (3, 1), (8, 1)])
def test_threads_are_shared_and_given_back(parallel: int, each: int, four_threads: None) -> None:
    with fewer_threads(parallel):
        assert torch.get_num_threads() == each
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize(
    ("device", "count", "named", "gpus"),
    [
        ("auto", 0, None, None),
        ("auto", 1, None, None),
        ("auto", 2, None, ("0", "1")),
        ("cuda", 2, "3,GPU-5", ("3", "GPU-5")),
        ("cuda:1", 2, None, None),
        ("cpu", 2, None, None),
    ],
)
def test_several_gpus_are_given_out_one_each(
    device: str, count: int, named: str | None, gpus: tuple[str, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_gpus(device) == gpus
