"""Plain values (strings, numbers, booleans, None, lists, mappings) and their one canonical text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from imgcls.core.dumping import dump
from imgcls.core.options import rejected

__all__ = ["canonical", "plain", "plain_params"]


def plain(value: Any, *, name: str) -> Any:
    """Copy a value as what JSON can hold.

    Args:
        value: Plain values, numpy scalars, attrs values and registered plugins.
        name: The option that holds it, for messages.

    Returns:
        An independent copy; tuples are lists, plugins are specs.

    Raises:
        ConfigError: if a part of it could not be written to a file and read again.
    """
    try:
        copy = json.loads(json.dumps(dump(value), allow_nan=False))
    except ValueError:  # a number that is not finite
        copy = {"opaque": repr(value)}
    if _is_opaque(copy):
        remedy = "use strings, finite numbers, booleans, None, lists and mappings"
        raise rejected(name, "hold plain values", value, remedy)
    return copy


def _is_opaque(value: Any) -> bool:
    if isinstance(value, Mapping):
        return set(value) == {"opaque"} or any(map(_is_opaque, value.values()))
    return isinstance(value, list) and any(map(_is_opaque, value))


def plain_params(params: Any) -> Any:
    """Copy the parameters of a trial; anything but a mapping is left for the validator.

    Args:
        params: Values by path.

    Returns:
        The independent copy.
    """
    return plain(params, name="params") if isinstance(params, Mapping) else params


def canonical(value: Any) -> str:
    """Write a plain value so that equal values, and no others, give equal text.

    Args:
        value: The plain value.

    Returns:
        JSON with sorted keys; 1.0 reads 1, whereas True stays apart from 1.

    Examples:
        >>> canonical({"b": 1.0, "a": True})
        '{"a":true,"b":1}'
    """
    same = json.loads(json.dumps(value), parse_float=_number)
    return json.dumps(same, sort_keys=True, separators=(",", ":"))


def _number(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() else number
