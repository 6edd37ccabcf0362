"""The array types of this room, and division that knows shares of nothing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Bools", "Floats", "Ints", "Logits", "Texts", "ratio"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Logits = npt.NDArray[np.float32]
Texts = npt.NDArray[np.str_]


def ratio(part: Floats, whole: Floats) -> Floats:
    """Divide, with NaN for the share of nothing.

    Args:
        part: Any shape.
        whole: The same shape, or one that fits to it.

    Returns:
        part / whole, NaN where whole is 0.
    """
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
