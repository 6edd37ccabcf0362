"""Options of transforms: a chance, and ranges that a number stands for as well."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs

from imgcls.core import options

__all__ = ["SEED", "UNIT", "Range", "around_one", "chance", "interval", "pair", "symmetric"]

Range = tuple[float, float]

UNIT: Range = (0.0, 1.0)
SEED: Range = (0.0, 2.0**24)  # a uniform of the table has 24 bits, so this is a whole number


def symmetric(value: Any) -> Any:
    """Read a number as the range around 0.

    Args:
        value: A number, a pair, or anything else, which is left for the validator.

    Returns:
        The range (-value, value), or the pair as a tuple.
    """
    return (-abs(value), abs(value)) if _is_number(value) else pair(value)


def around_one(value: Any) -> Any:
    """Read a number as the range of factors around 1.

    Args:
        value: A number, a pair, or anything else, which is left for the validator.

    Returns:
        The range (1 - value, 1 + value), or the pair as a tuple.
    """
    return (1 - abs(value), 1 + abs(value)) if _is_number(value) else pair(value)


def pair(value: Any) -> Any:
    """Read a number as the range that has only it.

    Args:
        value: A number, a pair, or anything else, which is left for the validator.

    Returns:
        The range (value, value), or the pair as a tuple.
    """
    if _is_number(value):
        return (value, value)
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def interval(low: float, high: float = math.inf) -> options.Validator:
    """Accept a range within limits.

    Args:
        low: The smallest allowed value.
        high: The largest allowed value.

    Returns:
        The validator.
    """
    ends = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of at least {low:g}"
    rule = f"be a number or a pair [low, high] {ends}"

    def check(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
        good = isinstance(value, tuple) and len(value) == 2 and all(map(_is_number, value))
        if good and value[0] > value[1]:
            raise options.rejected(field.name, rule, value, "put the lower number first")
        if not good or not low <= value[0] <= value[1] <= high:
            raise options.rejected(field.name, rule, value)

    return check


def chance(default: float = 0.5) -> Any:
    """Make the field `p` of a transform.

    Args:
        default: Its default.

    Returns:
        The field.
    """
    return attrs.field(default=default, validator=options.number(0, 1))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
