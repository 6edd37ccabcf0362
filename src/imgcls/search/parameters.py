"""The parameters of a search space: choices, ranges and fixed values, each with its condition."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping, Sequence
from typing import Any, final

import attrs
import numpy as np

from imgcls.core.options import count, instance, number, rejected
from imgcls.search.plain import canonical, plain

__all__ = ["Choice", "Fixed", "Float", "Int", "Parameter"]

#: Whole numbers up to here are exact as floats too.
_WHOLE = 2**53


def _unboxed(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _real(value: Any) -> Any:
    value = _unboxed(value)
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _whole_number(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _WHOLE:
        raise rejected(field.name, "be a whole number (and at most 2**53 in size)", value)


def _above_low(owner: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if value <= owner.low:
        raise rejected(field.name, f"be above 'low' ({owner.low!r})", value, "a single value is Fixed(value)")


def _log_range(owner: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if value and owner.low <= 0:
        rule = f"be False where 'low' ({owner.low!r}) is not above 0"
        raise rejected(field.name, rule, value, "raise 'low', since a logarithmic range has no zero in it")


def _fitting_step(owner: Any, field: attrs.Attribute[Any], value: Any) -> None:
    rest = (owner.high - owner.low) % value
    if rest:
        remedy = f"take high={owner.high - rest} or high={owner.high - rest + value}"
        raise rejected(field.name, f"lead from {owner.low} to {owner.high} in equal steps", value, remedy)
    if value != 1 and owner.log:
        raise rejected(field.name, "be 1 in a logarithmic range", value, "list the values in a Choice")


# What is no mapping is left for the validator.
def _conditions(when: Any) -> Any:
    if not isinstance(when, Mapping):
        return {} if when is None else when
    many = {str(path): values if isinstance(values, list | tuple) else [values] for path, values in when.items()}
    return {path: tuple(plain(values, name=f"when.{path}")) for path, values in many.items()}


def _some_conditions(_: Any, field: attrs.Attribute[Any], when: Any) -> None:
    if not isinstance(when, Mapping):
        raise rejected(field.name, "map other paths to the values under which this one is active", when)
    for path, values in when.items():
        if not values:
            raise rejected(f"{field.name}.{path}", "have at least one value", [])


@attrs.frozen(kw_only=True)
class Parameter(abc.ABC):
    """One option that is searched.

    Attributes:
        when: Under which values of other parameters it is active, by their paths; all
            entries must hold, and it is always active without any.
    """

    when: dict[str, tuple[Any, ...]] = attrs.field(default=None, converter=_conditions, validator=_some_conditions)

    @property
    @abc.abstractmethod
    def rule(self) -> str:
        """What a value must be, for messages."""

    @final
    def holds(self, value: Any) -> bool:
        """Say whether a value lies inside.

        Args:
            value: A plain value.

        Returns:
            Whether it does.
        """
        return self._holds(value)

    @final
    def listed(self, *, points: int | None = None) -> Sequence[Any] | None:
        """List the values.

        Args:
            points: How many values stand for a continuous or logarithmic range; None
                takes all whole numbers of a logarithmic range.

        Returns:
            The distinct values in order, or None where they are continuous.
        """
        return self._listed(points)

    @final
    def draw(self, rng: np.random.Generator) -> Any:
        """Draw a value.

        Args:
            rng: Where chance comes from.

        Returns:
            The value, uniform, or log-uniform in a logarithmic range.
        """
        return self._at(float(rng.random()))

    @final
    def at(self, share: float) -> Any:
        """Give the value below which so much of the range lies.

        Args:
            share: From 0 to 1.

        Returns:
            The value; equal parts of 0 to 1 are equally likely values.
        """
        return self._at(share)

    @abc.abstractmethod
    def _holds(self, value: Any) -> bool: ...

    @abc.abstractmethod
    def _listed(self, points: int | None) -> Sequence[Any] | None: ...

    @abc.abstractmethod
    def _at(self, share: float) -> Any: ...

    @abc.abstractmethod
    def _spec(self) -> dict[str, Any]:
        """Write the parameter without its condition."""

    @final
    def to_dict(self) -> dict[str, Any]:
        """Write the parameter as plain values.

        Returns:
            What `reading.parameter` reads.
        """
        when = {path: list(values) for path, values in self.when.items()}
        return {**self._spec(), **({"when": when} if when else {})}


def _distinct(_: Any, field: attrs.Attribute[Any], values: tuple[Any, ...]) -> None:
    if not values:
        raise rejected(field.name, "hold at least one choice", [])
    if len(values) == 1 and isinstance(values[0], list):
        remedy = "write Choice(a, b), or Fixed([a, b]) where the list is the value"
        raise rejected(field.name, "be given one by one", values[0], remedy)
    texts = [canonical(value) for value in values]
    twice = [value for index, value in enumerate(values) if texts[index] in texts[:index]]
    if twice:
        raise rejected(field.name, "differ from each other", list(values), f"remove the second {twice[0]!r}")


@final
@attrs.frozen(kw_only=True, init=False)
class Choice(Parameter):
    """One of several values, all equally likely.

    Args:
        *values: Plain values of any kind, also specs and lists.
        when: The condition, as in `Parameter`.

    Raises:
        ConfigError: if there is no value or one comes twice.

    Examples:
        >>> Choice("resnet18", {"name": "small-cnn", "base": 16}).holds("resnet18")
        True
    """

    values: tuple[Any, ...] = attrs.field(validator=_distinct)

    def __init__(self, *values: Any, when: Mapping[str, Any] | None = None) -> None:
        self.__attrs_init__(values=tuple(plain(value, name="values") for value in values), when=when)

    @property
    def rule(self) -> str:
        """What a value must be, for messages."""
        return "be one of " + ", ".join(map(repr, self.values))

    def _holds(self, value: Any) -> bool:
        return canonical(value) in map(canonical, self.values)

    def _listed(self, points: int | None) -> Sequence[Any]:  # noqa: ARG002
        return self.values

    def _at(self, share: float) -> Any:
        return self.values[_place(share, len(self.values))]

    def _spec(self) -> dict[str, Any]:
        return {"choice": list(self.values)}


@final
@attrs.frozen
class Float(Parameter):
    """A real number from `low` to `high`, both included.

    Args:
        low: The smallest value.
        high: The largest value.
        log: Whether all orders of magnitude are equally likely; needs `low` above 0.
        when: The condition, as in `Parameter`.

    Raises:
        ConfigError: if the range is empty, or logarithmic through zero.

    Examples:
        >>> [f"{value:g}" for value in Float(1e-4, 1e-2, log=True).listed(points=3)]
        ['0.0001', '0.001', '0.01']
    """

    low: float = attrs.field(converter=_real, validator=number())
    high: float = attrs.field(converter=_real, validator=[number(), _above_low])
    log: bool = attrs.field(default=False, kw_only=True, validator=[instance(bool), _log_range])

    @property
    def rule(self) -> str:
        """What a value must be, for messages."""
        return f"be a number from {self.low:g} to {self.high:g}"

    def _holds(self, value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high

    def _listed(self, points: int | None) -> Sequence[float] | None:
        if points is None:
            return None
        return list(dict.fromkeys(self._at(share) for share in np.linspace(0.0, 1.0, points)))

    def _at(self, share: float) -> float:
        return _between(self.low, self.high, float(share), log=self.log)

    def _spec(self) -> dict[str, Any]:
        return {"float": [self.low, self.high], **({"log": True} if self.log else {})}


def _place(share: float, count: int) -> int:
    return min(int(share * count), count - 1)


# Written so that wide ranges do not overflow and the ends are exact.
def _between(low: float, high: float, share: float, *, log: bool) -> float:
    if share in {0.0, 1.0}:
        return high if share else low
    ends = (math.log(low), math.log(high)) if log else (low, high)
    value = (1.0 - share) * ends[0] + share * ends[1]
    return min(max(math.exp(value) if log else value, low), high)


@final
@attrs.frozen
class Int(Parameter):
    """A whole number from `low` to `high`, both included.

    Args:
        low: The smallest value.
        high: The largest value.
        step: The distance of the values.
        log: Whether all orders of magnitude are equally likely; needs `low` above 0.
        when: The condition, as in `Parameter`.

    Raises:
        ConfigError: if the range is empty or logarithmic through zero, or if the step does not fit it.

    Examples:
        >>> list(Int(16, 64, step=16).listed())
        [16, 32, 48, 64]
        >>> list(Int(1, 100, log=True).listed(points=3))
        [1, 10, 100]
    """

    low: int = attrs.field(converter=_unboxed, validator=_whole_number)
    high: int = attrs.field(converter=_unboxed, validator=[_whole_number, _above_low])
    log: bool = attrs.field(default=False, kw_only=True, validator=[instance(bool), _log_range])
    step: int = attrs.field(default=1, kw_only=True, validator=[count(), _fitting_step])

    @property
    def rule(self) -> str:
        """What a value must be, for messages."""
        steps = f" in steps of {self.step}" if self.step > 1 else ""
        return f"be a whole number from {self.low} to {self.high}{steps}"

    def _holds(self, value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value in self._all

    def _listed(self, points: int | None) -> Sequence[int]:
        if points is None or not self.log:
            return self._all
        ends = (float(self.low), float(self.high))
        some = [round(_between(*ends, float(share), log=True)) for share in np.linspace(0.0, 1.0, points)]
        return list(dict.fromkeys(some))

    def _at(self, share: float) -> int:
        if not self.log:
            return self._all[_place(share, len(self._all))]
        value = round(_between(self.low - 0.5, self.high + 0.5, share, log=True))
        return min(max(value, self.low), self.high)

    @property
    def _all(self) -> range:
        return range(self.low, self.high + 1, self.step)

    def _spec(self) -> dict[str, Any]:
        options = {**({"step": self.step} if self.step > 1 else {}), **({"log": True} if self.log else {})}
        return {"int": [self.low, self.high], **options}


def _plain_value(value: Any) -> Any:
    return plain(value, name="value")


@final
@attrs.frozen
class Fixed(Parameter):
    """One value that all trials share.

    Args:
        value: A plain value, also a spec or a list.
        when: The condition, as in `Parameter`.

    Raises:
        ConfigError: if the value is not plain.
    """

    value: Any = attrs.field(converter=_plain_value)

    @property
    def rule(self) -> str:
        """What a value must be, for messages."""
        return f"be {self.value!r}"

    def _holds(self, value: Any) -> bool:
        return canonical(value) == canonical(self.value)

    def _listed(self, points: int | None) -> Sequence[Any]:  # noqa: ARG002
        return (self.value,)

    def _at(self, share: float) -> Any:  # noqa: ARG002
        return self.value

    def _spec(self) -> dict[str, Any]:
        return {"fixed": self.value}
