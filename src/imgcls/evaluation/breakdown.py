"""Metrics for each value of a column, and the value that fares worst."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from imgcls.core import options
from imgcls.core.errors import nearest
from imgcls.evaluation.arrays import Texts
from imgcls.evaluation.evaluate import COLUMNS, evaluate
from imgcls.evaluation.metrics import METRICS
from imgcls.evaluation.predictions import MEAN, Predictions
from imgcls.evaluation.thresholds import Threshold

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["by_value", "values_of", "worst"]

#: A column of numbers with more values than this is a measurement, and no grouping.
_MANY = 50


def values_of(predictions: Predictions, column: str) -> Texts:
    """Read a column as the names of values.

    Args:
        predictions: N records.
        column: One of the set's other columns; "group" for the groups, "label" for the labels.

    Returns:
        (N,) values as text, "missing" for none.

    Raises:
        ConfigError: if there is no such column, or it holds fractions of too many values.
    """
    own = {"group": predictions.groups, "label": predictions.names(predictions.labels)}
    known = {name: values for name, values in own.items() if values is not None} | dict(predictions.columns)
    if column not in known:
        raise options.rejected("groups", "name a column of the predictions", column, nearest(column, known))
    values = known[column]
    count = len(np.unique(values))
    if values.dtype.kind == "f" and count > _MANY:
        remedy = "give a column of ranges, such as '40-60'"
        raise options.rejected(
            "groups", f"name a column of at most {_MANY} different numbers, not {count}", column, remedy
        )
    texts = values.astype(np.str_)
    return np.where(np.isin(texts, ["", "nan", "None", "<NA>", "NaT"]), "missing", texts)


def by_value(
    predictions: Predictions, column: str, thresholds: Sequence[Threshold] = (), **choices: Any
) -> pd.DataFrame:
    """Compute every metric for the records of each value of a column.

    Each record is held against the threshold that it has among all records. Rows of single folds and repeats are left
    out. A metric that a value's records do not define is NaN, and `note` says why.

    Args:
        predictions: N records.
        column: As in `values_of`.
        thresholds: As in `evaluate`.
        **choices: What `evaluate` takes.

    Returns:
        As `evaluate`, with `column=value` as `group`.

    Raises:
        ConfigError: if there is no such column.
    """
    import pandas as pd

    values = values_of(predictions, column)
    tables = []
    for value in np.unique(values):
        part = _pooled(predictions.take(values == value))
        found = evaluate(part, thresholds, **choices)
        tables.append(found[found["fold"].isin(["all", "mean"])].assign(group=f"{column}={value}"))
    return pd.concat(tables, ignore_index=True)[list(COLUMNS)]


# The mean of folds is what is reported where there is one.
def _pooled(part: Predictions) -> Predictions:
    mean = part.fold == MEAN
    return part.take(mean) if mean.any() else part


def worst(table: pd.DataFrame, metrics: Sequence[str] = (), *, threshold: str = "") -> list[dict[str, Any]]:
    """Name the value with the worst metric of all that define it.

    Args:
        table: Rows of `by_value`, of one column.
        metrics: Which; () takes accuracy, balanced accuracy, areas, and what two classes have at a threshold.
        threshold: The rule of metrics that need one.

    Returns:
        For each metric: metric, threshold, group, value, low, high and n of the worst, and `of`, how many values define
        it. Nothing of metrics that are the same for all. Of many values some are worst by chance: look at the interval.
    """
    names = metrics or ("accuracy", "balanced_accuracy", "roc_auc", "average_precision", "sensitivity", "specificity")
    found = []
    for name in names:
        rule = threshold if METRICS[name].takes_threshold else ""
        chosen = (table["metric"] == name) & (table["class"] == "") & (table["threshold"] == rule)
        rows = table[chosen & table["value"].notna()]
        if len(rows) < 2 or np.ptp(rows["value"]) == 0:
            continue
        at = rows["value"].argmin() if METRICS[name].direction == "max" else rows["value"].argmax()
        row = rows.iloc[int(at)]
        keys = ("metric", "threshold", "group", "value", "low", "high", "n")
        found.append({key: _plain(row[key]) for key in keys} | {"of": len(rows)})
    return found


def _plain(value: Any) -> Any:
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and math.isnan(plain) else plain
