from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest

from imgcls.core.errors import ConfigError, PluginContractError
from imgcls.search.base import Outcome, Study, Trial
from imgcls.search.halving import Halving
from imgcls.search.space import Float, Space

SPACE = Space.of({"lr": Float(1e-4, 1.0, log=True)})


def opened(folder: Path, **options: Any) -> Study:
    plan = {"directions": "maximize", "folder": folder, "seed": 3, "trials": 9, "epochs": 9, **options}
    return Halving(min_epochs=1).open(SPACE, **plan)


def value(trial: Trial) -> float:
    return -abs(math.log10(trial.params["lr"]) + 2)


def step(study: Study) -> Trial | None:
    trial = study.ask()
    if trial is not None:
        study.tell(trial, Outcome("paused" if trial.budget else "complete", values=value(trial)))
    return trial


def finished(study: Study) -> list[tuple[int, int | None]]:
    return [(trial.number, trial.budget) for trial in iter(lambda: step(study), None)]


def test_a_third_goes_on_to_three_times_the_epochs(tmp_path: Path) -> None:
    study = opened(tmp_path)
    asked = finished(study)
    assert asked[:9] == [(number, 1) for number in range(9)]
    order = sorted(range(9), key=lambda number: -value(study.entries[number].trial))
    assert sorted(asked[9:12]) == sorted((number, 3) for number in order[:3])
    assert asked[12:] == [(order[0], None)]
    states = [entry.outcome.state for entry in study.entries if entry.outcome]
    assert [states[number] for number in order] == ["complete"] + ["pruned"] * 8
    assert study.entries[order[-1]].outcome.reason == "others were better after 1 epochs"  # type: ignore[union-attr]


def test_a_study_that_is_cut_anywhere_goes_on_as_if_it_were_not(tmp_path: Path) -> None:
    whole = finished(opened(tmp_path / "whole"))
    for cut in range(len(whole)):
        study = opened(tmp_path / str(cut))
        before = [trial for trial in (step(study) for _ in range(cut)) if trial]
        study.ask()  # killed while it runs
        after = finished(opened(tmp_path / str(cut)))
        assert [(trial.number, trial.budget) for trial in before] + after == whole


def test_a_round_waits_for_the_trials_that_still_run(tmp_path: Path) -> None:
    study = opened(tmp_path, trials=3)
    running = [study.ask() for _ in range(3)]
    assert study.ask() is None
    for trial in running:
        assert trial is not None
        assert study.ask() is None
        study.tell(trial, Outcome("paused", values=value(trial)))
    again = study.ask()
    assert again is not None
    assert (again.number in range(3), again.budget) == (True, 3)


def test_failed_trials_and_nan_never_go_on(tmp_path: Path) -> None:
    study = opened(tmp_path, trials=4)
    for outcome in (Outcome("failed"), Outcome("paused", values=math.nan), Outcome("killed")):
        trial = study.ask()
        assert trial is not None
        study.tell(trial, outcome)
    assert {number for number, _ in finished(study)} == {3}


def test_a_training_that_ends_early_keeps_its_value_and_its_place(tmp_path: Path) -> None:
    study = opened(tmp_path, trials=3)
    for number, one in enumerate((0.9, 0.5, 0.1)):
        trial = study.ask()
        assert trial is not None
        study.tell(trial, Outcome("complete" if number == 0 else "paused", values=one))
    assert study.ask() is None
    assert [entry.outcome.state for entry in study.entries if entry.outcome] == ["complete", "pruned", "pruned"]


def test_less_is_better_where_the_metric_says_so(tmp_path: Path) -> None:
    study = opened(tmp_path, trials=3, directions="minimize")
    for one in (0.9, 0.5, 0.7):
        trial = study.ask()
        assert trial is not None
        study.tell(trial, Outcome("paused", values=one))
    again = study.ask()
    assert again is not None
    assert again.number == 1


def test_the_own_configuration_has_the_first_budget_too(tmp_path: Path) -> None:
    trial = opened(tmp_path, first={"lr": 0.5}).ask()
    assert trial == Trial(number=0, params={"lr": 0.5}, budget=1)


@pytest.mark.parametrize(
    ("epochs", "min_epochs", "budgets"),
    [(27, 1, [1, 3, 9]), (10, 1, [1, 3]), (10, None, [1, 3]), (81, None, [3, 9, 27])],
)
def test_budgets_are_powers_below_a_whole_training(
    epochs: int, min_epochs: int | None, budgets: list[int], tmp_path: Path
) -> None:
    backend = Halving(min_epochs=min_epochs)
    study = backend.open(SPACE, directions="maximize", folder=tmp_path, seed=0, trials=81, epochs=epochs)
    seen = [budget for _, budget in finished(study)]
    assert [budget for budget, _ in itertools.groupby(seen)] == [*budgets, None]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": None}, "'trials' must be a whole number of at least 1 for 'halving'"),
        ({"epochs": None}, "'epochs' must be given for 'halving'"),
        ({"epochs": 1}, "'min_epochs' must be below the 1 epochs of a training, got 1"),
        ({"directions": ["maximize", "minimize"]}, "'directions' must be one for 'halving'"),
    ],
)
def test_what_cannot_be_halved_is_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        opened(tmp_path, **options)


def test_a_trial_without_budget_cannot_be_paused(tmp_path: Path) -> None:
    study = opened(tmp_path)
    finished(study)
    assert study.ask() is None
    with pytest.raises(PluginContractError, match="must propose a Trial with the number"):
        study._checked(Trial(number=0, params=study.entries[0].trial.params, budget=99), 9)
