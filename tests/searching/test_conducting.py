"""Trials of all kinds, run by processes and told to a study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.searching import work

from imgcls.execution.base import Executor
from imgcls.execution.local import Local
from imgcls.execution.processes import Processes
from imgcls.search.base import Study, search_backends
from imgcls.search.plain import canonical
from imgcls.search.table import best
from imgcls.searching.conducting import Conductor
from imgcls.searching.trial import Reached

FLOAT = {"x": {"float": [0.0, 1.0]}}


def opened(out: Path, space: Any = None, *, backend: Any = "random", trials: int | None = 4, **plan: Any) -> Study:
    options = {"directions": "maximize", "folder": out / "study", "seed": 0, "trials": trials, "epochs": 9, **plan}
    return search_backends.create(backend).open(space or FLOAT, **options)


def conductor(study: Study, out: Path, run: Callable[..., Reached], **changes: Any) -> Conductor:
    options = {"monitor": "roc_auc", "objectives": (), "limits": {}, "prune": None, "retries": 0, **changes}
    shared: Any = changes.pop("shared", _Shared())
    return Conductor(study=study, shared=shared, out=out, run=run, **{**options, **changes})


class _Shared:
    until = None


def processes(out: Path, parallel: int = 2, **options: Any) -> Executor:
    return Processes(parallel=parallel, scratch=out / "scratch", reuse=True, **options)


def test_every_end_of_a_trial_has_a_state_of_its_own_and_ends_nothing(tmp_path: Path) -> None:
    space = {"fate": ["raises", "memory", "loss", "nan", "dies", "good"]}
    study = opened(tmp_path, space, backend="grid", trials=None)
    conductor(study, tmp_path, work.fated).conduct(processes(tmp_path))
    states = {entry.trial.params["fate"]: entry.outcome.state for entry in study.entries if entry.outcome}
    assert states == {
        "raises": "failed",
        "memory": "out_of_memory",
        "loss": "non_finite",
        "nan": "non_finite",
        "dies": "killed",
        "good": "complete",
    }
    winner = best(study.entries, direction="maximize")
    assert winner is not None
    assert winner.trial.params == {"fate": "good"}


def test_a_trial_that_was_killed_is_tried_again(tmp_path: Path) -> None:
    study = opened(tmp_path, trials=2)
    conductor(study, tmp_path, work.dies_once, retries=1).conduct(processes(tmp_path))
    outcomes = [entry.outcome for entry in study.entries]
    assert [(one.state, one.facts["attempts"]) for one in outcomes if one] == [("complete", 2)] * 2


def test_where_memory_was_short_a_trial_is_tried_again_with_smaller_parts_of_batches(tmp_path: Path) -> None:
    study = opened(tmp_path, {"fate": ["short"]}, backend="grid", trials=None)
    conductor(study, tmp_path, work.needs_parts, retries=2).conduct(Local())
    (outcome,) = [entry.outcome for entry in study.entries if entry.outcome]
    assert (outcome.state, outcome.values, outcome.facts["attempts"]) == ("complete", (4.0,), 3)


def test_what_has_no_room_for_pairs_of_records_is_not_tried_again(tmp_path: Path) -> None:
    study = opened(tmp_path, {"fate": ["hopeless"]}, backend="grid", trials=None)
    conductor(study, tmp_path, work.needs_parts, retries=2).conduct(Local())
    (outcome,) = [entry.outcome for entry in study.entries if entry.outcome]
    assert (outcome.state, outcome.facts["attempts"]) == ("out_of_memory", 1)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["random", "optuna"])
def test_four_workers_give_60_trials_each_once(backend: str, tmp_path: Path) -> None:
    if backend == "optuna":
        pytest.importorskip("optuna")
    study = opened(tmp_path, backend=backend, trials=60)
    conductor(study, tmp_path, work.quick).conduct(processes(tmp_path, 4))
    assert [entry.trial.number for entry in study.entries] == list(range(60))
    assert len({canonical(entry.trial.params) for entry in study.entries}) == 60
    assert {entry.outcome.state for entry in study.entries if entry.outcome} == {"complete"}


@pytest.mark.slow
def test_each_worker_sees_one_gpu(tmp_path: Path) -> None:
    study = opened(tmp_path, trials=8)
    conductor(study, tmp_path, work.sees).conduct(processes(tmp_path, gpus=("3", "5")))
    seen = {(one.facts["extras"]["pid"], one.values[0]) for entry in study.entries if (one := entry.outcome)}
    assert {gpu for _, gpu in seen} == {3.0, 5.0}
    assert len({pid for pid, _ in seen}) == 2


@pytest.mark.parametrize("where", ["local", pytest.param("processes", marks=pytest.mark.slow)])
def test_halving_waits_for_its_round_wherever_it_runs(where: str, tmp_path: Path) -> None:
    executor = Local() if where == "local" else processes(tmp_path)
    study = opened(tmp_path, backend={"name": "halving", "min_epochs": 1}, trials=9)
    conductor(study, tmp_path, work.quick).conduct(executor)
    states = [entry.outcome.state for entry in study.entries if entry.outcome]
    assert (states.count("pruned"), states.count("complete")) == (8, 1)
    winner = best(study.entries, direction="maximize")
    assert winner is not None
    assert winner.trial.params["x"] == max(entry.trial.params["x"] for entry in study.entries)


def test_a_backend_that_says_so_ends_a_trial_after_a_fold(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    backend = {"name": "optuna", "pruner": {"name": "median", "n_startup_trials": 2, "n_warmup_steps": 0}}
    study = opened(tmp_path, {"x": [0.9, 0.8, 0.1]}, backend=backend, trials=3)
    conductor(study, tmp_path, work.with_folds).conduct(Local())
    outcomes = {entry.trial.params["x"]: entry.outcome for entry in study.entries}
    last = study.entries[-1]
    assert last.outcome is not None
    assert len(outcomes) == 3
    assert (last.outcome.state, len(last.outcome.facts["values"])) in {("pruned", 1), ("complete", 3)}
    assert (last.outcome.state == "pruned") == (last.trial.params["x"] == 0.1 or last.trial.params["x"] == 0.8)


def test_limits_keep_a_trial_from_winning(tmp_path: Path) -> None:
    study = opened(tmp_path, {"x": [0.1, 0.9]}, backend="grid", trials=None, directions=["maximize", "minimize"])
    run = conductor(study, tmp_path, work.quick, objectives=("latency",), limits={"latency": 5.0})
    for entry, latency in zip(("first", "second"), (1.0, 9.0), strict=True):
        del entry
        trial = study.ask()
        assert trial is not None
        value = work.reached(trial.params["x"], extras={"latency": latency})
        study.tell(trial, run._outcome(_Result(value)))  # type: ignore[arg-type]
    winner = best(study.entries, direction="maximize")
    assert winner is not None
    assert winner.trial.params == {"x": 0.1}
    assert [entry.outcome.values for entry in study.entries if entry.outcome] == [(0.1, 1.0), (0.9, 9.0)]


class _Result:
    def __init__(self, value: Reached) -> None:
        self.value = value
