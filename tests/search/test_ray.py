from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest

from imgcls.core.errors import ConfigError, MissingExtraError, RunError
from imgcls.core.folders import read_json, write_json
from imgcls.search.base import Outcome, Study
from imgcls.search.plain import canonical
from imgcls.search.ray import Ray
from imgcls.search.space import Choice, Float, Int, Space
from imgcls.testing import check_search_backend

pytest.importorskip("ray.tune")

SPACE = Space.of(
    {
        "optimizer": Choice("adamw", {"name": "sgd", "nesterov": True}),
        "optimizer.momentum": Float(0.5, 0.99, when={"optimizer": {"name": "sgd", "nesterov": True}}),
        "lr": Float(1e-4, 1.0, log=True),
        "width": Int(16, 64, step=16),
        "depth": Int(1, 100, log=True),
        "batch_size": 32,
    }
)
CUBE = Space.of({"a": [1, 2, 3], "b": ["x", "y", "z"]})


def opened(folder: Path, searcher: Any = "optuna", space: Space = SPACE, **options: Any) -> Study:
    plan = {"directions": "maximize", "folder": folder, "seed": 7, "trials": 16, **options}
    return Ray(searcher=searcher).open(space, **plan)


def value(params: dict[str, Any]) -> float:
    return -abs(math.log10(params["lr"]) + 2) if "lr" in params else float(params["a"])


def run(study: Study, limit: int = 1000) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < limit and (trial := study.ask()) is not None:
        found.append(trial.params)
        values = [value(trial.params), float(trial.number)][: len(study.plan.directions)]
        study.tell(trial, Outcome("complete", values=values))
    return found


@pytest.mark.parametrize("searcher", ["random", "optuna", "hyperopt"])
def test_every_searcher_keeps_the_contract(searcher: str) -> None:
    if searcher == "hyperopt":
        pytest.importorskip("hyperopt")
    check_search_backend(Ray(searcher=searcher))


@pytest.mark.parametrize("searcher", ["random", "optuna"])
def test_kills_change_no_trial(searcher: str, tmp_path: Path) -> None:
    whole = run(opened(tmp_path / "whole", searcher))
    for cut in (3, 5, 4):
        study = opened(tmp_path / "cut", searcher)
        run(study, cut)
        study.ask()  # killed while it runs
    run(opened(tmp_path / "cut", searcher))
    assert [entry.trial.params for entry in opened(tmp_path / "cut", searcher).entries] == whole
    assert len({canonical(params) for params in whole}) == 16


def test_what_ran_side_by_side_is_gone_through_again_as_it_was(tmp_path: Path) -> None:
    def begun(name: str) -> Study:
        study = opened(tmp_path / name)
        first, second, third = study.ask(), study.ask(), study.ask()
        assert first
        assert second
        assert third
        study.tell(second, Outcome("complete", values=0.5))
        fourth = study.ask()
        assert fourth
        study.tell(first, Outcome("failed", reason="no"))
        study.tell(third, Outcome("complete", values=0.1))
        study.tell(fourth, Outcome("complete", values=0.2))
        return study

    on = run(begun("on"))
    begun("again")
    assert run(opened(tmp_path / "again")) == on


def test_a_study_of_another_version_is_refused(tmp_path: Path) -> None:
    run(opened(tmp_path), 4)
    path = tmp_path / "trials" / "000002.json"
    plain = read_json(path)
    write_json(path, {**plain, "params": {**plain["params"], "lr": 0.5}})
    with pytest.raises(
        RunError, match="'folder' must hold trials that this version of Ray and optuna proposes, got trial 2"
    ):
        run(opened(tmp_path))


def test_later_trials_are_better_than_chance(tmp_path: Path) -> None:
    def later(searcher: str) -> float:
        return sum(map(value, run(opened(tmp_path / searcher, searcher, trials=40))[20:])) / 20

    assert later("optuna") > later("random") / 2  # values are below 0


def test_nine_combinations_give_nine_distinct_trials_and_then_none(tmp_path: Path) -> None:
    study = opened(tmp_path, space=CUBE, trials=None)
    assert {canonical(params) for params in run(study)} == {canonical(params) for params in CUBE.grid()}
    assert study.ask() is None


def test_the_own_configuration_teaches(tmp_path: Path) -> None:
    first = {"optimizer": {"name": "sgd", "nesterov": True}, "optimizer.momentum": 0.9, "lr": 0.01, "width": 32}
    study = opened(tmp_path, first={**first, "depth": 5, "batch_size": 32})
    run(study, 2)
    assert isinstance(study.searcher._ot_study.trials[0].value, float)  # type: ignore[attr-defined]
    assert study.searcher._ot_study.trials[0].params["lr"] == 0.01  # type: ignore[attr-defined]


def test_values_of_several_directions_are_learnt(tmp_path: Path) -> None:
    study = opened(tmp_path, directions=["maximize", "minimize"])
    assert len(run(study)) == 16


@pytest.mark.parametrize(
    ("searcher", "message"),
    [
        ("optunaa", r"'searcher' must be one of 'random', 'optuna', 'hyperopt', got 'optunaa'; did you mean 'optuna'"),
        ({"name": "optuna", "samplr": 3}, r"'searcher' must have options of Ray's OptunaSearch, got {'samplr': 3}"),
        ({"name": "optuna", "mode": "max"}, r"'searcher' must leave out what the search gives itself, got \['mode'\]"),
        ({"name": "random", "x": 1}, r"'searcher' must have no options where it is 'random'"),
        (3, r"'searcher' must be a name, or a mapping with a 'name' and options, got 3"),
    ],
)
def test_wrong_options_are_refused(searcher: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Ray(searcher=searcher)


def test_a_missing_package_is_one_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.tune", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'imgcls\[ray\]'"):
        Ray()
