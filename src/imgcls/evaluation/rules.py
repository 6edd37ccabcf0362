"""How thresholds are found: rules, read from a word, a number or a spec, and exact over all scores that occur.

Each rule looks at every candidate of many resamples at once, so that the threshold and its uncertainty are one
computation. The highest of equals is taken.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import attrs
import numpy as np

from imgcls.core import options
from imgcls.core.errors import nearest
from imgcls.evaluation.arrays import Bools, Floats, Ints
from imgcls.evaluation.weighted import Ranking, ratio

__all__ = ["MIN_POSITIVES", "RULES", "Candidates", "GivenRule", "Rule", "choose", "parse_rule"]

#: The rules that are fitted where nothing else is asked for.
RULES = ("max_f1", "sensitivity>=0.95", "0.5")

#: Fewer validation records than this with, or without, the positive class fit no threshold that decides, unless forced.
MIN_POSITIVES = 5

#: Rules without a number, those with a target, and what each kind is called where a name is misspelt.
_PLAIN = ("max_f1", "youden", "min_hter", "eer")
_TARGETS = ("sensitivity", "specificity")
_KNOWN = (*_PLAIN, *(f"{name}>=0.95" for name in _TARGETS), "cost(fp=1,fn=5)", "0.5")

#: The options that the spec of a kind has beside its name.
_OPTIONS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        **dict.fromkeys(_PLAIN, frozenset[str]()),
        **dict.fromkeys(_TARGETS, frozenset({"at_least"})),
        "cost": frozenset({"fp", "fn", "matrix"}),
        "fixed": frozenset({"at"}),
    }
)

#: What every spec may have.
_ALWAYS = frozenset({"name", "force", "every_class"})

_NUMBER = r"([0-9.eE+-]+)"

#: Values that are no further apart are equal but for rounding.
_EQUAL = 1e-12


@attrs.frozen(kw_only=True)
class Rule:
    """How a threshold is found.

    Attributes:
        kind: "max_f1", "youden", "min_hter", "eer", "sensitivity", "specificity", "cost" or "fixed".
        value: The sensitivity or specificity to reach, or the threshold itself; else None.
        costs: What a false positive and what a false negative cost, of "cost" only.
        force: Whether it is fitted however few records there are.
        every_class: Whether each of more than two classes, of which a record has one, gets a threshold against the
            rest. Without it the most probable class is taken there.
    """

    kind: str
    value: float | None = None
    costs: tuple[float, float] | None = None
    force: bool = attrs.field(default=False, eq=False)
    every_class: bool = attrs.field(default=False, eq=False)

    @property
    def name(self) -> str:
        """The one spelling of the rule: `max_f1`, `sensitivity>=0.95`, `cost(fp=1.0,fn=5.0)`, `0.5`."""
        if self.kind == "cost":
            return "cost(fp={!r},fn={!r})".format(*self.costs or ())
        if self.kind in _TARGETS:
            return f"{self.kind}>={self.value!r}"
        return repr(self.value) if self.kind == "fixed" else self.kind


#: What `parse_rule` reads.
GivenRule = str | float | Mapping[str, Any] | Rule


def parse_rule(given: GivenRule, *, name: str = "rule") -> Rule:
    """Read a rule.

    Args:
        given: A rule, its name or its spec `{"name": ..., **options}`:

            - `max_f1`: the best F1.
            - `youden`: the greatest sensitivity + specificity - 1 (Youden 1950).
            - `min_hter`: the lowest mean of false acceptances and false rejections; it is the threshold of `youden`.
            - `eer`: where false acceptances and false rejections are most alike (equal error rate).
            - `sensitivity>=0.95`, or `{"name": "sensitivity", "at_least": 0.95}`: the highest threshold that reaches
              the sensitivity, 0.95 if none is given.
            - `specificity>=0.95`, likewise: the lowest threshold that reaches it.
            - `cost(fp=1,fn=5)`, or `{"name": "cost", "fp": 1, "fn": 5}`: the least cost, where a false positive
              costs 1 and a false negative 5; or `"matrix": [[0, 1], [5, 0]]`, whose rows are true and columns decided
              classes, the positive one last.
            - A number from 0 to 1, or `{"name": "fixed", "at": 0.5}`: that threshold.

            A spec may have `"force": True`.
        name: The option that holds it, for messages.

    Returns:
        The rule.

    Examples:
        >>> parse_rule("sensitivity").name
        'sensitivity>=0.95'
        >>> parse_rule({"name": "cost", "matrix": [[0, 1], [5, 0]]}).name
        'cost(fp=1.0,fn=5.0)'
        >>> parse_rule(0.5).kind
        'fixed'
    """
    if isinstance(given, Rule):
        return given
    return _of_spec(given, name) if isinstance(given, Mapping) else _of_text(given, name)


def _of_text(text: str | float, name: str) -> Rule:
    if text in _PLAIN:
        return Rule(kind=str(text))
    if found := re.fullmatch(rf"(sensitivity|specificity)(?:\s*>=\s*{_NUMBER})?", str(text)):
        return _target(found[1], _number(found[2] or "0.95"), text, name)
    if found := re.fullmatch(rf"cost\(\s*fp\s*=\s*{_NUMBER}\s*,\s*fn\s*=\s*{_NUMBER}\s*\)", str(text)):
        return _cost(_number(found[1]), _number(found[2]), text, name)
    value = _number(text)
    if value is None:
        raise options.rejected(name, "be a rule for thresholds", text, nearest(str(text), _KNOWN))
    return _fixed_at(value, text, name)


def _of_spec(spec: Mapping[str, Any], name: str) -> Rule:
    kind = str(spec.get("name"))
    if kind not in _OPTIONS:
        raise options.rejected(f"{name}.name", "be a rule for thresholds", kind, nearest(kind, _OPTIONS))
    for key in spec:
        if key not in _OPTIONS[kind] | _ALWAYS:
            known = nearest(str(key), _OPTIONS[kind] | {"force"})
            raise options.rejected(f"{name}.{key}", f"be an option of {kind}", spec[key], known)
    flags = {key: spec.get(key, False) for key in _ALWAYS - {"name"}}
    for key, value in flags.items():
        if not isinstance(value, bool):
            raise options.rejected(f"{name}.{key}", "be True or False", value)
    return attrs.evolve(_of_options(kind, spec, name), **flags)


def _of_options(kind: str, spec: Mapping[str, Any], name: str) -> Rule:
    if kind in _TARGETS:
        return _target(kind, _number(spec.get("at_least", 0.95)), spec.get("at_least"), name)
    if kind == "fixed":
        return _fixed_at(_number(spec.get("at", 0.5)), spec.get("at"), name)
    if kind == "cost":
        return _cost(*_costs(spec, name), spec, name)
    return Rule(kind=kind)


# Only what a mistake costs more than the right decision matters.
def _costs(spec: Mapping[str, Any], name: str) -> tuple[float | None, float | None]:
    if "matrix" not in spec:
        return _number(spec.get("fp", 1)), _number(spec.get("fn", 1))
    table = np.asarray(spec["matrix"], dtype=np.float64)
    if table.shape != (2, 2) or {"fp", "fn"} & spec.keys():
        raise options.rejected(f"{name}.matrix", "be [[TN, FP], [FN, TP]] without 'fp' and 'fn'", spec["matrix"])
    return float(table[0, 1] - table[0, 0]), float(table[1, 0] - table[1, 1])


def _target(kind: str, value: float | None, given: object, name: str) -> Rule:
    if value is None or not 0 < value <= 1:
        raise options.rejected(name, f"ask for a {kind} above 0 and at most 1", given)
    return Rule(kind=kind, value=value)


def _cost(fp: float | None, fn: float | None, given: object, name: str) -> Rule:
    if fp is None or fn is None or not (0 < fp < math.inf and 0 < fn < math.inf):
        raise options.rejected(name, "have costs above 0 of a false positive and of a false negative", given)
    return Rule(kind="cost", costs=(fp, fn))


def _fixed_at(value: float | None, given: object, name: str) -> Rule:
    if value is None or not 0 <= value <= 1:
        raise options.rejected(name, "be a threshold from 0 to 1", given)
    return Rule(kind="fixed", value=value)


def _number(text: Any) -> float | None:
    try:
        return None if isinstance(text, bool) else float(text)
    except (ValueError, TypeError):
        return None


@attrs.frozen(kw_only=True, eq=False)
class Candidates:
    """Every threshold that can make a difference, falling, with what it calls positive under B sets of weights.

    The first one calls nothing positive, unless a score is 1, since no threshold is above that.

    Attributes:
        values: (U,) the thresholds: the distinct scores, and one above them.
        true: (B, U) positive records that are called so.
        false: (B, U) other records that are.
    """

    values: Floats
    true: Floats
    false: Floats

    @classmethod
    def of(cls, scores: Floats, positive: Bools, weights: Floats) -> Candidates:
        """Count what each threshold calls positive.

        Args:
            scores: (N,) from 0 to 1.
            positive: (N,) which records are positive.
            weights: (B, N) how much each record counts.

        Returns:
            The candidates.
        """
        ranking = Ranking.of(scores, positive)
        ranked = np.take(weights, ranking.order, axis=1)
        true = np.cumsum(ranked * ranking.hits, axis=1)[:, ranking.ends]
        false = np.cumsum(ranked * ~ranking.hits, axis=1)[:, ranking.ends]
        values = scores[ranking.order][ranking.ends]
        if values[0] < 1:
            values = np.append(np.nextafter(values[0], 1), values)
            true, false = (np.pad(counts, ((0, 0), (1, 0))) for counts in (true, false))
        return cls(values=values, true=true, false=false)

    @functools.cached_property
    def found(self) -> Floats:
        """(B, U) the share of positive records that are called so: sensitivity; NaN without any."""
        return ratio(self.true, np.broadcast_to(self.true[:, -1:], self.true.shape))

    @functools.cached_property
    def alarmed(self) -> Floats:
        """(B, U) the share of other records that are called positive: one minus specificity; 0 without any."""
        return self.false / np.where(self.false[:, -1:] > 0, self.false[:, -1:], 1)


#: From candidates to the place of the chosen one (B,) and what the rule is about there (B,).
Choice = tuple[Ints, Floats]


# The first of those that are equal but for rounding, so the highest threshold.
def _highest(values: Floats) -> Choice:
    best = (values >= values.max(axis=1, keepdims=True) - _EQUAL).argmax(axis=1)
    return best, _at(values, best)


def _at(values: Floats, places: Ints) -> Floats:
    return np.take_along_axis(values, places[:, None], axis=1)[:, 0]


def _max_f1(found: Candidates, _: Rule) -> Choice:
    return _highest(2 * found.true / np.maximum(found.true + found.false + found.true[:, -1:], 1e-300))


def _youden(found: Candidates, _: Rule) -> Choice:
    return _highest(found.found - found.alarmed)


# The same places as those of Youden, to the last bit.
def _min_hter(found: Candidates, rule: Rule) -> Choice:
    places, index = _youden(found, rule)
    return places, (1 - index) / 2


def _eer(found: Candidates, _: Rule) -> Choice:
    rejected = 1 - found.found
    places = _highest(-np.abs(found.alarmed - rejected))[0]
    return places, _at((found.alarmed + rejected) / 2, places)


def _sensitivity(found: Candidates, rule: Rule) -> Choice:
    places = (found.found >= _value(rule)).argmax(axis=1)
    return places, _at(found.found, places)


def _specificity(found: Candidates, rule: Rule) -> Choice:
    spared = 1 - found.alarmed
    reached = spared >= _value(rule)
    last = np.where(reached.any(axis=1), reached.shape[1] - 1 - reached[:, ::-1].argmax(axis=1), 0)
    called = found.true + found.false  # a score that a resample lacks is no candidate of it
    places = (called >= _at(called, last)[:, None]).argmax(axis=1)
    return places, _at(spared, places)


def _least_cost(found: Candidates, rule: Rule) -> Choice:
    fp, fn = rule.costs or (1.0, 1.0)
    total = found.true[:, -1:] + found.false[:, -1:]
    costs = (fp * found.false + fn * (found.true[:, -1:] - found.true)) / np.maximum(total, 1e-300)
    places = _highest(-costs)[0]
    return places, _at(costs, places)


def _value(rule: Rule) -> float:
    assert rule.value is not None, "parse_rule gives one"
    return rule.value


_CHOICES: Mapping[str, Callable[[Candidates, Rule], Choice]] = MappingProxyType(
    {
        "max_f1": _max_f1,
        "youden": _youden,
        "min_hter": _min_hter,
        "eer": _eer,
        "sensitivity": _sensitivity,
        "specificity": _specificity,
        "cost": _least_cost,
    }
)


def choose(candidates: Candidates, rule: Rule) -> tuple[Floats, Floats]:
    """Apply a rule that is fitted to many resamples.

    Args:
        candidates: Of B resamples.
        rule: Any but a fixed one.

    Returns:
        The thresholds (B,), NaN where no record is positive, and what the rule is about there (B,).
    """
    places, achieved = _CHOICES[rule.kind](candidates, rule)
    blind = candidates.true[:, -1] <= 0
    return np.where(blind, np.nan, candidates.values[places]), achieved
