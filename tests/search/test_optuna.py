from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest

from imgcls.core.errors import ConfigError, MissingExtraError
from imgcls.search.base import Outcome, SearchBackend, Study
from imgcls.search.optuna import Optuna
from imgcls.search.plain import canonical
from imgcls.search.space import Choice, Float, Int, Space
from imgcls.testing import check_search_backend

optuna = pytest.importorskip("optuna")

SPACE = Space.of(
    {
        "optimizer": Choice("adamw", {"name": "sgd", "nesterov": True}),
        "optimizer.momentum": Float(0.5, 0.99, when={"optimizer": {"name": "sgd", "nesterov": True}}),
        "lr": Float(1e-4, 1.0, log=True),
        "depth": Int(1, 4),
    }
)
CUBE = Space.of({"a": [1, 2, 3], "b": ["x", "y", "z"], "c": [0.1, 0.2, 0.3]})


def opened(folder: Path, backend: SearchBackend | None = None, space: Space = SPACE, **options: Any) -> Study:
    plan = {"directions": "maximize", "folder": folder, "seed": 7, "trials": 16, **options}
    return (backend or Optuna()).open(space, **plan)


def run(study: Study, limit: int = 1000) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < limit and (trial := study.ask()) is not None:
        found.append(trial.params)
        distance = abs(math.log10(trial.params["lr"]) + 2) if "lr" in trial.params else trial.params["a"]
        values = [-distance] if len(study.plan.directions) == 1 else [-distance, float(trial.number)]
        study.tell(trial, Outcome("complete", values=values))
    return found


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "nsga3"])
def test_every_sampler_keeps_the_contract(sampler: str) -> None:
    options = {"n_startup_trials": 2} if sampler in {"tpe", "gp"} else {"population_size": 2}
    check_search_backend(Optuna(sampler={"name": sampler, **options}))


def test_kills_change_no_trial(tmp_path: Path) -> None:
    whole = run(opened(tmp_path / "whole"))
    for cut in (3, 5, 4):
        study = opened(tmp_path / "cut")
        run(study, cut)
        study.ask()  # killed while it runs
    run(opened(tmp_path / "cut"))
    assert [entry.trial.params for entry in opened(tmp_path / "cut").entries] == whole
    assert len({canonical(params) for params in whole}) == 16


def test_it_finds_a_better_place_than_chance(tmp_path: Path) -> None:
    from imgcls.search.random import Random

    def distance(backend: SearchBackend, name: str) -> float:
        tries = [run(opened(tmp_path / f"{name}{seed}", backend, seed=seed, trials=30)) for seed in range(3)]
        return sum(min(abs(math.log10(params["lr"]) + 2) for params in one) for one in tries)

    assert distance(Optuna(), "tpe") < distance(Random(), "random")


def test_27_combinations_give_27_distinct_trials_and_then_none(tmp_path: Path) -> None:
    study = opened(tmp_path, space=CUBE, trials=None)
    assert {canonical(params) for params in run(study)} == {canonical(params) for params in CUBE.grid()}
    assert len(study.entries) == 27
    assert study.ask() is None


def test_the_database_has_finished_trials_only(tmp_path: Path) -> None:
    study = opened(tmp_path, trials=4)
    run(study, 3)
    study.ask()
    opened(tmp_path, trials=4)
    found = optuna.load_study(study_name="search", storage=f"sqlite:///{tmp_path / 'optuna.db'}")
    assert [trial.state.name for trial in found.trials] == ["COMPLETE"] * 3
    assert [trial.params["lr"] for trial in found.trials] == [entry.trial.params["lr"] for entry in study.entries[:3]]


def test_a_lost_database_is_written_again(tmp_path: Path) -> None:
    run(opened(tmp_path, trials=4))
    (tmp_path / "optuna.db").unlink()
    opened(tmp_path, trials=4)
    assert len(optuna.load_study(study_name="search", storage=f"sqlite:///{tmp_path / 'optuna.db'}").trials) == 4


def test_a_damaged_database_is_left_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IMGCLS_QUIET", raising=False)
    run(opened(tmp_path, trials=2))
    (tmp_path / "optuna.db").write_bytes(b"no database" * 99)
    study = opened(tmp_path, trials=4)
    run(study)
    assert len(study.entries) == 4
    assert capsys.readouterr().err.count("optuna.db is left as it is") == 1


def test_a_pruner_stops_a_trial_that_is_worse_than_the_median(tmp_path: Path) -> None:
    backend = Optuna(pruner={"name": "median", "n_startup_trials": 2, "n_warmup_steps": 0})
    study = opened(tmp_path, backend)
    stops = []
    for value in (0.8, 0.9, 0.1, 0.95):
        trial = study.ask()
        assert trial is not None
        stops.append(study.report(trial, step=0, value=value))
        study.tell(trial, Outcome("pruned" if stops[-1] else "complete", values=value))
    assert stops == [False, False, True, False]


def test_values_of_several_directions_are_learnt(tmp_path: Path) -> None:
    study = opened(tmp_path, directions=["maximize", "minimize"])
    assert len(run(study)) == 16
    assert all(entry.outcome and len(entry.outcome.values) == 2 for entry in study.entries)


def test_trials_that_break_a_limit_are_avoided(tmp_path: Path) -> None:
    study = opened(tmp_path, Optuna(sampler={"name": "tpe", "n_startup_trials": 8}), trials=30)
    while (trial := study.ask()) is not None:
        excess = math.log10(trial.params["lr"]) + 2
        study.tell(trial, Outcome("complete", values=trial.params["lr"], constraints=[excess]))
    later = [entry.trial.params["lr"] for entry in study.entries[15:]]
    assert sum(lr <= 1e-2 for lr in later) > len(later) / 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "tpee"}, r"'sampler' must be one of 'tpe', 'gp', .*, got 'tpee'; did you mean 'tpe'"),
        ({"sampler": {"name": "tpe", "n_startup": 3}}, r"'sampler' must have options of Optuna's TPESampler"),
        ({"sampler": 3}, r"'sampler' must be a name, or a mapping with a 'name' and options, got 3"),
        ({"pruner": "hyperband"}, r"'pruner' must be one of 'median', .*, got 'hyperband'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Optuna(**options)


def test_a_pruner_beside_several_directions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'pruner' must be None where there are several directions, got 'median'"):
        opened(tmp_path, Optuna(pruner="median"), directions=["maximize", "minimize"])


def test_a_missing_package_is_one_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'imgcls\[optuna\]'"):
        Optuna()
