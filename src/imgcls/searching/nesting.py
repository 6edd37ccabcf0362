"""Nested search: how good the winner of a search is on records that no trial saw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import numpy as np

from imgcls.core.options import rejected
from imgcls.evaluation.intervals import percentiles, weights
from imgcls.evaluation.metrics import METRICS, measure
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.resampling import units
from imgcls.evaluation.weighted import Cases
from imgcls.run import Run
from imgcls.splitting.base import Splitter
from imgcls.splitting.plan import plan_folds
from imgcls.trainer import Trainer

__all__ = ["Estimate", "Judged", "estimate", "inner_trainers", "judged"]

_RESAMPLES = 1000


@attrs.frozen(kw_only=True)
class Judged:
    """The winner of the search inside of one outer fold.

    Attributes:
        fold: The outer fold.
        trial: The winner's number.
        params: Its parameters.
        val: The metric that it won by, on validation records inside.
        predictions: Of the outer test records, by the mean of its folds.
    """

    fold: int
    trial: int
    params: dict[str, Any]
    val: float
    predictions: Predictions


@attrs.frozen(kw_only=True)
class Estimate:
    """What to expect of the winner of such a search on new records.

    Attributes:
        metric: The metric.
        value: Pooled over the outer test records.
        low: The low end of its 95 % interval, by resampling groups.
        high: The high end.
        val: What the winners promised inside, on average.
        rows: Of each outer fold: fold, trial, params, val, test.
    """

    metric: str
    value: float
    low: float
    high: float
    val: float
    rows: list[dict[str, Any]]

    def __str__(self) -> str:
        return (
            f"{self.metric} {self.value:.4f} (95 % interval {self.low:.4f} to {self.high:.4f}) on outer folds, where "
            f"the winners promised {self.val:.4f}"
        )


def inner_trainers(trainer: Trainer, outer: Splitter) -> Iterator[Trainer]:
    """Make a Trainer for each outer fold: it sees the other records, and its test set is the fold's.

    Args:
        trainer: The Trainer.
        outer: Divides the records.

    Yields:
        The Trainers.

    Raises:
        ConfigError: if the Trainer has a fixed test set, or the splitter makes no test records.
    """
    named = trainer.data.splits is not None and bool(np.any(trainer.data.splits == "test"))
    if trainer.test not in {None, "auto"} or (trainer.test == "auto" and named):
        raise rejected("outer", "be None beside a fixed test set", outer, "the test set judges the winner already")
    data = trainer.data
    folds = plan_folds(data, outer, test=None, seed=trainer.seed)
    if any(len(fold.test) == 0 for fold in folds):
        raise rejected("outer", "be a splitter whose folds have test records", outer)
    for fold in folds:
        inside = np.sort(np.concatenate([fold.train, fold.val]))
        yield attrs.evolve(trainer, data=data.subset(inside), test=data.subset(fold.test), out=None)


def judged(fold: int, trial: int, params: dict[str, Any], val: float, run: Run) -> Judged:
    """Take what a winner said of the outer test records.

    Args:
        fold: The outer fold.
        trial: The winner's number.
        params: Its parameters.
        val: The metric that it won by.
        run: Its run.

    Returns:
        Its judgement.
    """
    return Judged(fold=fold, trial=trial, params=params, val=val, predictions=run.predictions("test"))


def estimate(found: Sequence[Judged], *, monitor: str, seed: int) -> Estimate:
    """Put the outer folds together.

    Args:
        found: The winners.
        monitor: The metric of the search. `hter` and `f1` at the best threshold would flatter on test records as
            well, so ROC AUC takes their place.
        seed: Of the interval.

    Returns:
        The estimate.
    """
    metric = monitor if monitor in METRICS else "roc_auc"
    rows = [
        {
            "fold": one.fold,
            "trial": one.trial,
            "params": one.params,
            "val": one.val,
            "test": float(measure(metric, _cases(one.predictions))[0]),
        }
        for one in found
    ]
    pooled = Predictions.concat([one.predictions for one in found])
    cases, owners = _cases(pooled), units(pooled.groups, len(pooled))
    blocks = weights(owners, resamples=_RESAMPLES, seed=seed)
    drawn = np.concatenate([measure(metric, cases, weights=block) for block in blocks])
    low, high = percentiles(drawn[:, None])
    return Estimate(
        metric=metric,
        value=float(measure(metric, cases)[0]),
        low=float(low[0]),
        high=float(high[0]),
        val=float(np.mean([one.val for one in found])),
        rows=rows,
    )


def _cases(predictions: Predictions) -> Cases:
    positive = predictions.positive_index
    return Cases(labels=predictions.labels, probs=predictions.probs, positive=1 if positive is None else positive)
