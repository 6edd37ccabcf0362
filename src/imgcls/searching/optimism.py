"""How much the best of many trials flatters: its value was chosen for being large."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np

from imgcls.evaluation.arrays import Floats
from imgcls.evaluation.intervals import weights
from imgcls.evaluation.metrics import METRICS, measure
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.resampling import units
from imgcls.evaluation.weighted import Cases

__all__ = ["Optimism", "over_folds", "over_records"]

#: Resamples of the records.
_RESAMPLES = 200


@attrs.frozen(kw_only=True)
class Optimism:
    """How much the value of the best trial flatters, as it is estimated.

    Attributes:
        value: The value of the best trial.
        bias: How much of it is luck, at least 0, in the unit of the metric.
        corrected: The value without it.
        method: How it was estimated.
    """

    value: float
    bias: float
    corrected: float
    method: str

    def __str__(self) -> str:
        return f"{self.value:.4f}, of which about {self.bias:.4f} is the luck of the winner ({self.method})"


def over_folds(values: Floats, *, direction: str) -> Optimism | None:
    """Estimate it from the values of all folds.

    The trial that is best over all folds is compared with the one that is best in each fold: so much does choosing by
    one fold flatter there, and choosing by all of them about as much (Tibshirani and Tibshirani 2009, Annals of
    Applied Statistics 3). That folds are smaller than all records makes the estimate large rather than small. On
    selection bias at large: Cawley and Talbot 2010, JMLR 11.

    Args:
        values: (T, K) of trials that trained all folds.
        direction: `maximize` or `minimize`.

    Returns:
        The estimate; None with one fold or one trial.
    """
    if values.ndim != 2 or values.shape[0] < 2 or values.shape[1] < 2:
        return None
    sign = 1.0 if direction == "maximize" else -1.0
    gains = sign * values
    winner = int(gains.mean(axis=1).argmax())
    bias = float(np.mean(gains.max(axis=0) - gains[winner]))
    value = float(values[winner].mean())
    method = "Tibshirani and Tibshirani 2009, over folds"
    return Optimism(value=value, bias=bias, corrected=value - sign * bias, method=method)


def over_records(paths: Sequence[Path], *, monitor: str, direction: str, seed: int) -> Optimism | None:
    """Estimate it from predictions of the same records by all trials.

    In each of 200 resamples of groups the trial is chosen that is best among the records drawn, and judged by those
    that were not (Tsamardinos, Greasidou and Borboudakis 2018, Machine Learning 107).

    Args:
        paths: The predictions of each trial.
        monitor: The metric.
        direction: `maximize` or `minimize`.
        seed: Of the resamples.

    Returns:
        The estimate; None with one trial, or for a metric that is taken at the best threshold.
    """
    if len(paths) < 2 or monitor not in METRICS:
        return None
    sign = 1.0 if direction == "maximize" else -1.0
    found = [Predictions.load(path) for path in paths]
    owners = units(found[0].groups, len(found[0]))
    inside = np.concatenate(list(weights(owners, resamples=_RESAMPLES, seed=seed)))
    outside = (inside == 0).astype(np.float64)
    cases = [_cases(predictions) for predictions in found]
    chosen = np.argmax(np.nan_to_num([sign * measure(monitor, one, weights=inside) for one in cases], nan=-np.inf), 0)
    judged = np.stack([measure(monitor, one, weights=outside) for one in cases])[chosen, np.arange(_RESAMPLES)]
    wholes = np.array([measure(monitor, one)[0] for one in cases])
    value, corrected = float(wholes[np.argmax(sign * wholes)]), float(np.nanmean(judged))
    bias = max(0.0, sign * (value - corrected))
    method = "Tsamardinos et al. 2018, over records"
    return Optimism(value=value, bias=bias, corrected=value - sign * bias, method=method)


def _cases(predictions: Predictions) -> Cases:
    positive = predictions.positive_index
    return Cases(labels=predictions.labels, probs=predictions.probs, positive=1 if positive is None else positive)
