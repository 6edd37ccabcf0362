"""What a study deals in: trials, their outcomes, and both together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import attrs
import numpy as np

from imgcls.core.options import choice, count, instance, optional, rejected
from imgcls.search.plain import plain, plain_params

__all__ = ["DIRECTIONS", "STATES", "Entry", "Outcome", "Trial"]

#: Which values are better: the larger or the smaller ones.
DIRECTIONS = ("maximize", "minimize")

#: How a trial can end: it was trained to its end; it was stopped, since others were better; its budget is used up,
#: and it may be given more; it raised an error; it had no memory; its loss or its value was not finite; its process
#: died.
STATES = ("complete", "pruned", "paused", "failed", "out_of_memory", "non_finite", "killed")

#: Those in which a trial has values.
_VALUED = STATES[:3]


def _notes(value: Any) -> Any:
    return plain(value, name="notes") if isinstance(value, Mapping) else value


@final
@attrs.frozen(kw_only=True)
class Trial:
    """One set of parameters to try.

    Attributes:
        number: Its place in the study, from 0.
        params: Values by dotted path, in the order in which they are applied.
        budget: How many epochs it may use, those that it had before included; None for all.
        notes: What its backend wants to remember of it; plain values.
    """

    number: int = attrs.field(validator=count(0))
    params: dict[str, Any] = attrs.field(converter=plain_params, validator=instance(dict))
    budget: int | None = attrs.field(default=None, validator=optional(count()))
    notes: dict[str, Any] = attrs.field(factory=dict, converter=_notes, validator=instance(dict))


# What is no number and no list of numbers is left for the validator.
def _values(values: Any) -> Any:
    many = values if isinstance(values, Sequence) and not isinstance(values, str) else [values]
    good = all(isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in many)
    return tuple(map(float, many)) if good else values


def _fitting_values(outcome: Outcome, field: attrs.Attribute[Any], values: Any) -> None:
    if outcome.state in _VALUED and not (isinstance(values, tuple) and values):
        raise rejected(field.name, f"be a number or numbers where the state is {outcome.state!r}", values)
    if outcome.state not in _VALUED and values != ():
        raise rejected(field.name, f"be left out where the state is {outcome.state!r}", values)


@final
@attrs.frozen
class Outcome:
    """How a trial ended.

    Args:
        state: One of `STATES`.
        values: What was reached, one number per direction of the study; NaN is allowed
            and never wins.
        constraints: By how much each limit is broken; 0 or less where it is kept.
        reason: Why it failed, or a remark.
        facts: What else is known of it; plain values.

    Raises:
        ConfigError: if a trial that ended well has no values or another one has some.

    Examples:
        >>> Outcome("complete", values=0.93).values
        (0.93,)
        >>> Outcome("failed", reason="out of memory").values
        ()
    """

    state: str = attrs.field(validator=choice(*STATES))
    values: tuple[float, ...] = attrs.field(default=(), kw_only=True, converter=_values, validator=_fitting_values)
    constraints: tuple[float, ...] = attrs.field(default=(), kw_only=True, converter=_values, validator=instance(tuple))
    reason: str = attrs.field(default="", kw_only=True, validator=instance(str))
    facts: dict[str, Any] = attrs.field(factory=dict, kw_only=True, converter=_notes, validator=instance(dict))

    @property
    def valued(self) -> bool:
        """Whether it has values."""
        return self.state in _VALUED

    @property
    def allowed(self) -> bool:
        """Whether it keeps all limits."""
        return all(excess <= 0 for excess in self.constraints)


@final
@attrs.frozen(kw_only=True)
class Entry:
    """A trial of a study and how it ended.

    Attributes:
        trial: The trial.
        outcome: Its outcome; None while it is not finished.
        reports: What it reported on its way, by step.
    """

    trial: Trial = attrs.field(validator=instance(Trial))
    outcome: Outcome | None = attrs.field(default=None, validator=optional(instance(Outcome)))
    reports: dict[int, float] = attrs.field(factory=dict, validator=instance(dict))
