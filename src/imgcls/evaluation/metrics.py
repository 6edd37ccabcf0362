"""Metrics, each computed for many resamples of the records at once.

Conventions: a record is called positive if `score >= threshold`; without thresholds the
predicted class is the most probable one (the first of equals). A metric that needs a class
which no record of a resample has is NaN, in place of the 0 that scikit-learn warns about;
so are PPV and NPV where nothing is predicted so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import attrs
import numpy as np

from imgcls.core.errors import ConfigError, nearest
from imgcls.evaluation.arrays import Bools, Floats
from imgcls.evaluation.weighted import Cases, Weighted, ratio

__all__ = ["CLASS_METRICS", "METRICS", "Metric", "counted", "measure", "metric"]


def loss(found: Weighted) -> Floats:
    """Compute the mean cross-entropy.

    Args:
        found: N records under B sets of weights.

    Returns:
        (B,) in nats per record, from probabilities clipped at 1e-12.
    """
    return ratio(found.weights @ found.cases.losses, found.total)


def accuracy(found: Weighted) -> Floats:
    """Compute the share of records whose predicted class is the true one.

    Args:
        found: N records under B sets of weights.

    Returns:
        (B,) from 0 to 1.
    """
    return ratio(found.counts[2].sum(axis=1), found.total)


def balanced_accuracy(found: Weighted) -> Floats:
    """Compute the mean over classes of the share that is predicted so.

    Args:
        found: N records under B sets of weights.

    Returns:
        (B,) from 0 to 1, NaN where a class is absent.
    """
    return found.recall.mean(axis=1)


def f1_macro(found: Weighted) -> Floats:
    """Compute the mean over classes of F1.

    Args:
        found: N records under B sets of weights.

    Returns:
        (B,) from 0 to 1, NaN where a class is absent.
    """
    return found.f1.mean(axis=1)


def roc_auc(found: Weighted) -> Floats:
    """Compute the area under the ROC curve.

    Args:
        found: N records under B sets of weights.

    Returns:
        (B,) of the positive class, or the mean over classes of each against the rest; NaN
        where a class is absent.
    """
    return found.areas[0].mean(axis=1)


def average_precision(found: Weighted) -> Floats:
    """Compute average precision.

    Args:
        found: N records under B sets of weights.

    Returns:
        (B,) of the positive class, or the mean over classes of each against the rest; NaN
        where a class is absent.
    """
    return found.areas[1].mean(axis=1)


@attrs.frozen(kw_only=True)
class Metric:
    """What there is to know about a metric.

    Attributes:
        name: Its name, as in tables of metrics.
        direction: Whether large or small values are good.
        binary_only: Whether it is defined for two classes only.
        needs_threshold: Whether it is of predicted classes that a threshold makes.
        takes_threshold: Whether predicted classes matter at all.
        function: From weighted records to (B,) values.
    """

    name: str
    direction: Literal["max", "min"] = "max"
    binary_only: bool = False
    needs_threshold: bool = False
    takes_threshold: bool = False
    function: Callable[[Weighted], Floats]


def _of_predictions(name: str, function: Callable[[Weighted], Floats]) -> Metric:
    return Metric(name=name, takes_threshold=True, function=function)


def _of_positives(name: str, table: Callable[[Weighted], Floats], *, negative: bool = False) -> Metric:
    def function(found: Weighted) -> Floats:
        positive = found.cases.positive
        return table(found)[:, 1 - positive if negative else positive]

    return Metric(name=name, binary_only=True, needs_threshold=True, takes_threshold=True, function=function)


#: Every metric by name.
METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric(name="loss", direction="min", function=loss),
            _of_predictions("accuracy", accuracy),
            _of_predictions("balanced_accuracy", balanced_accuracy),
            _of_predictions("f1_macro", f1_macro),
            Metric(name="roc_auc", function=roc_auc),
            Metric(name="average_precision", function=average_precision),
            _of_positives("sensitivity", lambda found: found.recall),
            _of_positives("specificity", lambda found: found.recall, negative=True),
            _of_positives("ppv", lambda found: found.precision),
            _of_positives("npv", lambda found: found.precision, negative=True),
            _of_positives("f1", lambda found: found.f1),
        )
    }
)

#: What is told of single classes, each from weighted records to (B, K).
CLASS_METRICS: Mapping[str, Callable[[Weighted], Floats]] = MappingProxyType(
    {
        "sensitivity": lambda found: found.recall,
        "ppv": lambda found: found.precision,
        "roc_auc": lambda found: found.areas[0],
    }
)

# The records that a share is a share of, for a class; metrics that are no share of records are not here.
_DENOMINATORS: Mapping[str, Callable[[Cases, int], Bools]] = MappingProxyType(
    {
        "accuracy": lambda cases, _: np.ones(len(cases.labels), dtype=np.bool_),
        "sensitivity": lambda cases, of: cases.labels == of,
        "specificity": lambda cases, of: cases.labels != of,
        "ppv": lambda cases, of: cases.preds == of,
        "npv": lambda cases, of: cases.preds != of,
    }
)


def counted(name: str, cases: Cases, *, of: int | None = None) -> Bools:
    """Find the records that a metric is a share of.

    Args:
        name: The metric.
        cases: N records.
        of: The class that it is told of; None for the positive one.

    Returns:
        (N,) the denominator; no record where the metric is no share of records, such as an area or a mean of shares.
    """
    if name not in _DENOMINATORS:
        return np.zeros(len(cases.labels), dtype=np.bool_)
    return _DENOMINATORS[name](cases, cases.positive if of is None else of)


def metric(name: str) -> Metric:
    """Find a metric.

    Args:
        name: Its name.

    Returns:
        The metric.

    Raises:
        ConfigError: if there is none of that name; with the nearest.
    """
    if name not in METRICS:
        raise ConfigError(f"'metric' must name a metric, got {name!r}; {nearest(name, METRICS)}")
    return METRICS[name]


def measure(name: str, cases: Cases, *, weights: Floats | None = None) -> Floats:
    """Compute one metric.

    Args:
        name: The metric.
        cases: N records.
        weights: (B, N) of non-negative numbers; None weighs each record once.

    Returns:
        (B,) values, NaN where a class is absent that the metric needs.

    Raises:
        ConfigError: if the metric is unknown, or is for two classes and there are more.

    Examples:
        >>> cases = Cases(labels=np.array([0, 1, 1]), probs=np.array([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9]]))
        >>> measure("roc_auc", cases)
        array([1.])
        >>> measure("sensitivity", cases, weights=np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 2.0]]))
        array([0.5, 1. ])
    """
    found = metric(name)
    if found.binary_only and cases.num_classes > 2:
        raise ConfigError(f"'metric' must be one for {cases.num_classes} classes, got {name!r}, which is for two")
    weights = np.ones((1, len(cases.labels))) if weights is None else weights
    return found.function(Weighted(cases=cases, weights=weights))
