"""Weights of classes, from their counts or as named, and what they make of the weights of records."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgcls.core import options
from imgcls.core.errors import ConfigError, listing, nearest

__all__ = [
    "check_weights",
    "class_counts",
    "class_sums",
    "effective_weights",
    "inverse_weights",
    "named_weights",
    "record_weights",
    "to_weights",
]


def class_counts(labels: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """Count the records of each class.

    Args:
        labels: Class indices (N,), or of several labels 1 for each class of a record, (N, K).
        num_classes: How many classes there are, K.

    Returns:
        Counts (K,).
    """
    return labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=num_classes)


def class_sums(labels: NDArray[np.int64], num_classes: int, values: NDArray[Any]) -> NDArray[np.float64]:
    """Sum a value of the records over each class.

    Args:
        labels: Class indices (N,), or of several labels 1 for each class of a record, (N, K).
        num_classes: How many classes there are, K.
        values: Values (N,).

    Returns:
        Sums (K,).
    """
    if labels.ndim == 2:
        return (values @ labels).astype(np.float64)
    return np.bincount(labels, weights=values, minlength=num_classes).astype(np.float64)


def inverse_weights(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weigh a class by one over its count.

    Args:
        counts: Counts (K,).

    Returns:
        Weights (K,); 0 for a class without records, which has nothing to weigh.
    """
    return np.where(counts > 0, 1.0 / np.maximum(counts, 1), 0.0)


def effective_weights(counts: NDArray[np.int64], beta: float) -> NDArray[np.float64]:
    """Weigh a class by one over its effective number of records, (1 - beta^n) / (1 - beta).

    Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", 2019, equation 2.

    Args:
        counts: Counts (K,).
        beta: From 0, which weighs all classes equally, to below 1, where the weights come near one
            over the count.

    Returns:
        Weights (K,); 0 for a class without records.
    """
    return np.where(counts > 0, (1 - beta) / (1 - beta ** np.maximum(counts, 1)), 0.0)


def named_weights(
    weights: Mapping[str, float], classes: Collection[str], *, needed: Collection[str], option: str
) -> NDArray[np.float64]:
    """Put weights that are given by name into the order of the classes.

    Args:
        weights: The weight of each class by its name.
        classes: The classes, in order.
        needed: The classes that must have one.
        option: What the weights are called, for messages.

    Returns:
        Weights (K,); 0 for a class that is neither needed nor named.

    Raises:
        ConfigError: if a name is no class, or a needed class has no weight.
    """
    for name in weights:
        if name not in classes:
            raise ConfigError(f"'{option}' must name classes, got {name!r}; {nearest(str(name), classes)}")
    missing = [name for name in needed if name not in weights]
    if missing:
        raise ConfigError(f"'{option}' must name every class, got none for {listing(missing)}")
    return np.array([weights.get(name, 0.0) for name in classes], dtype=np.float64)


def record_weights(
    labels: NDArray[np.int64], num_classes: int, weigh: Callable[[NDArray[np.int64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Weigh records by their classes.

    Of several labels a record has the mean of the weights of its labels; the records without a
    label count as one class more.

    Args:
        labels: Class indices (N,), or 1 for each class of a record, (N, K).
        num_classes: How many classes there are, K.
        weigh: Makes weights of counts, (K,) or (K + 1,).

    Returns:
        Weights (N,).
    """
    counts = class_counts(labels, num_classes)
    if labels.ndim == 1:
        return weigh(counts)[labels]
    own = labels.sum(axis=1)
    weights = weigh(np.append(counts, np.count_nonzero(own == 0)))
    return np.where(own > 0, labels @ weights[:-1] / np.maximum(own, 1), weights[-1])


def to_weights(value: Any) -> Any:
    """Convert what is given for weights of classes.

    Args:
        value: A mapping from class to weight, or anything else, which is left for the validator.

    Returns:
        The mapping with names that are words and numbers of Python.
    """
    if not isinstance(value, Mapping):
        return value
    return {str(name): weight.item() if isinstance(weight, np.generic) else weight for name, weight in value.items()}


def check_weights(name: str, value: Mapping[str, Any]) -> None:
    """Refuse weights of classes that no loss and no sampler could use.

    Args:
        name: The option.
        value: The weights.

    Raises:
        ConfigError: if one is negative or not finite, or all are 0.
    """
    if not all(map(_good, value.values())) or not any(value.values()):
        raise options.rejected(name, "be finite, 0 or more and not all 0", dict(value))


def _good(weight: Any) -> bool:
    return isinstance(weight, int | float) and not isinstance(weight, bool) and 0 <= weight < math.inf
