"""Configurations as the flat tables of names and words that trackers keep."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

from imgcls.core.options import rejected

__all__ = ["flatten", "words"]


def flatten(value: Any, *, path: str = "") -> dict[str, str | int | float | bool]:
    """Write a configuration as one table.

    Args:
        value: Mappings, lists and scalars.
        path: Where they stand.

    Returns:
        Scalars by dotted path; a list of scalars, and what is empty, is written as JSON.

    Examples:
        >>> flatten({"head": {"depth": 1}, "stages": [{"lr": 0.1}], "size": [8, 8], "out": None})
        {'head.depth': 1, 'stages.0.lr': 0.1, 'size': '[8, 8]', 'out': 'null'}
    """
    if isinstance(value, str | int | float):
        return {path: value}
    if isinstance(value, Mapping) and value:
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        items = [(str(number), item) for number, item in enumerate(value)]
    else:
        return {path: json.dumps(value)}
    joined = {f"{path}.{key}" if path else key: item for key, item in items}
    return {name: found for at, item in joined.items() for name, found in flatten(item, path=at).items()}


def words(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    """Accept a mapping of words to words; a validator of fields.

    Args:
        field: The field.
        value: What was given.

    Raises:
        ConfigError: if it is something else.
    """
    good = isinstance(value, Mapping) and all(isinstance(item, str) for pair in value.items() for item in pair)
    if not good:
        raise rejected(field.name, "map words to words", value, "write numbers in quotes")
