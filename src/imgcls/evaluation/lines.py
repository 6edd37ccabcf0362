"""Which rows a table of metrics has, how much stands behind each, and why one may have no value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs
import numpy as np

from imgcls.evaluation.arrays import Bools, Floats, Ints
from imgcls.evaluation.formulas import at_prevalence
from imgcls.evaluation.metrics import CLASS_METRICS, DECIDED_LABEL_METRICS, LABEL_METRICS, METRICS, counted
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.weighted import Cases, Weighted

__all__ = ["Line", "Support", "lines_of", "measured", "reason"]

#: What is told of each of several labels.
_OF_LABELS: Mapping[str, Callable[[Weighted], Floats]] = {**LABEL_METRICS, **DECIDED_LABEL_METRICS}

#: Metrics of every record alike; the others depend on each class, so on the groups of the rarest one.
_OF_ALL = {"loss", "brier", "ece"}


@attrs.frozen(kw_only=True)
class Line:
    """One row of the table: which metric of what.

    Attributes:
        metric: Its name.
        threshold: The rule that decides; "" for none.
        of: A class; None for all.
        prevalence: Where the predictive value is to hold; None for the records at hand.
    """

    metric: str
    threshold: str = ""
    of: int | None = None
    prevalence: float | None = None

    @property
    def name(self) -> str:
        """As in the table: `ppv@0.01` is the predictive value at a prevalence of 0.01."""
        return self.metric if self.prevalence is None else f"{self.metric}@{self.prevalence:g}"


def lines_of(part: Predictions, rules: Sequence[str], prevalence: Sequence[float] = ()) -> list[Line]:
    """List the rows of predictions.

    Args:
        part: Predictions.
        rules: Threshold rules; the first is "".
        prevalence: Where predictive values of two classes are wanted besides.

    Returns:
        Rows of all classes without threshold, then at each, then those of single classes.
    """
    fitting = [metric for metric in METRICS.values() if metric.fits(part.num_classes, multilabel=part.multilabel)]
    lines = [Line(metric=metric.name) for metric in fitting if not metric.needs_threshold]
    for rule in rules[1:]:
        lines += [Line(metric=metric.name, threshold=rule) for metric in fitting if metric.takes_threshold]
        if part.positive is not None:
            lines += [Line(metric=name, threshold=rule, prevalence=p) for p in prevalence for name in ("ppv", "npv")]
    return lines + _class_lines(part, rules)


def _class_lines(part: Predictions, rules: Sequence[str]) -> list[Line]:
    if part.multilabel:
        names = [("", name) for name in LABEL_METRICS]
        names += [(rule, name) for rule in rules for name in DECIDED_LABEL_METRICS]
    else:  # what two classes say of one is what they say of the other
        doubled = {"roc_auc", "average_precision", "specificity", "npv"} if part.num_classes == 2 else set()
        names = [("", name) for name in CLASS_METRICS if name not in doubled]
    return [Line(threshold=rule, metric=name, of=at) for rule, name in names for at in range(part.num_classes)]


def measured(lines: Sequence[Line], found: Mapping[str, Weighted]) -> Floats:
    """Compute the value of every row.

    Args:
        lines: M rows.
        found: Of each threshold rule the weighted records.

    Returns:
        (B, M).
    """
    tables: dict[tuple[str, str], Floats] = {}
    return np.column_stack([_value(line, found[line.threshold], tables) for line in lines])


# A table of all classes serves the rows of each.
def _value(line: Line, found: Weighted, tables: dict[tuple[str, str], Floats]) -> Floats:
    if line.prevalence is not None:
        return at_prevalence(found, line.prevalence, negative=line.metric == "npv")
    if line.of is None:
        return METRICS[line.metric].function(found)
    key = line.threshold, line.metric
    if key not in tables:
        metrics = _OF_LABELS if found.cases.multilabel else CLASS_METRICS
        tables[key] = metrics[line.metric](found)
    return tables[key][:, line.of]


@attrs.frozen(kw_only=True, eq=False)
class Support:
    """What stands behind each of M rows.

    Attributes:
        shares: (M,) whether it is a share of records.
        records: (M,) of how many.
        groups: (M,) how many groups tell how it varies: those of the denominator of a share, else those of the rarest
            class, or of all for the loss and its like.
    """

    shares: Bools
    records: Ints
    groups: Ints

    @classmethod
    def of(cls, lines: Sequence[Line], cases: Sequence[Mapping[str, Cases]]) -> Support:
        """Count.

        Args:
            lines: M rows.
            cases: Of each repeat, and of each rule, the records.

        Returns:
            The support.
        """
        rarest = _rarest([each[""] for each in cases])
        rows = [_support(line, [each[line.threshold] for each in cases], rarest) for line in lines]
        shares, records, groups = (np.array(column) for column in zip(*rows, strict=True))
        return cls(shares=shares.astype(np.bool_), records=records, groups=groups)


def _support(line: Line, cases: Sequence[Cases], rarest: Ints) -> tuple[bool, int, int]:
    known = line.prevalence is None
    marks = [counted(line.metric, one, of=line.of) for one in cases] if known else []
    if any(mark.any() for mark in marks):
        owners = np.concatenate([one.owners[mark] for one, mark in zip(cases, marks, strict=True)])
        return True, sum(int(mark.sum()) for mark in marks) // len(marks), len(np.unique(owners))
    if line.metric in _OF_ALL:
        return False, len(cases[0].labels), len(np.unique(np.concatenate([one.owners for one in cases])))
    return False, len(cases[0].labels), int(rarest.min() if line.of is None else rarest[line.of])


# (K,) groups with a record of the class, or those with one of another, whichever are fewer.
def _rarest(cases: Sequence[Cases]) -> Ints:
    actual = sum(one.counts[0] for one in cases)
    totals = sum(one.summed("ones") for one in cases)
    others = np.asarray(totals)[:, None] - actual
    found: Ints = np.minimum((np.asarray(actual) > 0).sum(axis=0), (others > 1e-9).sum(axis=0))
    labels = cases[0].multilabel and (found > 0).any()
    return np.where(found > 0, found, found[found > 0].min()) if labels else found


def reason(line: Line, part: Predictions, counts: Mapping[int | None, int]) -> str:
    """Say why a row has no value.

    Args:
        line: The row.
        part: Predictions with its classes.
        counts: How many records there are of each class, and in all (None).

    Returns:
        The reason, such as "no record of class 'sick'".
    """
    asked = range(part.num_classes) if line.of is None else [line.of]
    absent = [part.classes[at] for at in asked if not counts[at]]
    whole = [part.classes[at] for at in asked if counts[at] == counts[None]]
    if absent and not (part.multilabel and line.of is None):
        return f"no record of class {', '.join(map(repr, absent))}"
    if whole:
        return f"every record is of class {', '.join(map(repr, whole))}"
    if line.metric in {"ppv", "npv"}:
        return "no record is decided so"
    return "not defined for these records"
