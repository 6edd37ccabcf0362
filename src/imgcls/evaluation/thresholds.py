"""Thresholds of the positive class, or of each of several labels: fitted on validation, applied everywhere else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import attrs
import numpy as np

from imgcls.core import options
from imgcls.core.errors import ConfigError, DataError, listing, nearest
from imgcls.evaluation.arrays import Bools, Floats, Ints
from imgcls.evaluation.predictions import MEAN, Predictions
from imgcls.evaluation.weighted import restoring

__all__ = ["RULES", "Rule", "Threshold", "fit_thresholds", "model_of", "parse_rule", "values_for"]

#: The rules that are fitted where nothing else is asked for.
RULES = ("max_f1", "sensitivity>=0.95", "0.5")


@attrs.frozen(kw_only=True)
class Rule:
    """How a threshold is found.

    Attributes:
        kind: "max_f1", "sensitivity" or "fixed".
        value: The sensitivity to reach, or the threshold itself; None for max_f1.
    """

    kind: str
    value: float | None = None

    @property
    def name(self) -> str:
        """The one spelling of the rule: `max_f1`, `sensitivity>=0.95`, `0.5`."""
        return {"max_f1": "max_f1", "sensitivity": f"sensitivity>={self.value!r}"}.get(self.kind, repr(self.value))


def parse_rule(text: str | float, *, name: str = "rule") -> Rule:
    """Read a rule.

    Args:
        text: `max_f1`: the threshold of the best F1, the highest of equals.
            `sensitivity>=0.95`: the highest threshold that reaches the sensitivity, 0.95 if
            none is given. A number from 0 to 1: that threshold.
        name: The option that holds it, for messages.

    Returns:
        The rule.

    Raises:
        ConfigError: if it is none of them; with the nearest.

    Examples:
        >>> parse_rule("sensitivity").name
        'sensitivity>=0.95'
        >>> parse_rule(0.5).kind
        'fixed'
    """
    if text == "max_f1":
        return Rule(kind="max_f1")
    if found := re.fullmatch(r"sensitivity(?:\s*>=\s*([0-9.eE+-]+))?", str(text)):
        target = _number(found[1] or "0.95")
        if target is not None and 0 < target <= 1:
            return Rule(kind="sensitivity", value=target)
        raise options.rejected(name, "ask for a sensitivity above 0 and at most 1", text)
    value = _number(text)
    if value is None:
        raise options.rejected(name, "be a rule for thresholds", text, nearest(str(text), RULES))
    if not 0 <= value <= 1:
        raise options.rejected(name, "be a threshold from 0 to 1", text)
    return Rule(kind="fixed", value=value)


def _number(text: str | float) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _canonical(text: str | float) -> str:
    return parse_rule(text).name


@attrs.frozen(kw_only=True)
class Threshold:
    """A threshold and where it comes from.

    Attributes:
        rule: The rule that found it.
        value: A record is called positive if its score is at least this.
        model: Whose scores it is for: a fold's ("0", "1", ...) or "mean", the mean over folds.
        num_records: How many records it was fitted on.
        num_positives: How many of them are positive.
        achieved: What the rule is about, on these records: the F1 or the sensitivity; None for
            a fixed threshold.
        class_name: Of several labels the class that it is for; empty for the positive one of two.
    """

    rule: str = attrs.field(converter=_canonical)
    value: float = attrs.field(validator=options.number(0, 1))
    model: str = attrs.field(validator=options.instance(str))
    num_records: int = attrs.field(validator=options.count())
    num_positives: int = attrs.field(validator=options.count(0))
    achieved: float | None = attrs.field(default=None, validator=options.optional(options.number(0, 1)))
    class_name: str = attrs.field(default="", validator=options.instance(str))


@attrs.frozen(kw_only=True, eq=False)
class _Candidates:
    """Every threshold that can make a difference: the distinct scores, falling, with counts.

    A negative record counts `odds` times as much as a positive one.
    """

    values: Floats
    true: Ints
    false: Floats

    @classmethod
    def of(cls, scores: Floats, positive: Bools, odds: float) -> _Candidates:
        values, places = np.unique(-scores, return_inverse=True)
        called = np.cumsum(np.bincount(places, minlength=len(values)))
        true = np.cumsum(np.bincount(places[positive], minlength=len(values)))
        return cls(values=-values, true=true, false=(called - true) * np.float64(odds))


Found = tuple[float, float | None]


def _max_f1(found: _Candidates, _: Rule) -> Found:
    scores = 2 * found.true / (found.true + found.false + found.true[-1])
    best = int(scores.argmax())  # the first of equals, so the highest threshold
    return float(found.values[best]), float(scores[best])


def _sensitivity(found: _Candidates, rule: Rule) -> Found:
    reached = found.true / found.true[-1]
    first = int((reached >= rule.value).argmax())
    return float(found.values[first]), float(reached[first])


def _fixed(_: _Candidates, rule: Rule) -> Found:
    return float(rule.value or 0.0), None


# Nothing can be fitted on a class without records.
def _unfitted(_: _Candidates, __: Rule) -> Found:
    return 0.5, None


_FITS: Mapping[str, Callable[[_Candidates, Rule], Found]] = MappingProxyType(
    {
        "max_f1": _max_f1,
        "sensitivity": _sensitivity,
        "fixed": _fixed,
    }
)


def fit_thresholds(
    predictions: Predictions,
    *,
    model: str,
    rules: Sequence[str | float] = RULES,
    prior: Sequence[float] | None = None,
) -> tuple[Threshold, ...]:
    """Fit thresholds exactly, over all scores that occur.

    Args:
        predictions: Of the validation part.
        model: Whose scores these are: a fold's ("0", "1", ...) or "mean".
        rules: As `parse_rule` reads them.
        prior: (K,) how frequent the classes are in the population, as in `evaluate`.

    Returns:
        One per rule, whose spellings count once; none with more than two classes, where the most probable class is
        taken. Of several labels one per rule and class; for a class without records it is 0.5, and
        `num_positives` is 0.

    Raises:
        DataError: if no record of two classes is positive.
    """
    wanted = list(dict.fromkeys(map(parse_rule, rules)))
    if predictions.multilabel:
        each = enumerate(predictions.classes)
        return tuple(t for at, name in each for t in _of_class(predictions, at, wanted, model=model, class_name=name))
    if predictions.positive_index is None:
        return ()
    if not predictions.has(predictions.positive_index).any():
        raise DataError(
            f"'predictions' must have records of the positive class {predictions.positive!r} to fit thresholds, "
            f"got none among {len(predictions)}; give the {predictions.split} part some"
        )
    return tuple(_of_class(predictions, predictions.positive_index, wanted, prior=prior, model=model))


def _of_class(
    predictions: Predictions, index: int, rules: Sequence[Rule], *, prior: Sequence[float] | None = None, **named: str
) -> Iterator[Threshold]:
    positive = predictions.has(index)
    weights = restoring(predictions.labels, prior)
    odds = 1.0 if positive.all() or not positive.any() else weights[~positive][0] / weights[positive][0]
    candidates = _Candidates.of(predictions.probs[:, index], positive, float(odds))
    for rule in rules:
        fit = _FITS[rule.kind] if positive.any() or rule.kind == "fixed" else _unfitted
        value, achieved = fit(candidates, rule)
        yield Threshold(
            rule=rule.name,
            value=value,
            achieved=achieved,
            num_records=len(predictions),
            num_positives=int(positive.sum()),
            **named,
        )


def model_of(fold: int) -> str:
    """Name the model that a threshold belongs to.

    Args:
        fold: A fold, -1 for the mean over folds.

    Returns:
        "0", "1", ... or "mean".
    """
    return "mean" if fold == MEAN else str(fold)


def values_for(predictions: Predictions, thresholds: Sequence[Threshold], rule: str | float) -> Floats:
    """Find the threshold that each record is held against: its own model's.

    Args:
        predictions: Of two classes, or of several labels.
        thresholds: Fitted ones, of every model that made a prediction.
        rule: As `parse_rule` reads it; a number needs no fitted threshold.

    Returns:
        (N,) thresholds; of several labels (N, K).

    Raises:
        ConfigError: if a model has no threshold of that rule, or there are more than two classes, of which a record
            has one.
    """
    wanted = parse_rule(rule)
    if predictions.multilabel:
        return np.stack([_values(predictions, thresholds, wanted, name) for name in predictions.classes], axis=1)
    if predictions.positive is None:
        raise options.rejected("rule", f"be '' with {predictions.num_classes} classes", rule, "thresholds are for two")
    return _values(predictions, thresholds, wanted, "")


def _values(predictions: Predictions, thresholds: Sequence[Threshold], rule: Rule, class_name: str) -> Floats:
    if rule.kind == "fixed":
        return np.full(len(predictions), rule.value)
    known = {t.model: t.value for t in thresholds if t.rule == rule.name and t.class_name == class_name}
    folds, places = np.unique(predictions.fold, return_inverse=True)
    for model in map(model_of, folds):
        if model not in known:
            have = f"there are those of {listing(sorted(known))}" if known else "there are none of that rule"
            whose = f"{model!r} and class {class_name!r}" if class_name else f"{model!r}"
            raise ConfigError(f"'thresholds' must have {rule.name!r} of model {whose}; {have}")
    return np.array([known[model_of(fold)] for fold in folds])[places]
