"""Metrics by name, each computed for many resamples of the records at once.

Conventions: a record is called positive if `score >= threshold`; without thresholds the predicted class is the most
probable one (the first of equals). A metric that needs a class which no record of a resample has is NaN, in place of
the 0 that scikit-learn warns about; so are PPV and NPV where nothing is predicted so. In `precision_macro` and
`precision_weighted` a class that has records and is never predicted counts 0, as in scikit-learn.

With one label a record the mean of recall over classes is `balanced_accuracy`, and the mean by their records is
`accuracy` itself; so `recall_macro` and `recall_weighted` are for several labels only, and no number stands twice under
two names but those that tasks of acceptance and rejection call otherwise: `frr` is one minus `sensitivity`, `far` one
minus `specificity`, `hter` their mean.

Where records have several labels, each class is a question of its own, answered yes or no, without thresholds yes from
0.5. `accuracy` is then the share of right answers over records and classes (one minus the Hamming loss), `exact_match`
the share of records with all answers right (what scikit-learn's `accuracy_score` computes), `loss` the mean binary
cross-entropy over records and classes. Means over classes (`balanced_accuracy`, `..._macro`, `roc_auc`,
`average_precision`) leave out classes for which they are not defined, since rare labels are often absent from a part:
those without records and, but for F1, those that every record has; they are NaN where no class is left. `..._micro`
takes all pairs of record and label as one question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import attrs
import numpy as np

from imgcls.core.errors import ConfigError, nearest
from imgcls.evaluation import formulas
from imgcls.evaluation.arrays import Bools, Floats
from imgcls.evaluation.formulas import macro, weighted_by_class
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
    "span",
]

Values = Callable[[Weighted], Floats]

#: Of what a metric is: two classes, more of which each record has one, or several labels a record.
Kind = Literal["two", "many", "labels"]

_ALL: tuple[Kind, ...] = ("two", "many", "labels")


@attrs.frozen(kw_only=True)
class Metric:
    """What there is to know about a metric.

    Attributes:
        name: Its name, as in tables of metrics.
        function: From weighted records to (B,) values.
        direction: Whether large or small values are good.
        kinds: For what it is defined.
        above: It is defined for more than so many classes.
        needs_threshold: Whether it is of predicted classes that a threshold makes.
        takes_threshold: Whether predicted classes matter at all.
    """

    name: str
    function: Values
    direction: Literal["max", "min"] = "max"
    kinds: tuple[Kind, ...] = _ALL
    above: int = 1
    needs_threshold: bool = False
    takes_threshold: bool = False

    @property
    def binary_only(self) -> bool:
        """Whether it is defined for two classes only."""
        return self.kinds == ("two",)

    @property
    def multilabel_only(self) -> bool:
        """Whether it is defined for several labels a record only."""
        return self.kinds == ("labels",)

    def fits(self, num_classes: int, *, multilabel: bool) -> bool:
        """Say whether it is defined for predictions of a kind.

        Args:
            num_classes: How many classes there are.
            multilabel: Whether a record may have several labels.

        Returns:
            Whether it is.
        """
        kind: Kind = "labels" if multilabel else "two" if num_classes == 2 else "many"
        return kind in self.kinds and num_classes > self.above


def _decided(name: str, function: Values, *kinds: Kind) -> Metric:
    return Metric(name=name, function=function, kinds=kinds or _ALL, takes_threshold=True)


def _of_positives(name: str, table: Values, *, negative: bool = False, error: bool = False) -> Metric:
    def function(found: Weighted) -> Floats:
        positive = found.cases.positive
        values = table(found)[:, 1 - positive if negative else positive]
        return 1 - values if error else values

    direction: Literal["max", "min"] = "min" if error else "max"
    return Metric(
        name=name, function=function, direction=direction, kinds=("two",), needs_threshold=True, takes_threshold=True
    )


_ONE: tuple[Kind, ...] = ("two", "many")
_SEVERAL: tuple[Kind, ...] = ("many", "labels")

_KNOWN = (
    Metric(name="loss", function=lambda found: found.mean("losses"), direction="min"),
    Metric(name="brier", function=lambda found: found.mean("briers"), direction="min"),
    Metric(name="ece", function=formulas.calibration_error, direction="min"),
    Metric(name="roc_auc", function=lambda found: macro(found.areas[0], found)),
    Metric(name="roc_auc_weighted", function=lambda found: weighted_by_class(found.areas[0], found), kinds=_SEVERAL),
    Metric(name="roc_auc_micro", function=lambda found: found.pooled_areas[0], kinds=("labels",)),
    Metric(name="average_precision", function=lambda found: macro(formulas.ranked_precision(found), found)),
    Metric(
        name="average_precision_weighted",
        function=lambda found: weighted_by_class(formulas.ranked_precision(found), found),
        kinds=_SEVERAL,
    ),
    Metric(name="average_precision_micro", function=lambda found: found.pooled_areas[1], kinds=("labels",)),
    Metric(name="eer", function=lambda found: found.areas[2][:, 0], direction="min", kinds=("two",)),
    *(Metric(name=f"top_{k}_accuracy", function=formulas.top(k), kinds=("many",), above=k) for k in (2, 3, 5)),
    _decided("accuracy", lambda found: found.mean("hits")),
    _decided("exact_match", lambda found: found.mean("whole_hits"), "labels"),
    _decided("balanced_accuracy", formulas.balanced_accuracy),
    _decided("f1_macro", lambda found: macro(found.f1, found)),
    _decided("f1_weighted", lambda found: weighted_by_class(found.f1, found)),
    _decided("precision_macro", lambda found: macro(formulas.precisions(found), found)),
    _decided("precision_weighted", lambda found: weighted_by_class(formulas.precisions(found), found)),
    _decided("recall_macro", lambda found: macro(found.recall, found), "labels"),
    _decided("recall_weighted", lambda found: weighted_by_class(found.recall, found), "labels"),
    *(_decided(f"{part}_micro", formulas.micro(part), "labels") for part in ("f1", "precision", "recall")),
    _decided("mcc", formulas.matthews, *_ONE),
    _decided("kappa", formulas.kappa, *_ONE),
    _decided("kappa_quadratic", formulas.quadratic_kappa, "many"),
    _of_positives("sensitivity", lambda found: found.recall),
    _of_positives("specificity", lambda found: found.recall, negative=True),
    _of_positives("ppv", lambda found: found.precision),
    _of_positives("npv", lambda found: found.precision, negative=True),
    _of_positives("f1", lambda found: found.f1),
    _of_positives("far", lambda found: found.recall, negative=True, error=True),
    _of_positives("frr", lambda found: found.recall, error=True),
    Metric(
        name="hter",
        function=formulas.hter,
        direction="min",
        kinds=("two",),
        needs_threshold=True,
        takes_threshold=True,
    ),
)

#: Every metric by name.
METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _KNOWN})

#: What is told of single classes, each from weighted records to (B, K); with two classes no areas.
CLASS_METRICS: Mapping[str, Values] = MappingProxyType(
    {
        "sensitivity": lambda found: found.recall,
        "ppv": lambda found: found.precision,
        "f1": lambda found: found.f1,
        "specificity": lambda found: found.spared,
        "npv": lambda found: found.negative_precision,
        "roc_auc": lambda found: found.areas[0],
        "average_precision": formulas.ranked_precision,
    }
)

#: What is told of single classes where records have several labels, whatever the threshold.
LABEL_METRICS: Mapping[str, Values] = MappingProxyType(
    {
        "prevalence": lambda found: ratio(found.counts[0], found.total[:, None]),
        "loss": lambda found: found.mean("label_losses"),
        "brier": lambda found: found.mean("label_briers"),
        "ece": lambda found: found.label_calibration,
        "roc_auc": lambda found: found.areas[0],
        "average_precision": formulas.ranked_precision,
        "eer": lambda found: found.areas[2],
    }
)

#: What is told of them at a threshold.
DECIDED_LABEL_METRICS: Mapping[str, Values] = MappingProxyType(
    {
        "sensitivity": lambda found: found.recall,
        "specificity": lambda found: found.spared,
        "ppv": lambda found: found.precision,
        "npv": lambda found: found.negative_precision,
        "f1": lambda found: found.f1,
    }
)


def _everyone(cases: Cases, _: int) -> Bools:
    return np.ones(len(cases.labels), dtype=np.bool_)


# The records that a share is a share of, for a class; metrics that are no share of records are not here.
_DENOMINATORS: Mapping[str, Callable[[Cases, int], Bools]] = MappingProxyType(
    {
        **dict.fromkeys(("accuracy", "exact_match", "prevalence"), _everyone),
        **{f"top_{k}_accuracy": _everyone for k in (2, 3, 5)},
        **dict.fromkeys(("sensitivity", "frr"), lambda cases, of: cases.actual(of)),
        **dict.fromkeys(("specificity", "far"), lambda cases, of: ~cases.actual(of)),
        "ppv": lambda cases, of: cases.called(of),
        "npv": lambda cases, of: ~cases.called(of),
    }
)

_SPANS = {
    "loss": (0.0, np.inf),
    "mcc": (-1.0, 1.0),
    "kappa": (-1.0, 1.0),
    "kappa_quadratic": (-1.0, 1.0),
}


def span(name: str, cases: Cases) -> tuple[float, float]:
    """Say between which values a metric lies.

    Args:
        name: The metric.
        cases: What it is of; the Brier score of more than two classes reaches 2.

    Returns:
        The least and the greatest value that intervals may reach.
    """
    if name == "brier" and cases.num_classes > 2 and not cases.multilabel:
        return 0.0, 2.0
    return _SPANS.get(name, (0.0, 1.0))


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


_WORDS: Mapping[Kind, str] = {"two": "two", "many": "more than two", "labels": "several labels a record"}


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
        whose = " or ".join(_WORDS[one] for one in found.kinds)
        whose = f"more than {found.above}" if found.above > 1 else whose
        raise ConfigError(f"'metric' must be one for {kind}, got {name!r}, which is for {whose}")
    weights = np.ones((1, len(cases.labels))) if weights is None else weights
    return found.function(Weighted(cases=cases, weights=weights))
