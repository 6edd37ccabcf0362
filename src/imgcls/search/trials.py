"""What a study deals in: trials, their outcomes, and both together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import attrs
import numpy as np

from imgcls.core.options import choice, count, instance, optional, rejected
from imgcls.search.plain import plain_params

__all__ = ["DIRECTIONS", "Entry", "Outcome", "Trial"]

#: Which values are better: the larger or the smaller ones.
DIRECTIONS = ("maximize", "minimize")


@final
@attrs.frozen(kw_only=True)
class Trial:
    """One set of parameters to try.

    Attributes:
        number: Its place in the study, from 0.
        params: Values by dotted path, in the order in which they are applied.
        budget: How many epochs it may use; None for all.
    """

    number: int = attrs.field(validator=count(0))
    params: dict[str, Any] = attrs.field(converter=plain_params, validator=instance(dict))
    budget: int | None = attrs.field(default=None, validator=optional(count()))


# What is no number and no list of numbers is left for the validator.
def _values(values: Any) -> Any:
    many = values if isinstance(values, Sequence) and not isinstance(values, str) else [values]
    good = all(isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in many)
    return tuple(map(float, many)) if good else values


def _fitting_values(outcome: Outcome, field: attrs.Attribute[Any], values: Any) -> None:
    if outcome.state == "complete" and not (isinstance(values, tuple) and values):
        raise rejected(field.name, "be a number or numbers where the state is 'complete'", values)
    if outcome.state != "complete" and values != ():
        raise rejected(field.name, f"be left out where the state is {outcome.state!r}", values)


@final
@attrs.frozen
class Outcome:
    """How a trial ended.

    Args:
        state: `complete` or `failed`.
        values: What was reached, one number per direction of the study; NaN is allowed
            and never wins.
        reason: Why it failed, or a remark.

    Raises:
        ConfigError: if a complete trial has no values or a failed one has some.

    Examples:
        >>> Outcome("complete", values=0.93).values
        (0.93,)
        >>> Outcome("failed", reason="out of memory").values
        ()
    """

    state: str = attrs.field(validator=choice("complete", "failed"))
    values: tuple[float, ...] = attrs.field(default=(), kw_only=True, converter=_values, validator=_fitting_values)
    reason: str = attrs.field(default="", kw_only=True, validator=instance(str))


@final
@attrs.frozen(kw_only=True)
class Entry:
    """A trial of a study and how it ended.

    Attributes:
        trial: The trial.
        outcome: Its outcome; None while it is not finished.
    """

    trial: Trial = attrs.field(validator=instance(Trial))
    outcome: Outcome | None = attrs.field(default=None, validator=optional(instance(Outcome)))
