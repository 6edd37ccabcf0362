"""Means of scores by class and by group, with intervals; differences between methods on the same images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from imgcls.core.errors import DataError, nearest
from imgcls.evaluation.arrays import Bools, Floats, Texts, ratio
from imgcls.evaluation.intervals import interval
from imgcls.explain.mask_scores import CELLS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["differences", "pooled", "summary"]

#: Scores that are 0 or 1 of most images, whose mean is a share of them.
_SHARES = {"pointing"}

_STATES = {"empty": "empty mask", "silent": "no relevance", "invalid": "invalid"}


def summary(
    rows: pd.DataFrame, names: Sequence[str], *, by: str | None = None, resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Average scores over images.

    Args:
        rows: A row an image, with the scores, and where known `state` and `group`.
        names: The scores.
        by: A column, such as `class`, whose values are averaged one by one as well; None
            averages over all images alone.
        resamples: How often groups are drawn for the intervals; 0 gives none.
        seed: Of the draws.

    Returns:
        Columns `by`, `value`, `metric`, `mean`, `low` and `high` (95 %, resampled by `group`
        where the rows have it), `std`, `median`, `n` (images with that score), and how many had
        none: `empty` masks, `silent` maps, `invalid` maps.

    Raises:
        DataError: if there is no such column.
    """
    import pandas as pd

    _check_columns(rows, [*names, *([] if by is None else [by])])
    found = []
    for value, part in _parts(rows, by):
        counts = {name: int((part["state"] == state).sum()) for name, state in _STATES.items() if "state" in part}
        values = part[list(names)].to_numpy(dtype=np.float64)
        low, high = _ends(values, _groups(part), [name in _SHARES for name in names], resamples, seed)
        for number, name in enumerate(names):
            good = values[~np.isnan(values[:, number]), number]
            numbers = dict(zip(("mean", "std", "median"), _moments(good), strict=True))
            key = {"by": by or "", "value": value, "metric": name}
            found.append({**key, **numbers, "low": low[number], "high": high[number], "n": len(good), **counts})
    order = ["by", "value", "metric", "mean", "low", "high", "std", "median", "n"]
    table = pd.DataFrame(found, columns=None if found else order)
    return table[[*order, *(name for name in table.columns if name not in order)]]


def pooled(rows: pd.DataFrame, *, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Take the maps for a segmentation, pixel by pixel over all images, as reference 004 (DeepVisionXplain) does.

    Each map goes from its minimum to its maximum and is cut above half; the map of an image
    that was not decided to be of the class is empty. Images without a mask count too, so large
    images with many pixels outside raise the accuracy.

    Args:
        rows: What `MaskScores.rows` gives, with `group` where known.
        resamples: How often groups are drawn for the intervals; 0 gives none.
        seed: Of the draws.

    Returns:
        Columns `metric`, `value`, `low`, `high`, `n` (images): accuracy, precision, recall, f1, jaccard.
    """
    import pandas as pd

    _check_columns(rows, CELLS)
    cells = rows[list(CELLS)].to_numpy(dtype=np.float64)

    def statistic(weights: Floats) -> Floats:
        tp, fp, fn, tn = (weights @ cells).T
        parts = (
            (tp + tn, tp + fp + fn + tn),
            (tp, tp + fp),
            (tp, tp + fn),
            (2 * tp, 2 * tp + fp + fn),
            (tp, tp + fp + fn),
        )
        return np.stack([ratio(part, whole) for part, whole in parts], axis=1)

    values = statistic(np.ones((1, len(rows))))[0]
    low, high = interval(statistic, num_records=len(rows), groups=_groups(rows), resamples=resamples, seed=seed)
    names = ["accuracy", "precision", "recall", "f1", "jaccard"]
    return pd.DataFrame({"metric": names, "value": values, "low": low, "high": high, "n": len(rows)})


def differences(
    rows: Mapping[str, pd.DataFrame], names: Sequence[str], *, resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Compare methods image by image.

    Args:
        rows: By method, rows of the same images in the same order.
        names: The scores.
        resamples: How often groups are drawn for the intervals, the same ones for both methods.
        seed: Of the draws.

    Returns:
        Of each pair of methods and score: `a`, `b`, `metric`, `difference` (mean of a - b over the
        images that both have a score of), `low`, `high` (95 %), `better` (the share of images
        with a > b, equal ones counting half), `n`.

    Raises:
        DataError: if the images differ.
    """
    import pandas as pd

    found = []
    for (a, first), (b, second) in combinations(rows.items(), 2):
        if first["id"].tolist() != second["id"].tolist():
            raise DataError(f"'rows' must be of the same images in the same order, got others for {a!r} and {b!r}")
        gaps = first[list(names)].to_numpy(dtype=np.float64) - second[list(names)].to_numpy(dtype=np.float64)
        low, high = _ends(gaps, _groups(first), [False] * len(names), resamples, seed)
        for number, name in enumerate(names):
            good = gaps[~np.isnan(gaps[:, number]), number]
            mean = good.mean() if len(good) else np.nan
            better = ((good > 0) + 0.5 * (good == 0)).mean() if len(good) else np.nan
            ends = {"low": low[number], "high": high[number]}
            key = {"a": a, "b": b, "metric": name}
            found.append({**key, "difference": mean, **ends, "better": better, "n": len(good)})
    return pd.DataFrame(found, columns=["a", "b", "metric", "difference", "low", "high", "better", "n"])


# Intervals of the means of columns, over the records that have them.
def _ends(
    values: Floats, groups: Texts | None, shares: Sequence[bool], resamples: int, seed: int
) -> tuple[Floats, Floats]:
    known: Bools = ~np.isnan(values)
    filled = np.where(known, values, 0)

    def statistic(weights: Floats) -> Floats:
        return ratio(weights @ filled, weights @ known.astype(np.float64))

    return interval(
        statistic,
        num_records=len(values),
        groups=groups,
        counted=known & np.asarray(shares),
        resamples=resamples,
        seed=seed,
    )


def _parts(rows: pd.DataFrame, by: str | None) -> Iterator[tuple[str, pd.DataFrame]]:
    if len(rows):
        yield "", rows
    if by is not None:
        for value, part in rows.groupby(by, sort=True):
            yield str(value), part


def _groups(rows: pd.DataFrame) -> Texts | None:
    return rows["group"].to_numpy(dtype=np.str_) if "group" in rows else None


def _moments(good: Floats) -> tuple[float, float, float]:
    if not len(good):
        return np.nan, np.nan, np.nan
    return float(good.mean()), float(good.std(ddof=1)) if len(good) > 1 else np.nan, float(np.median(good))


def _check_columns(rows: pd.DataFrame, names: Sequence[str]) -> None:
    for name in names:
        if name not in rows:
            raise DataError(f"'rows' must have a column {name!r}; {nearest(name, map(str, rows.columns))}")
