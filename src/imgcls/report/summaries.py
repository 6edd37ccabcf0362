"""Counts behind figures: confusion with rates, scores by class, numbers of parts, the epochs of each fold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from imgcls.evaluation.arrays import Floats, Ints, ratio
from imgcls.evaluation.decisions import confusion, decisions
from imgcls.evaluation.intervals import interval
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.thresholds import Threshold
from imgcls.report.curves import drawn_together

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ConfusionRates",
    "FoldLearning",
    "Forest",
    "Learning",
    "ScoreHistogram",
    "confusion_rates",
    "forest",
    "learning",
    "score_histogram",
]

#: Of more classes rates have no intervals, since there would be too many to read.
_CLASSES = 12


@attrs.frozen(kw_only=True, eq=False)
class ConfusionRates:
    """True against decided classes; with two classes the positive one is last.

    Attributes:
        classes: The K classes in the order of the table.
        counts: (K, K) a row per true and a column per decided class.
        rates: (K, K) shares of each row; NaN for a class without records.
        low: (K, K) the lower ends of 95 % intervals, by group; NaN for none.
        high: (K, K) the upper ends.
    """

    classes: tuple[str, ...]
    counts: Ints
    rates: Floats
    low: Floats
    high: Floats


def confusion_rates(
    predictions: Predictions,
    thresholds: Sequence[Threshold] = (),
    rule: str | float = "",
    *,
    resamples: int = 500,
    seed: int = 0,
) -> ConfusionRates:
    """Count true against decided classes, with rates by true class.

    Args:
        predictions: N records of one label each.
        thresholds: As in `decisions`.
        rule: As in `decisions`.
        resamples: How often groups are drawn for the intervals; 0 leaves them NaN.
        seed: Of the draws.

    Returns:
        The table.
    """
    counts = confusion(predictions, thresholds, rule)
    size, flipped = len(counts), predictions.positive_index == 0
    low = high = np.full(size * size, np.nan)
    if size <= _CLASSES:
        low, high = _rate_intervals(predictions, decisions(predictions, thresholds, rule), resamples, seed)
    order = slice(None, None, -1) if flipped else slice(None)
    ends = (side.reshape(size, size)[order, order] for side in (low, high))
    names = predictions.classes[::-1] if flipped else predictions.classes
    sizes = np.broadcast_to(counts.sum(axis=1, keepdims=True), counts.shape)
    rates = ratio(counts.astype(np.float64), sizes.astype(np.float64))
    return ConfusionRates(classes=names, counts=counts, rates=rates, low=next(ends), high=next(ends))


def _rate_intervals(predictions: Predictions, decided: Ints, resamples: int, seed: int) -> tuple[Floats, Floats]:
    size = predictions.num_classes
    actual = predictions.labels[:, None] == np.repeat(np.arange(size), size)
    both = actual & (decided[:, None] == np.tile(np.arange(size), size))
    return interval(
        lambda weights: ratio(weights @ both.astype(np.float64), weights @ actual.astype(np.float64)),
        num_records=len(predictions),
        groups=drawn_together(predictions),
        counted=actual,
        resamples=resamples,
        seed=seed,
    )


@attrs.frozen(kw_only=True, eq=False)
class ScoreHistogram:
    """How scores are spread over records of each class.

    Attributes:
        what: What the scores are.
        edges: (M + 1,) the ends of the bins.
        counts: By true class (M,) records in each bin.
    """

    what: str
    edges: Floats
    counts: Mapping[str, Ints]


def score_histogram(predictions: Predictions, *, bins: int = 25) -> ScoreHistogram:
    """Count scores by class.

    Args:
        predictions: N records.
        bins: How many bins there are from 0 to 1.

    Returns:
        Of two classes the probability of the positive one, by true class; else the probability that each class has for
        the records that are of it.
    """
    edges = np.linspace(0, 1, bins + 1)
    two = predictions.positive is not None
    counts = {
        name: np.histogram((predictions.scores if two else predictions.probs[:, k])[predictions.has(k)], edges)[0]
        for k, name in enumerate(predictions.classes)
    }
    what = f"probability of {predictions.positive}" if two else "probability of the true class"
    return ScoreHistogram(what=what, edges=edges, counts=counts)


@attrs.frozen(kw_only=True, eq=False)
class Forest:
    """One metric of several parts, with intervals.

    Attributes:
        metric: The metric.
        names: What each of the M values is of, such as "all", "fold 0" or "site=A".
        values: (M,); NaN where the metric is not defined.
        low: (M,) the lower ends of 95 % intervals; NaN for none.
        high: (M,) the upper ends.
        counts: (M,) records.
    """

    metric: str
    names: tuple[str, ...]
    values: Floats
    low: Floats
    high: Floats
    counts: Ints


def forest(table: pd.DataFrame, metric: str, *, threshold: str = "") -> Forest:
    """Gather a metric of all parts.

    Args:
        table: Rows of one split, as `evaluate` and `by_value` return them.
        metric: The metric.
        threshold: The rule that it depends on.

    Returns:
        The values, in the order of the rows.
    """
    chosen = (table["metric"] == metric) & (table["threshold"] == threshold) & (table["class"] == "")
    rows = table[chosen].to_dict("records")
    numbers = {key: np.array([row[key] for row in rows], dtype=np.float64) for key in ("value", "low", "high")}
    return Forest(
        metric=metric,
        names=tuple(_part(row) for row in rows),
        values=numbers["value"],
        low=numbers["low"],
        high=numbers["high"],
        counts=np.array([row["n"] for row in rows], dtype=np.int64),
    )


def _part(row: Mapping[Any, Any]) -> str:
    if row["group"]:
        return str(row["group"])
    fold = str(row["fold"])
    if fold in {"all", "mean"}:
        return "all" if row["level"] == "image" else "all, by group"
    return f"fold {fold}" if fold.isdecimal() else fold


@attrs.frozen(kw_only=True, eq=False)
class FoldLearning:
    """The epochs of one fold.

    Attributes:
        fold: Its number.
        epochs: (E,) from 1.
        train_loss: (E,).
        val_loss: (E,) NaN where an epoch was not validated.
        monitored: (E,) the monitored metric on validation records.
        kept: The epoch whose checkpoint was kept, or None.
    """

    fold: int
    epochs: Ints
    train_loss: Floats
    val_loss: Floats
    monitored: Floats
    kept: int | None


@attrs.frozen(kw_only=True, eq=False)
class Learning:
    """How folds learnt.

    Attributes:
        monitor: The monitored metric.
        folds: The folds that trained.
    """

    monitor: str
    folds: tuple[FoldLearning, ...]


def learning(histories: Mapping[int, pd.DataFrame], monitor: str) -> Learning:
    """Gather the epochs of all folds.

    Args:
        histories: The epochs of each fold, as `history.csv` has them.
        monitor: The monitored metric.

    Returns:
        The epochs.
    """
    return Learning(monitor=monitor, folds=tuple(_learned(histories, monitor)))


def _learned(histories: Mapping[int, pd.DataFrame], monitor: str) -> Iterator[FoldLearning]:
    for fold, rows in histories.items():
        kept = rows.loc[rows["best"] == 1, "epoch"]
        columns = ("train_loss", "val_loss", f"val_{monitor}")
        nothing = np.full(len(rows), np.nan)
        loss, val_loss, monitored = (
            rows[name].to_numpy(dtype=np.float64) if name in rows else nothing for name in columns
        )
        yield FoldLearning(
            fold=fold,
            epochs=rows["epoch"].to_numpy(dtype=np.int64) + 1,
            train_loss=loss,
            val_loss=val_loss,
            monitored=monitored,
            kept=int(kept.iloc[-1]) + 1 if len(kept) else None,
        )
