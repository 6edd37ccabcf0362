"""Curves of predictions as numbers: ROC, precision and recall, and what each threshold does; with bands by group."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np

from imgcls.core import options
from imgcls.evaluation.arrays import Bools, Floats, Ints, Texts, ratio
from imgcls.evaluation.by_record import record_intervals
from imgcls.evaluation.intervals import Statistic, interval
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.ranking import Ranking

__all__ = ["Curve", "Sweep", "drawn_together", "precision_recall", "roc", "shown_classes", "sweep"]

#: Where bands are computed.
_GRID = np.linspace(0, 1, 101)

#: So many thresholds of a sweep at most.
_CUTS = 101


@attrs.frozen(kw_only=True, eq=False)
class Curve:
    """A curve of one class against the rest.

    Attributes:
        class_name: The class.
        x: (U + 1,) what the curve is drawn over, one point for each distinct score and one for none.
        y: (U + 1,) its height.
        thresholds: (U + 1,) the score from which a record counts as of the class, infinite for none.
        grid: (M,) where the band is known.
        low: (M,) the lower end of its 95 % band, point by point, resampled by group; NaN for none.
        high: (M,) the upper end.
    """

    class_name: str
    x: Floats
    y: Floats
    thresholds: Floats
    grid: Floats
    low: Floats
    high: Floats


def shown_classes(predictions: Predictions) -> list[int]:
    """Find the classes that have a curve: the positive one of two, else each that some records have and some lack.

    Args:
        predictions: N records.

    Returns:
        Their indices.
    """
    positive = predictions.positive_index
    wanted = range(predictions.num_classes) if positive is None else [positive]
    return [index for index in wanted if 0 < predictions.has(index).sum() < len(predictions)]


def drawn_together(predictions: Predictions) -> Texts | None:
    """Say which records a resample draws together.

    Args:
        predictions: N records.

    Returns:
        (N,) the groups; without groups the ids where records repeat, else None.
    """
    repeated = predictions.groups is None and len(np.unique(predictions.ids)) < len(predictions)
    return predictions.ids if repeated else predictions.groups


def roc(predictions: Predictions, class_name: str | None = None, *, resamples: int = 500, seed: int = 0) -> Curve:
    """Compute a ROC curve: sensitivity over 1 - specificity.

    Args:
        predictions: N records.
        class_name: The class; None takes the positive one of two.
        resamples: How often groups are drawn for the band; 0 leaves it NaN.
        seed: Of the draws.

    Returns:
        The curve.

    Raises:
        ConfigError: if there is no such class, or no record is of it, or all are.
    """
    index = _index(predictions, class_name)
    ranking = Ranking.of(predictions.probs[:, index], predictions.has(index))
    hits, alarms = (part[0] for part in _passed(ranking, np.ones((1, len(predictions)))))

    def heights(weights: Floats) -> Floats:
        true, false = _passed(ranking, weights)
        pairs = zip(false, true, strict=True)
        return np.stack([np.interp(_GRID, _shares(one), _shares(two)) for one, two in pairs])

    low, high = _band(heights, predictions, resamples, seed)
    return Curve(
        class_name=predictions.classes[index],
        x=_shares(alarms),
        y=_shares(hits),
        thresholds=_from_none(ranking, predictions.probs[:, index]),
        grid=_GRID,
        low=low,
        high=high,
    )


def precision_recall(
    predictions: Predictions, class_name: str | None = None, *, resamples: int = 500, seed: int = 0
) -> Curve:
    """Compute a precision-recall curve, not interpolated.

    Args:
        predictions: N records.
        class_name: The class; None takes the positive one of two.
        resamples: How often groups are drawn for the band; 0 leaves it NaN.
        seed: Of the draws.

    Returns:
        The curve: recall and precision; it begins at recall 0 with the precision of the highest score.

    Raises:
        ConfigError: if there is no such class, or no record is of it, or all are.
    """
    index = _index(predictions, class_name)
    ranking = Ranking.of(predictions.probs[:, index], predictions.has(index))
    hits, alarms = (part[0] for part in _passed(ranking, np.ones((1, len(predictions)))))
    grid = _GRID[1:]

    def heights(weights: Floats) -> Floats:
        true, false = _passed(ranking, weights)
        precision = ratio(true, true + false)
        reached = ratio(true, true[:, -1:])
        firsts = [np.searchsorted(row, grid - 1e-12) for row in reached]
        known = np.isfinite(reached[:, -1])
        rows = [row[np.minimum(at, len(row) - 1)] for row, at in zip(precision, firsts, strict=True)]
        return np.where(known[:, None], np.stack(rows), np.nan)

    precision = hits / (hits + alarms)
    low, high = _band(heights, predictions, resamples, seed)
    return Curve(
        class_name=predictions.classes[index],
        x=_shares(hits),
        y=np.append(precision[0], precision),
        thresholds=_from_none(ranking, predictions.probs[:, index]),
        grid=grid,
        low=low,
        high=high,
    )


def _index(predictions: Predictions, class_name: str | None) -> int:
    name = predictions.positive if class_name is None else class_name
    if name not in predictions.classes:
        raise options.rejected("class_name", f"be one of {predictions.classes}", name)
    index = predictions.classes.index(name)
    if not 0 < predictions.has(index).sum() < len(predictions):
        raise options.rejected("class_name", "be a class that some records have and some lack", name)
    return index


def _from_none(ranking: Ranking, scores: Floats) -> Floats:
    return np.append(np.inf, scores[ranking.order[ranking.ends]])


# (B, U) of each distinct score from the highest: records of the class that reach it, and others.
def _passed(ranking: Ranking, weights: Floats) -> tuple[Floats, Floats]:
    ranked = np.take(weights, ranking.order, axis=1)
    called = np.cumsum(ranked, axis=1)[:, ranking.ends]
    true = np.cumsum(ranked * ranking.hits, axis=1)[:, ranking.ends]
    return true, called - true


# From none to all; NaN where a resample has nothing to share.
def _shares(counts: Floats) -> Floats:
    found = np.append(0.0, counts)
    return found / found[-1] if found[-1] > 0 else np.full(len(found), np.nan)


def _band(heights: Statistic, predictions: Predictions, resamples: int, seed: int) -> tuple[Floats, Floats]:
    return record_intervals(
        heights,
        num_records=len(predictions),
        groups=drawn_together(predictions),
        resamples=resamples,
        seed=seed,
    )


@attrs.frozen(kw_only=True, eq=False)
class Sweep:
    """What thresholds of one class do, from the least to the greatest.

    Attributes:
        class_name: The class.
        thresholds: (M,) a record counts as of the class where its score is at least this.
        hits: (M,) records of the class that do.
        alarms: (M,) others that do.
        positives: Records of the class.
        negatives: Others.
        values: By name (sensitivity, specificity, ppv, f1) (M,) what they come to.
        low: By name (M,) the lower ends of 95 % intervals, resampled by group; NaN for none.
        high: By name (M,) the upper ends.
    """

    class_name: str
    thresholds: Floats
    hits: Ints
    alarms: Ints
    positives: int
    negatives: int
    values: dict[str, Floats]
    low: dict[str, Floats]
    high: dict[str, Floats]


def sweep(
    predictions: Predictions,
    class_name: str | None = None,
    *,
    thresholds: Floats | None = None,
    resamples: int = 500,
    seed: int = 0,
) -> Sweep:
    """Compute what thresholds do.

    Args:
        predictions: N records.
        class_name: The class; None takes the positive one of two.
        thresholds: Which, rising; None takes 101 of the scores that occur, evenly over records.
        resamples: How often groups are drawn for the intervals; 0 leaves them NaN.
        seed: Of the draws.

    Returns:
        The numbers.

    Raises:
        ConfigError: if there is no such class, or no record is of it, or all are.
    """
    index = _index(predictions, class_name)
    scores, positive = predictions.probs[:, index], predictions.has(index)
    cuts = np.unique(np.quantile(scores, np.linspace(0, 1, _CUTS))) if thresholds is None else thresholds
    counts = _counting(scores, positive, cuts)
    hits, alarms, *whole = counts(np.ones((1, len(scores))))
    values = _measures(hits, alarms, *whole)
    low, high = interval(
        lambda weights: np.concatenate(list(_measures(*counts(weights)).values()), axis=1),
        num_records=len(scores),
        groups=drawn_together(predictions),
        counted=_counted(scores, positive, cuts),
        resamples=resamples,
        seed=seed,
    )
    ends = [dict(zip(values, np.split(side, len(values)), strict=True)) for side in (low, high)]
    return Sweep(
        class_name=predictions.classes[index],
        thresholds=cuts,
        hits=hits[0].astype(np.int64),
        alarms=alarms[0].astype(np.int64),
        positives=int(positive.sum()),
        negatives=int((~positive).sum()),
        values={name: rows[0] for name, rows in values.items()},
        low=ends[0],
        high=ends[1],
    )


#: From weights of N records to hits and alarms at M thresholds (R, M), and the records of the class and others (R, 1).
Counting = Callable[[Floats], tuple[Floats, Floats, Floats, Floats]]


def _counting(scores: Floats, positive: Bools, cuts: Floats) -> Counting:
    order = np.argsort(-scores, kind="stable")
    reached = np.searchsorted(-scores[order], -cuts, side="right")

    def counts(weights: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        ranked = np.take(weights, order, axis=1)
        called, true = (np.cumsum(part, axis=1) for part in (ranked, ranked * positive[order]))
        whole = true[:, -1:], called[:, -1:] - true[:, -1:]
        called, true = (np.insert(part, 0, 0, axis=1)[:, reached] for part in (called, true))
        return true, called - true, *whole

    return counts


# Which records each measure is a share of, in their order; F1 is none.
def _counted(scores: Floats, positive: Bools, cuts: Floats) -> Bools:
    called = scores[:, None] >= cuts
    of_class, others = (np.broadcast_to(part[:, None], called.shape) for part in (positive, ~positive))
    return np.concatenate([of_class, others, called, np.zeros_like(called)], axis=1)


def _measures(hits: Floats, alarms: Floats, positives: Floats, negatives: Floats) -> dict[str, Floats]:
    return {
        "sensitivity": ratio(hits, np.broadcast_to(positives, hits.shape)),
        "specificity": ratio(negatives - alarms, np.broadcast_to(negatives, hits.shape)),
        "ppv": ratio(hits, hits + alarms),
        "f1": ratio(2 * hits, hits + alarms + positives),
    }
