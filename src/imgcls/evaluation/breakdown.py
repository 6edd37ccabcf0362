"""Metrics for each value of a column, and the value that fares worst."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from imgcls.core import options
from imgcls.core.errors import nearest
from imgcls.evaluation.arrays import Floats, Texts
from imgcls.evaluation.evaluate import COLUMNS, Table, check_choices, evaluate, parts_of
from imgcls.evaluation.lines import reason
from imgcls.evaluation.metrics import METRICS
from imgcls.evaluation.predictions import MEAN, Predictions
from imgcls.evaluation.thresholds import Threshold

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["by_value", "values_of", "worst"]

#: A column of numbers with more values than this is a measurement, and no grouping; with more names there are no
#: intervals, of which the worst would be chance and which take long.
_MANY = 50

#: Numbers in one block of weights: 32 MiB.
_BLOCK = 2**22


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
        As `evaluate`, with `column=value` as `group`. Of more than 50 values there are no intervals.

    Raises:
        ConfigError: if there is no such column.
    """
    import pandas as pd

    pooled = _pooled(predictions)
    values = values_of(pooled, column)
    names = np.unique(values)
    if len(names) > _MANY and choices.get("prior") is None:  # a prior weighs the records of each value on their own
        return _alone(pooled, values, column, thresholds, choices)
    tables = []
    for name in names:
        found = evaluate(pooled.take(values == name), thresholds, **choices)
        tables.append(found[found["fold"].isin(["all", "mean"])].assign(group=f"{column}={name}"))
    return pd.concat(tables, ignore_index=True)[list(COLUMNS)]


# All values at once: each is a resample that holds its own records alone.
def _alone(
    pooled: Predictions, values: Texts, column: str, thresholds: Sequence[Threshold], choices: Mapping[str, Any]
) -> pd.DataFrame:
    import pandas as pd

    check_choices(pooled, **{name: value for name, value in choices.items() if name not in {"prior", "seed"}})
    fold = next(parts_of(pooled))[0]
    if fold not in {"all", "mean"}:
        return pd.DataFrame(columns=list(COLUMNS))
    table = Table.of(attrs.evolve(pooled, groups=values), thresholds, prevalence=choices.get("prevalence", ()))
    names = np.unique(values)
    found = np.concatenate([table.values(block) for block in _blocks(len(names))])
    rows = [
        {"group": f"{column}={name}", **row}
        for name, own, counts in zip(names, found, _counts(table), strict=True)
        for row in _rows(table, own, counts, len(names))
    ]
    shared: dict[str, Any] = {
        "split": pooled.split,
        "fold": fold,
        "level": "image",
        "low": np.nan,
        "high": np.nan,
        "interval": "",
    }
    return pd.DataFrame(rows).assign(**shared)[list(COLUMNS)]


def _blocks(count: int) -> Iterator[Floats]:
    rows = max(1, _BLOCK // count)
    for start in range(0, count, rows):
        yield (np.arange(start, min(start + rows, count))[:, None] == np.arange(count)).astype(np.float64)


# Of each value how many records there are of each class, and in all.
def _counts(table: Table) -> Iterator[dict[int | None, int]]:
    cases = table.each[0].cases[""]
    for total, actual in zip(cases.summed("ones").tolist(), cases.counts[0].tolist(), strict=True):
        yield {None: int(total), **{at: int(count) for at, count in enumerate(actual)}}


def _rows(table: Table, values: Floats, counts: Mapping[int | None, int], many: int) -> Iterator[dict[str, Any]]:
    for line, value in zip(table.lines, values.tolist(), strict=True):
        known = not math.isnan(value)
        yield {
            "class": "" if line.of is None else table.part.classes[line.of],
            "threshold": line.threshold,
            "metric": line.name,
            "value": value,
            "n": counts[line.of],
            "note": f"no interval: one of {many} values" if known else reason(line, table.part, counts),
        }


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
