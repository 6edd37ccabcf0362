"""Conformal prediction sets: so many classes that the true one is among them as often as was promised.

Split conformal prediction (Vovk, Gammerman and Shafer 2005; Papadopoulos et al. 2002): the scores of calibration
records say how strange the true class may look. It holds for any model, as long as new records are like those.

Records of one group are not exchangeable, groups are. So each of K groups weighs the same, its records share that
weight, and one more group without a bound stands for the new one: hierarchical conformal prediction (Lee, Barber and
Willett 2023, "Distribution-free inference with hierarchical data", section 3; after Dunn, Wasserman and Ramdas 2022).
The promise is then for a record drawn from a new group. Without groups each record is its own, which gives split
conformal prediction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
import numpy as np

from imgcls.core import options
from imgcls.core.errors import DataError
from imgcls.evaluation.arrays import Bools, Floats, Ints
from imgcls.evaluation.intervals import interval, units
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.weighted import ratio

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Conformal", "fit_conformal"]

#: Sums of all probabilities differ from 1 by so much at most, in single precision as exported models have it; a limit
#: of 1 would else exclude the last class of many records by chance.
_ROUNDING = 1e-6


def _numbers(given: Sequence[float]) -> tuple[float, ...]:
    return tuple(map(float, given))


@attrs.frozen(kw_only=True)
class Conformal:
    """How prediction sets are made.

    Attributes:
        alpha: How often the true class may be missing, such as 0.1.
        method: "lac": the classes that are probable enough, which gives the smallest sets on average (Sadinle, Lei and
            Wasserman 2019); a set may be empty. "aps": the most probable classes until their sum is large enough
            (Romano, Sesia and Candes 2020, without randomness, so coverage is rather above the promise).
        per_class: Whether the promise holds for the records of each class (Mondrian; Vovk 2012).
        limits: The largest score of a class that is in the set, (K,); infinite where there were too few groups to
            exclude anything: then the class is in every set.
        classes: The K classes.
        num_records: How many records it was fitted on.
        num_groups: How many groups they are of; of records without groups, how many records.
    """

    alpha: float = attrs.field(validator=options.fraction())
    method: str = attrs.field(default="lac", validator=options.choice("lac", "aps"))
    per_class: bool = attrs.field(default=False, validator=options.instance(bool))
    limits: tuple[float, ...] = attrs.field(converter=_numbers)
    classes: tuple[str, ...] = attrs.field(converter=tuple[str, ...])
    num_records: int
    num_groups: int

    def sets(self, probs: Floats) -> Bools:
        """Make prediction sets.

        Args:
            probs: (N, K).

        Returns:
            (N, K) which classes are in the set of each record.
        """
        inside: Bools = _scores(np.asarray(probs, dtype=np.float64), self.method) <= np.array(self.limits) + _ROUNDING
        return inside

    def names(self, probs: Floats) -> list[str]:
        """Name the classes of prediction sets.

        Args:
            probs: (N, K).

        Returns:
            (N,) names with `|` between; empty for an empty set.
        """
        return ["|".join(np.asarray(self.classes)[row].tolist()) for row in self.sets(probs)]

    def coverage(self, predictions: Predictions, *, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
        """Look how often the true class was in the set, on records that nothing was fitted on.

        Args:
            predictions: N records.
            resamples: How often groups are drawn for the intervals.
            seed: Of the draws.

        Returns:
            A row for all records and one for each class: `class`, `promised`, `coverage` with `low` and `high` (95 %,
            resampled by group), `size` (the mean number of classes in a set), `n`; and, with groups, a row `a new
            group`, where each group counts the same, which is what the promise is about.
        """
        import pandas as pd

        sets = self.sets(predictions.probs)
        hits = sets[np.arange(len(predictions)), predictions.labels].astype(np.float64)
        parts = {"": np.ones(len(predictions))}
        if predictions.groups is not None:
            parts["a new group"] = 1 / np.bincount(owners := units(predictions.groups, len(hits)))[owners]
        parts |= {name: predictions.has(at).astype(np.float64) for at, name in enumerate(predictions.classes)}
        counts = np.stack(list(parts.values()), axis=1)
        low, high = interval(
            lambda weights: ratio(weights @ (counts * hits[:, None]), weights @ counts),
            num_records=len(predictions),
            groups=predictions.groups,
            counted=counts > 0,
            resamples=resamples,
            seed=seed,
        )
        whole = counts.sum(axis=0)
        return pd.DataFrame(
            {
                "class": list(parts),
                "promised": 1 - self.alpha,
                "coverage": ratio(hits @ counts, whole),
                "low": low,
                "high": high,
                "size": ratio(sets.sum(axis=1).astype(np.float64) @ counts, whole),
                "n": (counts > 0).sum(axis=0),
            }
        )


# How strange each class would be as the true one.
def _scores(probs: Floats, method: str) -> Floats:
    if method == "lac":
        return 1 - probs
    order = np.argsort(-probs, axis=1, kind="stable")
    sums = np.cumsum(np.take_along_axis(probs, order, axis=1), axis=1)
    scores = np.empty_like(sums)
    np.put_along_axis(scores, order, sums, axis=1)
    return scores


def fit_conformal(
    predictions: Predictions, *, alpha: float = 0.1, method: str = "lac", per_class: bool = False
) -> Conformal:
    """Fit prediction sets to records that the model did not train on.

    Args:
        predictions: N records of one label each.
        alpha: How often the true class may be missing.
        method: `"lac"` or `"aps"`.
        per_class: Whether the promise is to hold for the records of each class.

    Returns:
        How sets are made.

    Raises:
        DataError: if records may have several labels.
    """
    if predictions.multilabel:
        raise DataError(
            "'predictions' must have one label a record for prediction sets, got several; judge each label by its own "
            "threshold and reliability curve"
        )
    own = _scores(predictions.probs, method)[np.arange(len(predictions)), predictions.labels]
    owners, count = units(predictions.groups, len(predictions)), predictions.num_classes
    if per_class:
        parts = [predictions.has(index) for index in range(count)]
        limits = [_limit(own[part], owners[part], alpha) for part in parts]
    else:
        limits = [_limit(own, owners, alpha)] * count
    return Conformal(
        alpha=alpha,
        method=method,
        per_class=per_class,
        limits=limits,
        classes=predictions.classes,
        num_records=len(predictions),
        num_groups=int(owners.max()) + 1,
    )


# The smallest score that has enough weight at or below it; the weight of the new group lies above all scores.
def _limit(scores: Floats, owners: Ints, alpha: float) -> float:
    _, places, sizes = np.unique(owners, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(1 / sizes[places][order]) / (len(sizes) + 1)
    enough = reached >= (1 - alpha) - 1e-12  # sums of many weights are rounded
    return float(scores[order][enough.argmax()]) if enough.any() else math.inf
