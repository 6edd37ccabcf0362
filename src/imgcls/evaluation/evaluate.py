"""All metrics of predictions, each with its interval, as one tidy table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from imgcls.core import options
from imgcls.evaluation.arrays import Floats, Ints
from imgcls.evaluation.decisions import decisions
from imgcls.evaluation.intervals import interval
from imgcls.evaluation.metrics import CLASS_METRICS, DECIDED_LABEL_METRICS, LABEL_METRICS, METRICS, counted
from imgcls.evaluation.predictions import MEAN, Predictions
from imgcls.evaluation.thresholds import Threshold, model_of
from imgcls.evaluation.weighted import Cases, Weighted, restoring

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "evaluate"]

COLUMNS = ("split", "fold", "level", "group", "class", "threshold", "metric", "value", "low", "high", "n")


#: What is told of each of several labels.
_OF_LABELS: Mapping[str, Callable[[Weighted], Floats]] = {**LABEL_METRICS, **DECIDED_LABEL_METRICS}


@attrs.frozen(kw_only=True)
class _Line:
    """One row of the table: which metric of what; `of` is a class, or None for all."""

    threshold: str
    metric: str
    of: int | None = None


def evaluate(
    predictions: Predictions,
    thresholds: Sequence[Threshold] = (),
    *,
    prior: Sequence[float] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compute every metric with its 95 % interval, resampled by group.

    The rows of one model alone have its fold as `fold` ("0", "1", ...), those of the mean over
    folds "mean", and pooled ones "all". There are pooled rows where no record was predicted
    by two folds, and rows of single folds where there are several.

    Of several repeats, the folds of each are pooled on their own, since each has predictions of
    its own for the same record. These rows have "repeat 0", "repeat 1", ... as `fold`, and the "all" row is
    the mean of their values: what one division gives, on average over divisions. Its interval
    draws groups (records without groups) with all their predictions in all repeats at once, and takes the mean
    over the repeats of each resample; so more repeats make it steadier, but never narrower than one
    set of records allows. It does not tell how the divisions differ: the rows of the repeats do.

    Where all resamples agree, as they do when every record is right, shares of records
    (accuracy, sensitivity, specificity, ppv, npv) have the interval of Wilson (1927), with the
    number of groups, or of records without groups, that the denominator comes from; the
    interval of any other metric is NaN there. See `interval`.

    Args:
        predictions: N records of one split, from one model or more.
        thresholds: Fitted ones of every model that made a prediction (`fit_thresholds`). Each
            record is held against the threshold of its own model. With more than two classes, of which a record has
            one, there are none.
        prior: (K,) how frequent each class is in the population, where that is not as in the
            records: each record then counts by the share of its class there over that here.
        resamples: How often groups are drawn for the intervals; 0 leaves them NaN.
        seed: Of the draws.

    Returns:
        One row per value: split, fold, level ("image"), group ("", for all), class ("" for all), threshold (the
        rule, "" where the most probable class counts, each of several labels from 0.5, or none is decided), metric,
        value, low, high and n, the number of different records (of the class, in rows of one).

    Raises:
        ConfigError: if `resamples` is negative or a model has no threshold of some rule.
    """
    import pandas as pd

    if resamples < 0:
        raise options.rejected("resamples", "be a whole number of at least 0", resamples)
    rows: list[dict[str, Any]] = []
    for fold, part in _parts(predictions):
        each = [_Repeat.of(part, repeat, thresholds, prior) for repeat in np.unique(part.repeat)]
        rows += [{"fold": fold, **row} for row in _rows(part, each, resamples, seed)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _parts(predictions: Predictions) -> Iterator[tuple[str, Predictions]]:
    single = predictions.fold != MEAN
    repeats, folds = np.unique(predictions.repeat[single]), np.unique(predictions.fold[single])
    of_repeats = [predictions.take(single & (predictions.repeat == repeat)) for repeat in repeats]
    if of_repeats and all(map(_distinct, of_repeats)):
        yield "all", predictions.take(single)
        if len(repeats) > 1:
            yield from ((f"repeat {repeat}", part) for repeat, part in zip(repeats, of_repeats, strict=True))
    if not single.all():
        yield "mean", predictions.take(~single)
    if len(folds) > 1:
        for fold in folds:
            yield model_of(fold), predictions.take(predictions.fold == fold)


def _distinct(part: Predictions) -> bool:
    by_fold = sum(len(np.unique(part.ids[part.fold == fold])) for fold in np.unique(part.fold))
    return by_fold == len(np.unique(part.ids))


@attrs.frozen(kw_only=True, eq=False)
class _Repeat:
    """The R of the N predictions that belong to one repeat.

    Attributes:
        rows: (R,) which they are.
        cases: Of each threshold rule, the predictions as it decides them.
        scale: (R,) what each counts.
    """

    rows: Ints
    cases: Mapping[str, Cases]
    scale: Floats

    @classmethod
    def of(
        cls, part: Predictions, repeat: int, thresholds: Sequence[Threshold], prior: Sequence[float] | None
    ) -> _Repeat:
        rows = np.flatnonzero(part.repeat == repeat)
        own = part.take(rows)
        rules = ["", *dict.fromkeys(threshold.rule for threshold in thresholds)]
        cases = {rule: _cases(own, thresholds, rule) for rule in rules}
        return cls(rows=rows, cases=cases, scale=restoring(own.labels, prior))

    def measured(self, lines: Sequence[_Line], weights: Floats) -> Floats:
        own = weights[:, self.rows] * self.scale
        found = {rule: Weighted(cases=case, weights=own) for rule, case in self.cases.items()}
        return np.column_stack([_measured(line, found) for line in lines])


def _rows(part: Predictions, each: Sequence[_Repeat], resamples: int, seed: int) -> Iterator[dict[str, Any]]:
    lines = _lines(part, list(each[0].cases))

    def statistic(weights: Floats) -> Floats:
        return np.mean([repeat.measured(lines, weights) for repeat in each], axis=0)

    values = statistic(np.ones((1, len(part))))[0]
    shares = np.zeros((len(part), len(lines)), dtype=np.bool_)
    for repeat in each:
        columns = [counted(line.metric, repeat.cases[line.threshold], of=line.of) for line in lines]
        shares[repeat.rows] = np.column_stack(columns)
    owners = part.ids if part.groups is None and len(each) > 1 else part.groups
    low, high = interval(
        statistic, num_records=len(part), groups=owners, counted=shares, resamples=resamples, seed=seed
    )
    records = part if len(each) == 1 else part.take(np.unique(part.ids, return_index=True)[1])
    for at, line in enumerate(lines):
        yield {**_described(line, records), "value": values[at], "low": low[at], "high": high[at]}


def _described(line: _Line, part: Predictions) -> dict[str, Any]:
    return {
        "split": part.split,
        "level": "image",
        "group": "",
        "class": "" if line.of is None else part.classes[line.of],
        "threshold": line.threshold,
        "metric": line.metric,
        "n": len(part) if line.of is None else int(part.has(line.of).sum()),
    }


def _measured(line: _Line, found: Mapping[str, Weighted]) -> Floats:
    weighted = found[line.threshold]
    if line.of is None:
        return METRICS[line.metric].function(weighted)
    metrics = _OF_LABELS if weighted.cases.multilabel else CLASS_METRICS
    return metrics[line.metric](weighted)[:, line.of]


def _cases(part: Predictions, thresholds: Sequence[Threshold], rule: str) -> Cases:
    preds = decisions(part, thresholds, rule)
    positive = 1 if part.positive_index is None else part.positive_index
    return Cases(labels=part.labels, probs=part.probs, preds=preds, positive=positive)


def _lines(part: Predictions, rules: Sequence[str]) -> list[_Line]:
    fitting = {n: metric for n, metric in METRICS.items() if metric.fits(part.num_classes, multilabel=part.multilabel)}
    plain = [_Line(threshold="", metric=name) for name, metric in fitting.items() if not metric.needs_threshold]
    ruled = [
        _Line(threshold=rule, metric=name)
        for rule in rules[1:]
        for name, metric in fitting.items()
        if metric.takes_threshold
    ]
    return plain + ruled + _class_lines(part, rules)


def _class_lines(part: Predictions, rules: Sequence[str]) -> list[_Line]:
    if part.multilabel:
        names = [("", name) for name in LABEL_METRICS]
        names += [(rule, name) for rule in rules for name in DECIDED_LABEL_METRICS]
    else:  # the area of two classes is the overall one
        names = [("", name) for name in CLASS_METRICS if name != "roc_auc" or part.num_classes > 2]
    return [_Line(threshold=rule, metric=name, of=at) for rule, name in names for at in range(part.num_classes)]
