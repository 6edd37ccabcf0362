"""The order of the classes, and which of two is the positive one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from imgcls.core.errors import DataError, listing, nearest

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["class_order", "number_order", "positive_class", "text"]


def text(value: Any) -> str:
    """Write a label, group or split as text, without space around it.

    Args:
        value: Text or a number.

    Returns:
        The text; a whole number has no point, whatever its type.

    Examples:
        >>> text(" a "), text(2.0), text(2)
        ('a', '2', '2')
    """
    whole = isinstance(value, float | np.floating) and value.is_integer()
    return str(int(value) if whole else value).strip()


def number_order(labels: ArrayLike) -> list[str] | None:
    """Order labels that are numbers by their value; as words, 10 would come before 2.

    Args:
        labels: Labels (N,).

    Returns:
        The classes, or None where labels are words.
    """
    found = np.asarray(labels)
    return [str(label) for label in np.unique(found)] if found.dtype.kind in "iu" else None


def class_order(labels: pd.Series[str], classes: Sequence[str] | None) -> tuple[str, ...]:
    """Decide the order of the classes.

    Args:
        labels: The label of each record.
        classes: The order that the user wants, or None.

    Returns:
        The classes.

    Raises:
        DataError: if a label is not among the classes, or a class is named twice.
    """
    found = sorted(labels.unique())
    if classes is None:
        return tuple(found)
    order = tuple(classes)
    if len(set(order)) != len(order):
        raise DataError(f"'classes' must name each class once, got {list(order)!r}")
    unknown = [name for name in found if name not in order]
    if unknown:
        raise DataError(
            f"'classes' must name every label, got none for {listing(unknown)}; {nearest(unknown[0], order)}"
        )
    return order


def positive_class(labels: pd.Series[str], classes: Sequence[str], positive: str | None) -> str | None:
    """Decide the class of sensitivity, average precision and thresholds.

    Args:
        labels: The label of each record.
        classes: The classes in order.
        positive: What the user wants, or None.

    Returns:
        The user's class; without it, the rarer of two (the second where they tie); None
        for more than two classes.

    Raises:
        DataError: if the class is unknown or there are more than two.
    """
    if positive is not None and positive not in classes:
        raise DataError(f"'positive' must be a class, got {positive!r}; {nearest(positive, classes)}")
    if len(classes) != 2:
        if positive is not None:
            raise DataError(f"'positive' must be left out unless there are two classes, got {len(classes)}")
        return None
    first = int((labels == classes[0]).sum())
    return positive or (classes[0] if first < len(labels) - first else classes[1])
