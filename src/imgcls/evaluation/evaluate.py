"""All metrics of predictions, each with its interval, as one tidy table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from imgcls.core import options
from imgcls.evaluation.arrays import Floats
from imgcls.evaluation.decisions import decisions
from imgcls.evaluation.intervals import interval
from imgcls.evaluation.metrics import CLASS_METRICS, METRICS, counted
from imgcls.evaluation.predictions import MEAN, Predictions
from imgcls.evaluation.thresholds import Threshold, model_of
from imgcls.evaluation.weighted import Cases, Weighted

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "evaluate"]

COLUMNS = ("split", "fold", "level", "group", "class", "threshold", "metric", "value", "low", "high", "n")


@attrs.frozen(kw_only=True)
class _Line:
    """One row of the table: which metric of what; `of` is a class, or None for all."""

    threshold: str
    metric: str
    of: int | None = None


def evaluate(
    predictions: Predictions, thresholds: Sequence[Threshold] = (), *, resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Compute every metric with its 95 % interval, resampled by group.

    The rows of one model alone have its fold as `fold` ("0", "1", ...), those of the mean over
    folds "mean", and pooled ones "all". There are pooled rows where no record was predicted
    by two folds, and rows of single folds where there are several.

    Where all resamples agree, as they do when every record is right, shares of records
    (accuracy, sensitivity, specificity, ppv, npv) have the interval of Wilson (1927), with the
    number of groups, or of records without groups, that the denominator comes from; the
    interval of any other metric is NaN there. See `interval`.

    Args:
        predictions: N records of one split, from one model or more.
        thresholds: Fitted ones of every model that made a prediction (`fit_thresholds`). Each
            record is held against the threshold of its own model. With more than two classes
            there are none.
        resamples: How often groups are drawn for the intervals; 0 leaves them NaN.
        seed: Of the draws.

    Returns:
        One row per value: split, fold, level ("image"), group ("", for all), class ("" for all), threshold (the
        rule, "" where the most probable class counts or none is decided), metric, value, low, high and
        n, the number of records (of the class, in rows of one).

    Raises:
        ConfigError: if `resamples` is negative or a model has no threshold of some rule.
    """
    import pandas as pd

    if resamples < 0:
        raise options.rejected("resamples", "be a whole number of at least 0", resamples)
    rows: list[dict[str, Any]] = []
    for fold, part in _parts(predictions):
        rows += [{"fold": fold, **row} for row in _rows(part, thresholds, resamples, seed)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _parts(predictions: Predictions) -> Iterator[tuple[str, Predictions]]:
    single = predictions.fold != MEAN
    folds = np.unique(predictions.fold[single])
    members = [predictions.fold == fold for fold in folds]
    distinct = sum(len(np.unique(predictions.ids[member])) for member in members)
    if len(folds) and distinct == len(np.unique(predictions.ids[single])):
        yield "all", predictions.take(single)
    if not single.all():
        yield "mean", predictions.take(~single)
    if len(folds) > 1:
        for fold, member in zip(folds, members, strict=True):
            yield model_of(fold), predictions.take(member)


def _rows(part: Predictions, thresholds: Sequence[Threshold], resamples: int, seed: int) -> Iterator[dict[str, Any]]:
    rules = ["", *dict.fromkeys(threshold.rule for threshold in thresholds)]
    cases = {rule: _cases(part, thresholds, rule) for rule in rules}
    lines = _lines(part.num_classes, rules)

    def statistic(weights: Floats) -> Floats:
        found = {rule: Weighted(cases=case, weights=weights) for rule, case in cases.items()}
        return np.column_stack([_measured(line, found) for line in lines])

    values = statistic(np.ones((1, len(part))))[0]
    shares = np.column_stack([counted(line.metric, cases[line.threshold], of=line.of) for line in lines])
    low, high = interval(
        statistic, num_records=len(part), groups=part.groups, counted=shares, resamples=resamples, seed=seed
    )
    for at, line in enumerate(lines):
        yield {**_described(line, part), "value": values[at], "low": low[at], "high": high[at]}


def _described(line: _Line, part: Predictions) -> dict[str, Any]:
    return {
        "split": part.split,
        "level": "image",
        "group": "",
        "class": "" if line.of is None else part.classes[line.of],
        "threshold": line.threshold,
        "metric": line.metric,
        "n": len(part) if line.of is None else int((part.labels == line.of).sum()),
    }


def _measured(line: _Line, found: Mapping[str, Weighted]) -> Floats:
    weighted = found[line.threshold]
    if line.of is None:
        return METRICS[line.metric].function(weighted)
    return CLASS_METRICS[line.metric](weighted)[:, line.of]


def _cases(part: Predictions, thresholds: Sequence[Threshold], rule: str) -> Cases:
    preds = decisions(part, thresholds, rule)
    positive = 1 if part.positive_index is None else part.positive_index
    return Cases(labels=part.labels, probs=part.probs, preds=preds, positive=positive)


def _lines(num_classes: int, rules: Sequence[str]) -> list[_Line]:
    plain = [_Line(threshold="", metric=name) for name, metric in METRICS.items() if not metric.needs_threshold]
    ruled = [
        _Line(threshold=rule, metric=name)
        for rule in rules[1:]
        for name, metric in METRICS.items()
        if metric.takes_threshold
    ]
    names = [name for name in CLASS_METRICS if name != "roc_auc" or num_classes > 2]  # of two it is the overall one
    single = [_Line(threshold="", metric=name, of=at) for name in names for at in range(num_classes)]
    return plain + ruled + single
