"""Validators and converters of option fields; their messages name the option and the rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from imgcls.core.errors import ConfigError, nearest

__all__ = [
    "Validator",
    "choice",
    "count",
    "fraction",
    "instance",
    "number",
    "optional",
    "rejected",
    "seed",
    "several",
    "texts",
]

Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def rejected(name: str, rule: str, value: object, remedy: str = "") -> ConfigError:
    """Make the error for a wrong option.

    Args:
        name: The option.
        rule: What it must be, such as `be a number above 0`.
        value: What it was.
        remedy: What to do, where that is not plain.

    Returns:
        The error, to be raised.
    """
    return ConfigError(f"'{name}' must {rule}, got {value!r}" + (f"; {remedy}" if remedy else ""))


def number(low: float = -math.inf, high: float = math.inf, *, above: bool = False, below: bool = False) -> Validator:
    """Accept a finite number in a range.

    Args:
        low: The smallest allowed value.
        high: The largest allowed value.
        above: Whether `low` itself is refused.
        below: Whether `high` itself is refused.

    Returns:
        The validator.
    """
    rule = "be a number" + _range(low, high, above=above, below=below)

    def check(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
        good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not good or value < low or value > high or (above and value == low) or (below and value == high):
            raise rejected(field.name, rule, value)

    return check


def _range(low: float, high: float, *, above: bool, below: bool) -> str:
    parts = []
    if low > -math.inf:
        parts.append(f"{'above' if above else 'of at least'} {low:g}")
    if high < math.inf:
        parts.append(f"{'below' if below else 'at most'} {high:g}")
    return " " + " and ".join(parts) if parts else ""


def fraction() -> Validator:
    """Accept a share between 0 and 1, both excluded.

    Returns:
        The validator.
    """
    return number(0, 1, above=True, below=True)


def count(low: int = 1) -> Validator:
    """Accept a whole number of at least `low`.

    Args:
        low: The smallest allowed value.

    Returns:
        The validator.
    """

    def check(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise rejected(field.name, f"be a whole number of at least {low}", value)

    return check


def seed() -> Validator:
    """Accept a seed: a whole number of at least 0 and below 2**63.

    Returns:
        The validator.
    """

    def check(owner: Any, field: attrs.Attribute[Any], value: Any) -> None:
        count(0)(owner, field, value)
        if value >= 2**63:
            raise rejected(field.name, "be below 2**63", value)

    return check


def choice(*options: str) -> Validator:
    """Accept one of several words.

    Args:
        *options: The words.

    Returns:
        The validator.
    """

    def check(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, str) or value not in options:
            remedy = nearest(str(value), options)
            raise rejected(field.name, "be one of " + ", ".join(map(repr, options)), value, remedy)

    return check


def instance(*kinds: type) -> Validator:
    """Accept instances of given types (a bool is no int here).

    Args:
        *kinds: The types.

    Returns:
        The validator.
    """
    rule = "be " + " or ".join(_article(kind.__name__) for kind in kinds)

    def check(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise rejected(field.name, rule, value)

    return check


def _article(word: str) -> str:
    return f"an {word}" if word[0].lower() in "aeiou" else f"a {word}"


def several(kind: type) -> Validator:
    """Accept a tuple of at least one instance of a type.

    Args:
        kind: The type.

    Returns:
        The validator.
    """

    def check(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, tuple) or not value or not all(isinstance(item, kind) for item in value):
            raise rejected(field.name, f"be a list of at least one {kind.__name__}", value)

    return check


def optional(validator: Validator) -> Validator:
    """Accept None as well.

    Args:
        validator: The rule for anything else.

    Returns:
        The validator.
    """

    def check(owner: Any, field: attrs.Attribute[Any], value: Any) -> None:
        if value is not None:
            validator(owner, field, value)

    return check


def texts(value: Any) -> Any:
    """Turn a list of words into a tuple; anything else is left for the validator.

    Args:
        value: What was given.

    Returns:
        The tuple, or the value itself.
    """
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
