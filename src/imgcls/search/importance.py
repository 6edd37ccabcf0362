"""Which parameters mattered, by methods that are named, since they do not agree."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence

import numpy as np

from imgcls.core.randomness import derive_seed
from imgcls.search.parameters import Choice, Fixed, Parameter
from imgcls.search.plain import canonical
from imgcls.search.space import Space
from imgcls.search.trials import Entry

__all__ = ["importances"]

#: Trials that either method needs.
_FEW = 6

#: Trees of the forest, and shuffles of each parameter.
_TREES, _SHUFFLES = 100, 20


def importances(entries: Sequence[Entry], space: Space, *, direction: str) -> dict[str, dict[str, float]]:
    """Estimate how much each parameter decided about the value.

    Args:
        entries: The trials.
        space: Where they come from.
        direction: `maximize` or `minimize`.

    Returns:
        By method, the share of each parameter that differs between trials; nothing with fewer than 6 trials.
        `permutation` shuffles a parameter for a random forest that was fitted to the trials (Breiman 2001), with
        inactive parameters as a value of their own. Where Optuna is installed, `ped-anova` asks what sets the best
        trials apart (Watanabe, Bansal and Hutter 2023).
    """
    done = [entry for entry in entries if _has_value(entry)]
    varied = [path for path, one in space.items() if not isinstance(one, Fixed) and _differs(path, done)]
    if len(done) < _FEW or not varied:
        return {}
    found = {"permutation": _permutation(done, space, varied)}
    if importlib.util.find_spec("optuna") is not None:
        from imgcls.search.optuna import ped_anova

        found["ped-anova"] = ped_anova(done, space, direction=direction)
    return {method: shares for method, shares in found.items() if shares}


def _has_value(entry: Entry) -> bool:
    outcome = entry.outcome
    return outcome is not None and outcome.state == "complete" and all(map(math.isfinite, outcome.values))


def _differs(path: str, entries: Sequence[Entry]) -> bool:
    return len({canonical(entry.trial.params.get(path)) for entry in entries}) > 1


def _permutation(entries: Sequence[Entry], space: Space, paths: Sequence[str]) -> dict[str, float]:
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    table = np.array([[_coded(space[path], entry.trial.params.get(path)) for path in paths] for entry in entries])
    values = np.array([entry.outcome.values[0] for entry in entries if entry.outcome])
    seed = derive_seed(0, "importance") % 2**32
    forest = RandomForestRegressor(_TREES, random_state=seed).fit(table, values)
    found = permutation_importance(forest, table, values, n_repeats=_SHUFFLES, random_state=seed).importances_mean
    return _shares(dict(zip(paths, np.maximum(found, 0.0).tolist(), strict=True)))


# A number a value; what is not active lies outside of the range.
def _coded(one: Parameter, value: object) -> float:
    if isinstance(one, Choice):
        texts = [canonical(known) for known in one.values]
        return float(texts.index(canonical(value))) if canonical(value) in texts else -1.0
    if not isinstance(value, int | float):
        return -1e3
    return math.log10(value) if getattr(one, "log", False) and value > 0 else float(value)


def _shares(found: dict[str, float]) -> dict[str, float]:
    total = sum(found.values())
    return {path: value / total for path, value in found.items()} if total > 0 else {}
