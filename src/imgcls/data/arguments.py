"""What users hand over to a set: of the right type, or refused by the name of the option."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgcls.core.errors import ConfigError, DataError, nearest
from imgcls.core.options import rejected
from imgcls.data.naming import text

__all__ = [
    "by_stem",
    "class_name",
    "class_names",
    "encoding",
    "expression",
    "path",
    "positions",
    "renames",
    "sign",
    "source",
    "threshold",
]


def path(option: str, value: Any) -> Path:
    """Take a path.

    Args:
        option: The name of the option.
        value: What was given.

    Returns:
        The path.

    Raises:
        ConfigError: if it is none.
    """
    if not isinstance(value, str | os.PathLike) or "\0" in str(value):
        raise rejected(option, "be a path", value)
    return Path(value)


def expression(value: Any) -> str | None:
    """Take the regular expression of groups.

    Args:
        value: What was given as `group`.

    Returns:
        The expression, or None.

    Raises:
        ConfigError: if it is no text.
    """
    if value is not None and not isinstance(value, str):
        raise rejected("group", "be a regular expression as text", value)
    return value


def sign(value: Any) -> str | None:
    """Take what stands between the columns of a table.

    Args:
        value: What was given as `delimiter`.

    Returns:
        One sign, or None.

    Raises:
        ConfigError: if it is something else, or quotes or ends lines.
    """
    if value is not None and not (isinstance(value, str) and len(value) == 1 and value not in '"\r\n'):
        raise rejected("delimiter", "be one sign", value)
    return value


def encoding(value: Any) -> str:
    """Take the name of an encoding.

    Args:
        value: What was given as `encoding`.

    Returns:
        The name.

    Raises:
        ConfigError: if it is no text.
    """
    if not isinstance(value, str):
        raise rejected("encoding", "be the name of an encoding", value)
    return value


def by_stem(match: Any) -> bool:
    """Take how images are named.

    Args:
        match: `path` or `stem`.

    Returns:
        Whether it is the stem.

    Raises:
        ConfigError: if it is something else.
    """
    if not isinstance(match, str) or match not in {"path", "stem"}:
        raise rejected("match", "be 'path' or 'stem'", match)
    return match == "stem"


def threshold(value: Any) -> float:
    """Take the value above which a pixel lies inside a mask.

    Args:
        value: What was given as `mask_threshold`.

    Returns:
        The value.

    Raises:
        ConfigError: if it is no finite number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise rejected("mask_threshold", "be a finite number", value)
    return float(value)


def class_names(classes: Any) -> list[str] | None:
    """Take the classes in their order.

    Args:
        classes: Text or numbers, or None.

    Returns:
        The names, or None.

    Raises:
        ConfigError: if it is no list of names.
    """
    if classes is None:
        return None
    if not isinstance(classes, Iterable) or isinstance(classes, str | bytes | Mapping | AbstractSet):
        raise rejected("classes", "be a list of names", classes)
    names = list(classes)
    if not all(map(_is_name, names)):
        raise rejected("classes", "be a list of names", names, "put each in quotes")
    return list(map(text, names))


def class_name(option: str, value: Any) -> str | None:
    """Take the name of a class.

    Args:
        option: The name of the option.
        value: Text or a number, or None.

    Returns:
        The name as text, or None.

    Raises:
        ConfigError: if it is no name; a truth value is none, since a class may be called `true`.
    """
    if value is not None and not _is_name(value):
        raise rejected(option, "be the name of a class", value, "put it in quotes")
    return None if value is None else text(value)


def _is_name(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, str | Real) and text(value) != ""


def renames(names: Any, classes: tuple[str, ...]) -> dict[str, str]:
    """Take the new names of classes.

    Args:
        names: New names by old ones.
        classes: The old classes.

    Returns:
        The new name of every class; those that are not renamed keep theirs.

    Raises:
        ConfigError: if it is no mapping, or a new name is no name.
        DataError: if an old name is unknown.
    """
    if not isinstance(names, Mapping) or not all(map(_is_name, names.values())):
        raise rejected("names", "give new names by old ones", names)
    new = {text(old): text(name) for old, name in names.items()}
    for old in new:
        if old not in classes:
            raise DataError(f"'names' must rename classes of the set, got {old!r}; {nearest(old, classes)}")
    return {name: new.get(name, name) for name in classes}


def positions(chosen: ArrayLike, count: int) -> NDArray[np.int64]:
    """Take a choice of records.

    Args:
        chosen: Positions (M,), or a mask (N,).
        count: How many records there are, N.

    Returns:
        The positions, (M,), each once.

    Raises:
        DataError: if they are no positions or a mask of another length, or one is repeated
            or out of range.
    """
    found = np.asarray(chosen)
    if found.dtype == np.bool_ and found.shape == (count,):
        return np.flatnonzero(found)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        got = f"{found.dtype} {found.shape}"
        raise DataError(f"'positions' must be whole numbers (M,) or a mask ({count},), got {got}")
    if found.size and (found.min() < 0 or found.max() >= count):
        raise DataError(f"'positions' must be from 0 to {count - 1}, got {found.min()} to {found.max()}")
    values, times = np.unique(found, return_counts=True)
    if len(values) < len(found):
        got = f"got {values[times > 1][0]} again; to draw some more often, give the Balancer a sampler"
        raise DataError(f"'positions' must name each record once, {got}")
    return found.astype(np.int64)


def source(
    options: Any, readers: Mapping[str, tuple[Callable[..., Any], str]]
) -> tuple[Callable[..., Any], Any, dict[str, Any]]:
    """Take the `data:` part of a configuration.

    Args:
        options: `from:` and the options of that reader.
        readers: The readers and the name of their first argument, by their names.

    Returns:
        The reader, its first argument and its options.

    Raises:
        ConfigError: if the reader or an option is unknown, or one that it needs is missing.
    """
    if not isinstance(options, Mapping):
        raise rejected("data", "be options by name", options)
    kind = options.get("from")
    if not isinstance(kind, str) or kind not in readers:
        raise ConfigError(f"'data.from' must name a reader, got {kind!r}; {nearest(str(kind), readers)}")
    reader, first = readers[kind]
    known = inspect.signature(reader).parameters
    for key in options.keys() - {"from"} - known.keys():
        raise ConfigError(f"'data.{key}' must be an option of {kind!r}; {nearest(str(key), known)}")
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in options:
            raise ConfigError(f"'data.{name}' must be given")
    return reader, options[first], {key: value for key, value in options.items() if key not in {"from", first}}
