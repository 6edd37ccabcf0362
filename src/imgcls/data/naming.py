"""The order of the classes, and which of two is the positive one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from imgcls.core.errors import DataError, listing, nearest

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["class_order", "in_order", "positive_class", "text"]


#: A whole number as it is written without need of more; `007` is a name.
_WHOLE = re.compile(r"0|-?[1-9][0-9]*")


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


def in_order(names: Iterable[str]) -> list[str]:
    """Order names: whole numbers by value, since as words 10 comes before 2; else alphabetically.

    Args:
        names: The names.

    Returns:
        The names in order.

    Examples:
        >>> in_order(["10", "2"]), in_order(["10", "2", "x"]), in_order(["02", "10"])
        (['2', '10'], ['10', '2', 'x'], ['02', '10'])
    """
    found = sorted(names)
    numbers = all(_WHOLE.fullmatch(name) for name in found)
    return sorted(found, key=int) if numbers else found


def class_order(labels: Iterable[str], classes: Sequence[str] | None) -> tuple[str, ...]:
    """Decide the order of the classes.

    Args:
        labels: The distinct labels.
        classes: The order that the user wants, or None.

    Returns:
        The classes.

    Raises:
        DataError: if a label is not among the classes, a class is named twice, or there is none.
    """
    found = in_order(labels)
    if not found and not classes:
        raise DataError("'label' must name at least one class, got records without labels only")
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


def positive_class(
    labels: pd.Series[str], classes: Sequence[str], positive: str | None, *, multilabel: bool = False
) -> str | None:
    """Decide the class of sensitivity, average precision and thresholds.

    Args:
        labels: The label of each record.
        classes: The classes in order.
        positive: What the user wants, or None.
        multilabel: Whether a record may have several labels.

    Returns:
        The user's class; without it, the rarer of two (the second where they tie); None
        for more than two classes.

    Raises:
        DataError: if the class is unknown or there are more than two.
    """
    if positive is not None and positive not in classes:
        raise DataError(f"'positive' must be a class, got {positive!r}; {nearest(positive, classes)}")
    if len(classes) != 2 or multilabel:
        if positive is not None:
            got = "several labels a record" if multilabel else f"{len(classes)}"
            raise DataError(f"'positive' must be left out unless there are two classes, got {got}")
        return None
    first = int((labels == classes[0]).sum())
    return positive or (classes[0] if first < len(labels) - first else classes[1])
