"""The formulas of metrics, each from weighted records to one value a set of weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from imgcls.evaluation.arrays import Floats, ratio
from imgcls.evaluation.weighted import Weighted

__all__ = [
    "at_prevalence",
    "balanced_accuracy",
    "calibration_error",
    "hter",
    "kappa",
    "macro",
    "matthews",
    "micro",
    "precisions",
    "quadratic_kappa",
    "ranked_precision",
    "top",
    "weighted_by_class",
]


def macro(table: Floats, found: Weighted) -> Floats:
    """Average over classes; of several labels over those that have a value.

    Args:
        table: (B, K) values.
        found: What they are of.

    Returns:
        (B,); NaN where a class is absent, and of several labels where none is left.
    """
    if not found.cases.multilabel:
        return table.mean(axis=1)
    defined = ~np.isnan(table)
    return ratio(np.where(defined, table, 0).sum(axis=1), defined.sum(axis=1).astype(np.float64))


def weighted_by_class(table: Floats, found: Weighted) -> Floats:
    """Average over classes by how many records are of each.

    Args:
        table: (B, K) values.
        found: What they are of.

    Returns:
        (B,); classes without a value are left out.
    """
    support = np.where(np.isnan(table), 0, found.counts[0])
    return ratio((np.where(np.isnan(table), 0, table) * support).sum(axis=1), support.sum(axis=1))


def balanced_accuracy(found: Weighted) -> Floats:
    """Compute the mean over classes of the share that is predicted so.

    Args:
        found: N records under B sets of weights.

    Returns:
        (B,) from 0 to 1, NaN where a class is absent; of several labels the mean over classes of the mean
        of sensitivity and specificity.
    """
    if found.cases.multilabel:
        return macro((found.recall + found.spared) / 2, found)
    return found.recall.mean(axis=1)


def precisions(found: Weighted) -> Floats:
    """Compute the precision of each class as means over classes take it.

    Args:
        found: N records under B sets of weights.

    Returns:
        (B, K); 0 for a class that has records and is never predicted, as in scikit-learn, NaN for an absent class.
    """
    actual = found.counts[0]
    return np.where(actual > 0, np.nan_to_num(found.precision, nan=0.0), np.nan)


def ranked_precision(found: Weighted) -> Floats:
    """Compute the average precision of each class.

    Args:
        found: N records under B sets of weights.

    Returns:
        (B, R); NaN where every record is of the class: any ranking would have 1.
    """
    roc, precision, _ = found.areas
    return np.where(np.isnan(roc), np.nan, precision)


def micro(part: str) -> Callable[[Weighted], Floats]:
    """Make a metric of all pairs of record and label at once.

    Args:
        part: "precision", "recall" or "f1".

    Returns:
        From weighted records of several labels to (B,) values.
    """

    def function(found: Weighted) -> Floats:
        actual, predicted, both = (table.sum(axis=1) for table in found.counts)
        wholes = {"precision": predicted, "recall": actual, "f1": (actual + predicted) / 2}
        return ratio(both, wholes[part])

    return function


def hter(found: Weighted) -> Floats:
    """Compute the half total error rate: the mean of false acceptance and false rejection.

    Args:
        found: N records of two classes under B sets of weights.

    Returns:
        (B,) from 0 to 1.
    """
    return 1 - found.recall.mean(axis=1)


def matthews(found: Weighted) -> Floats:
    """Compute the correlation of true and predicted classes (Matthews 1975; Gorodkin 2004).

    Args:
        found: N records under B sets of weights.

    Returns:
        (B,) from -1 to 1; 0 where one class is always predicted, as in scikit-learn, NaN where one is always true.
    """
    actual, predicted, both = found.counts
    total = found.total
    shared = both.sum(axis=1) * total - (actual * predicted).sum(axis=1)
    truths, calls = (total**2 - (table**2).sum(axis=1) for table in (actual, predicted))
    constant = calls <= 1e-12 * total**2
    found_value = ratio(shared, np.sqrt(np.where(constant, 1, np.maximum(calls, 0)) * np.maximum(truths, 0)))
    return np.where(constant & (truths > 0), 0, np.where(truths > 1e-12 * total**2, found_value, np.nan))


def kappa(found: Weighted) -> Floats:
    """Compute agreement beyond chance (Cohen 1960).

    Args:
        found: N records under B sets of weights.

    Returns:
        (B,) at most 1; NaN where chance alone agrees.
    """
    actual, predicted, both = found.counts
    chance = ratio((actual * predicted).sum(axis=1), found.total)
    return ratio(both.sum(axis=1) - chance, found.total - chance)


def quadratic_kappa(found: Weighted) -> Floats:
    """Compute agreement beyond chance with squared distances between classes in their order (Cohen 1968).

    Args:
        found: N records under B sets of weights.

    Returns:
        (B,) at most 1; NaN where every record is of one class and predicted so.
    """
    actual, predicted, _ = found.counts
    places = np.arange(actual.shape[1])
    squares = actual @ places**2 * found.total + predicted @ places**2 * found.total
    chance = ratio(squares - 2 * (actual @ places) * (predicted @ places), found.total)
    return 1 - ratio(found.weights @ found.cases.summed("distances"), chance)


def calibration_error(found: Weighted) -> Floats:
    """Compute the expected calibration error in 15 bins of equal width.

    Args:
        found: N records under B sets of weights.

    Returns:
        (B,): with two classes of the positive one's probability, with more of the most probable class, of several
        labels the mean over labels.
    """
    cases = found.cases
    if cases.multilabel:
        return found.label_calibration.mean(axis=1)
    return found.calibration(cases.positive if cases.num_classes == 2 else None)


def top(count: int) -> Callable[[Weighted], Floats]:
    """Make the share of records whose true class is among the most probable ones.

    Args:
        count: How many classes may be named.

    Returns:
        From weighted records to (B,) values; of equal probabilities the first class counts as the larger.
    """
    return lambda found: found.mean(f"top_{count}")


def at_prevalence(found: Weighted, prevalence: float, *, negative: bool = False) -> Floats:
    """Compute the predictive value that Bayes' rule gives where the positive class is as frequent as stated.

    Args:
        found: N records of two classes under B sets of weights.
        prevalence: The share of the positive class, from 0 to 1.
        negative: Whether the negative predictive value is wanted.

    Returns:
        (B,) from 0 to 1, NaN where nothing would be predicted so.
    """
    positive = found.cases.positive
    sensitivity, specificity = found.recall[:, positive], found.recall[:, 1 - positive]
    if negative:
        right, wrong = specificity * (1 - prevalence), (1 - sensitivity) * prevalence
    else:
        right, wrong = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    return ratio(right, right + wrong)
