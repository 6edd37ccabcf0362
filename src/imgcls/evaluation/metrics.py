"""Metrics, each computed for many resamples of the records at once.

Conventions: a record is called positive if `score >= threshold`; without thresholds the
predicted class is the most probable one (the first of equals). A metric that needs a class
which no record of a resample has is NaN, in place of the 0 that scikit-learn warns about;
so are PPV and NPV where nothing is predicted so.

Where records have several labels, each class is a question of its own, answered yes or no, without
thresholds yes from 0.5. `accuracy` is then the share of right answers over records and classes (one minus the
Hamming loss), `exact_match` the share of records with all answers right (what scikit-learn's
`accuracy_score` computes), `loss` the mean binary cross-entropy over records and classes. Means over
classes (`balanced_accuracy`, `f1_macro`, `roc_auc`, `average_precision`) leave out classes for which they are not
defined, since rare labels are often absent from a part: those without records and, but for F1, those that every
record has; they are NaN where no class is left.
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

__all__ = [
    "CLASS_METRICS",
    "DECIDED_LABEL_METRICS",
    "LABEL_METRICS",
    "METRICS",
    "Metric",
    "counted",
    "measure",
    "metric",
]


def loss(found: Weighted) -> Floats:
    """Compute the mean cross-entropy.

    Args:
        found: N records under B sets of weights.

    Returns:
        (B,) in nats per record, from probabilities clipped at 1e-12.
    """
    return ratio(found.weights @ found.cases.losses, found.total)


def accuracy(found: Weighted) -> Floats:
    """Compute the share of records whose predicted class is the true one, or of several labels that are right.

    Args:
        found: N records under B sets of weights.

    Returns:
        (B,) from 0 to 1.
    """
    return ratio(found.weights @ found.cases.hits, found.total)


def exact_match(found: Weighted) -> Floats:
    """Compute the share of records of which every label is right.

    Args:
        found: N records with several labels under B sets of weights.

    Returns:
        (B,) from 0 to 1.
    """
    return ratio(found.weights @ (found.cases.hits == 1).astype(np.float64), found.total)


def _macro(table: Floats, found: Weighted) -> Floats:
    if not found.cases.multilabel:
        return table.mean(axis=1)
    defined = ~np.isnan(table)
    return ratio(np.where(defined, table, 0).sum(axis=1), defined.sum(axis=1).astype(np.float64))


def balanced_accuracy(found: Weighted) -> Floats:
    """Compute the mean over classes of the share that is predicted so.

    Args:
        found: N records under B sets of weights.

    Returns:
        (B,) from 0 to 1, NaN where a class is absent; of several labels the mean over classes of the mean
        of sensitivity and specificity.
    """
    if found.cases.multilabel:
        return _macro((found.recall + found.spared) / 2, found)
    return found.recall.mean(axis=1)


def f1_macro(found: Weighted) -> Floats:
    """Compute the mean over classes of F1.

    Args:
        found: N records under B sets of weights.

    Returns:
        (B,) from 0 to 1, NaN where a class is absent.
    """
    return _macro(found.f1, found)


def roc_auc(found: Weighted) -> Floats:
    """Compute the area under the ROC curve.

    Args:
        found: N records under B sets of weights.

    Returns:
        (B,) of the positive class, or the mean over classes of each against the rest; NaN
        where a class is absent.
    """
    return _macro(found.areas[0], found)


def average_precision(found: Weighted) -> Floats:
    """Compute average precision.

    Args:
        found: N records under B sets of weights.

    Returns:
        (B,) of the positive class, or the mean over classes of each against the rest; NaN
        where a class is absent.
    """
    return _macro(_precisions(found), found)


# Where every record has a label, the ranking says nothing, and its precision is 1 whatever the scores.
def _precisions(found: Weighted) -> Floats:
    roc, precision = found.areas
    return np.where(np.isnan(roc), np.nan, precision) if found.cases.multilabel else precision


@attrs.frozen(kw_only=True)
class Metric:
    """What there is to know about a metric.

    Attributes:
        name: Its name, as in tables of metrics.
        direction: Whether large or small values are good.
        binary_only: Whether it is defined for two classes only.
        multilabel_only: Whether it is defined for several labels a record only.
        needs_threshold: Whether it is of predicted classes that a threshold makes.
        takes_threshold: Whether predicted classes matter at all.
        function: From weighted records to (B,) values.
    """

    name: str
    direction: Literal["max", "min"] = "max"
    binary_only: bool = False
    multilabel_only: bool = False
    needs_threshold: bool = False
    takes_threshold: bool = False
    function: Callable[[Weighted], Floats]

    def fits(self, num_classes: int, *, multilabel: bool) -> bool:
        """Say whether it is defined for predictions of a kind.

        Args:
            num_classes: How many classes there are.
            multilabel: Whether a record may have several labels.

        Returns:
            Whether it is.
        """
        if multilabel:
            return not self.binary_only
        return not self.multilabel_only and (num_classes == 2 or not self.binary_only)


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
            Metric(name="exact_match", multilabel_only=True, takes_threshold=True, function=exact_match),
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

#: What is told of single classes where records have several labels, whatever the threshold.
LABEL_METRICS: Mapping[str, Callable[[Weighted], Floats]] = MappingProxyType(
    {
        "prevalence": lambda found: ratio(found.counts[0], found.total[:, None]),
        "loss": lambda found: found.label_losses,
        "brier": lambda found: found.briers,
        "roc_auc": lambda found: found.areas[0],
        "average_precision": _precisions,
    }
)

#: What is told of them at a threshold.
DECIDED_LABEL_METRICS: Mapping[str, Callable[[Weighted], Floats]] = MappingProxyType(
    {
        "sensitivity": lambda found: found.recall,
        "specificity": lambda found: found.spared,
        "ppv": lambda found: found.precision,
        "npv": lambda found: found.negative_precision,
        "f1": lambda found: found.f1,
    }
)

# The records that a share is a share of, for a class; metrics that are no share of records are not here.
_DENOMINATORS: Mapping[str, Callable[[Cases, int], Bools]] = MappingProxyType(
    {
        "accuracy": lambda cases, _: np.ones(len(cases.labels), dtype=np.bool_),
        "exact_match": lambda cases, _: np.ones(len(cases.labels), dtype=np.bool_),
        "prevalence": lambda cases, _: np.ones(len(cases.labels), dtype=np.bool_),
        "sensitivity": lambda cases, of: cases.actual(of),
        "specificity": lambda cases, of: ~cases.actual(of),
        "ppv": lambda cases, of: cases.called(of),
        "npv": lambda cases, of: ~cases.called(of),
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
        ConfigError: if the metric is unknown, or is not for such classes and labels.

    Examples:
        >>> cases = Cases(labels=np.array([0, 1, 1]), probs=np.array([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9]]))
        >>> measure("roc_auc", cases)
        array([1.])
        >>> measure("sensitivity", cases, weights=np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 2.0]]))
        array([0.5, 1. ])
    """
    found = metric(name)
    if not found.fits(cases.num_classes, multilabel=cases.multilabel):
        kind = "several labels a record" if cases.multilabel else f"{cases.num_classes} classes"
        whose = "two" if found.binary_only else "several labels a record"
        raise ConfigError(f"'metric' must be one for {kind}, got {name!r}, which is for {whose}")
    weights = np.ones((1, len(cases.labels))) if weights is None else weights
    return found.function(Weighted(cases=cases, weights=weights))
