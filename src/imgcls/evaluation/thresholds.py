"""Thresholds of the positive class, or of each of several: fitted on validation, applied everywhere else."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import attrs
import numpy as np

from imgcls.core import options
from imgcls.core.errors import ConfigError, DataError, listing
from imgcls.evaluation.arrays import Bools, Floats
from imgcls.evaluation.by_record import record_intervals
from imgcls.evaluation.predictions import MEAN, Predictions
from imgcls.evaluation.rules import MIN_POSITIVES, RULES, Candidates, GivenRule, Rule, choose, parse_rule
from imgcls.evaluation.weighted import restoring

__all__ = [
    "MIN_POSITIVES",
    "RULES",
    "GivenRule",
    "Rule",
    "Threshold",
    "fit_thresholds",
    "model_of",
    "parse_rule",
    "values_for",
]


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
        achieved: What the rule is about, on these records: the F1, the sensitivity, the cost of a record, ...; None
            for a fixed threshold.
        class_name: The class that it is for, of several labels or of more than two classes; empty for the positive one
            of two.
        low: Where the threshold lies in 95 % of resamples of the groups (of records without groups): its own
            uncertainty, not that of what it decides. None where it is not known: a fixed threshold, a single group.
        high: The other end.
    """

    rule: str = attrs.field(converter=_canonical)
    value: float = attrs.field(validator=options.number(0, 1))
    model: str = attrs.field(validator=options.instance(str))
    num_records: int = attrs.field(validator=options.count())
    num_positives: int = attrs.field(validator=options.count(0))
    achieved: float | None = attrs.field(default=None, validator=options.optional(options.number()))
    class_name: str = attrs.field(default="", validator=options.instance(str))
    low: float | None = attrs.field(default=None, validator=options.optional(options.number(0, 1)))
    high: float | None = attrs.field(default=None, validator=options.optional(options.number(0, 1)))


def fit_thresholds(
    predictions: Predictions,
    *,
    model: str,
    rules: Sequence[GivenRule] = RULES,
    prior: Sequence[float] | None = None,
    minimum: int = 1,
    unfitted: Collection[str] = (),
    resamples: int = 200,
    seed: int = 0,
) -> tuple[Threshold, ...]:
    """Fit thresholds exactly, over all scores that occur.

    Args:
        predictions: Of the validation part.
        model: Whose scores these are: a fold's ("0", "1", ...) or "mean".
        rules: As `parse_rule` reads them.
        prior: (K,) how frequent the classes are in the population, as in `evaluate`.
        minimum: With fewer records of the positive class, or of the other one, a rule that is not forced is refused.
        unfitted: Of several labels those, too rare to fit anything on, whose threshold is 0.5 unless a rule is forced.
        resamples: How often groups are drawn for the uncertainty of each threshold; 0 leaves it out.
        seed: Of the draws.

    Returns:
        One per rule, whose spellings count once. With more than two classes one per class and rule with
        `every_class`, the class against the rest; none for other rules, since there the most probable class is taken.
        Of several labels one per rule and class; for a class without records it is 0.5, and `num_positives` is 0. What
        was not fitted has no `achieved`.

    Raises:
        DataError: if no record of two classes is positive, or too few are.
    """
    wanted = list(dict.fromkeys(map(parse_rule, rules)))
    fit = _Fitting(predictions=predictions, model=model, prior=prior, resamples=resamples, seed=seed, unfitted=unfitted)
    if predictions.positive_index is not None:
        _refuse_few(predictions, wanted, minimum)
        return tuple(fit.of_class(predictions.positive_index, "", wanted))
    if not predictions.multilabel:
        wanted = [rule for rule in wanted if rule.every_class]
    return tuple(t for at, name in enumerate(predictions.classes) for t in fit.of_class(at, name, wanted))


def _refuse_few(predictions: Predictions, rules: Sequence[Rule], minimum: int) -> None:
    positive = predictions.has(predictions.classes.index(str(predictions.positive)))
    fewest = int(min(positive.sum(), (~positive).sum()))
    if not positive.any():
        raise DataError(
            f"'predictions' must have records of the positive class {predictions.positive!r} to fit thresholds, "
            f"got none among {len(predictions)}; give the {predictions.split} part some"
        )
    if minimum > 1 and fewest < minimum and any(rule.kind != "fixed" and not rule.force for rule in rules):
        raise DataError(
            f"'predictions' must have at least {minimum} records of each class to fit thresholds, got {fewest} of one; "
            "name a number, or force the rule with {'name': ..., 'force': True}"
        )


@attrs.frozen(kw_only=True, eq=False)
class _Fitting:
    """What the thresholds of a model have in common."""

    predictions: Predictions
    model: str
    prior: Sequence[float] | None
    resamples: int
    seed: int
    unfitted: Collection[str]

    def of_class(self, index: int, class_name: str, rules: Sequence[Rule]) -> Iterator[Threshold]:
        positive = self.predictions.has(index)
        values = {rule: (rule.value, None, None, None) for rule in rules if rule.kind == "fixed"}
        fitted = [rule for rule in rules if rule.kind != "fixed" and (rule.force or class_name not in self.unfitted)]
        if positive.any() and fitted:
            values |= self._fit(index, positive, fitted)
        for rule in rules:
            value, achieved, low, high = values.get(rule, (0.5, None, None, None))
            yield Threshold(
                rule=rule.name,
                value=float(value or 0.0),
                model=self.model,
                num_records=len(self.predictions),
                num_positives=int(positive.sum()),
                achieved=achieved,
                class_name=class_name,
                low=low,
                high=high,
            )

    def _fit(self, index: int, positive: Bools, rules: Sequence[Rule]) -> dict[Rule, Any]:
        scores = self.predictions.probs[:, index]
        scale = restoring(self.predictions.labels, self.prior)
        scale = scale / scale[positive][0]  # a positive record counts 1, so that sums of them are exact
        whole = Candidates.of(scores, positive, scale[None])
        found = {rule: choose(whole, rule) for rule in rules}
        ends = self._ends(scores, positive, rules, scale)
        return {rule: (value.item(), achieved.item(), *ends[rule]) for rule, (value, achieved) in found.items()}

    def _ends(
        self, scores: Floats, positive: Bools, rules: Sequence[Rule], scale: Floats
    ) -> dict[Rule, tuple[float | None, float | None]]:
        def chosen(weights: Floats) -> Floats:
            candidates = Candidates.of(scores, positive, weights * scale)
            return np.stack([choose(candidates, rule)[0] for rule in rules], axis=1)

        low, high = record_intervals(
            chosen,
            num_records=len(scores),
            groups=self.predictions.groups,
            resamples=self.resamples,
            seed=self.seed,
        )
        pairs = zip(low.tolist(), high.tolist(), strict=True)
        ends = [(None, None) if math.isnan(first) else (first, last) for first, last in pairs]
        return dict(zip(rules, ends, strict=True))


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
        predictions: N records.
        thresholds: Fitted ones, of every model that made a prediction.
        rule: As `parse_rule` reads it; a number needs no fitted threshold.

    Returns:
        (N,) thresholds; of several labels, and of more than two classes, (N, K).

    Raises:
        ConfigError: if a model has no threshold of that rule.
    """
    wanted = parse_rule(rule)
    if predictions.positive is None:
        return np.stack([_values(predictions, thresholds, wanted, name) for name in predictions.classes], axis=1)
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
