"""A few of many, evenly spaced."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["evenly"]


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """Choose positions among so many, evenly spaced, the first and the last among them.

    Args:
        count: How many there are.
        most: How many are chosen at most.

    Returns:
        Positions from 0 to `count - 1`, ascending, each once.

    Examples:
        >>> evenly(10, 4).tolist()
        [0, 3, 6, 9]
        >>> evenly(3, 4).tolist()
        [0, 1, 2]
    """
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64))
