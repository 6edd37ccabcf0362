"""The conformance kit of search backends."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

from imgcls.execution.base import Tell
from imgcls.search.base import Outcome, SearchBackend, Study, Trial, search_backends
from imgcls.search.space import Choice, Float, Int, Space
from imgcls.searching.trial import Reached
from imgcls.testing.values import chance_untouched, check_value, require

__all__ = ["check_search_backend", "free_trial"]

_SPACE = Space.of(
    {
        "optimizer": Choice("adamw", "sgd"),
        "optimizer.momentum": Float(0.5, 0.99, when={"optimizer": "sgd"}),
        "lr": Float(1e-5, 1e-2, log=True),
        "depth": Int(1, 4),
    }
)
_FIRST = {"optimizer": "adamw", "lr": 1e-3, "depth": 2}
_TRIALS = 6


def check_search_backend(backend: SearchBackend) -> None:
    """Check that a search backend keeps its contract.

    Args:
        backend: The backend.

    Raises:
        AssertionError: with what is broken.
    """
    check_value(backend, search_backends)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with chance_untouched(backend):
            whole = _finished(_open(backend, folder / "whole"))
        _check_trials(backend, whole)
        _check_repeats(backend, whole, folder)
        _check_resumes(backend, whole, folder)
        _check_first(backend, folder)


def free_trial(shared: Any, tell: Tell, *, params: dict[str, Any], budget: int | None, folder: Path) -> Reached:
    """Be a trial that costs nothing, to measure or test what a search does itself; as `searching.trial.run_trial`.

    Args:
        shared: What all trials share.
        tell: Speaks to who runs the trials.
        params: The trial's parameters; the value is their number `x`, or 0.
        budget: The epochs that it may use; None for all.
        folder: Its folder.

    Returns:
        How far it came.
    """
    del shared, tell, folder
    value = float(params.get("x", 0.0))
    stopped = "paused" if budget else ""
    return Reached(values=[value], metrics=[{}], extras={}, stopped=stopped, epochs=1, seconds=0.0)


def _open(backend: SearchBackend, folder: Path, *, first: bool = False) -> Study:
    own = _FIRST if first else None
    return backend.open(_SPACE, directions="maximize", folder=folder, seed=5, trials=_TRIALS, first=own, epochs=9)


# Runs what is left of a study, at most `limit` trials, or budgets of trials; failures and NaN are outcomes like others.
def _finished(study: Study, *, limit: int = 4 * _TRIALS) -> list[Trial]:
    trials: list[Trial] = []
    while len(trials) < limit and (trial := study.ask()) is not None:
        trials.append(trial)
        stop = study.report(trial, step=0, value=0.5)
        require(isinstance(stop, bool), study, "say by True or False whether a trial should stop")
        study.tell(trial, _outcome(trial))
    return trials


def _outcome(trial: Trial) -> Outcome:
    if trial.number == 1:
        return Outcome("out_of_memory", reason="of the GPU")
    return Outcome(
        "paused" if trial.budget else "complete",
        values=math.nan if trial.number == 2 else math.log10(trial.params["lr"]),
    )


def _check_trials(backend: SearchBackend, trials: list[Trial]) -> None:
    numbers = list(dict.fromkeys(trial.number for trial in trials))
    require(numbers == list(range(_TRIALS)), backend, f"ask trials 0 to {_TRIALS - 1} and no more, got {numbers}")
    for trial in trials:
        _SPACE.check(trial.params)


def _check_repeats(backend: SearchBackend, whole: list[Trial], folder: Path) -> None:
    again = _finished(_open(backend, folder / "again"))
    require(again == whole, backend, "propose the same trials for the same seed and outcomes")


def _check_resumes(backend: SearchBackend, whole: list[Trial], folder: Path) -> None:
    done = _finished(_open(backend, folder / "cut"), limit=3)
    asked = _open(backend, folder / "cut").ask()
    require(asked == whole[3], backend, "go on after an interruption where it was")
    rest = _finished(_open(backend, folder / "cut"))
    require(done + rest == whole, backend, "ask an unfinished trial again, and then go on as if nothing had happened")


def _check_first(backend: SearchBackend, folder: Path) -> None:
    trials = _finished(_open(backend, folder / "first", first=True))
    require(trials[0].params == _FIRST, backend, "make the user's own configuration trial 0")
