"""Pixels filled in from their neighbours, so that what is removed leaves no shape behind.

Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods (ROAD), ICML 2022,
section 4.2: each removed pixel becomes the weighted mean of its eight neighbours, direct ones
with 1/6 and diagonal ones with 1/12, removed or not, which is a sparse linear system.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from imgcls.evaluation.arrays import Bools, Floats, Ints

__all__ = ["imputed"]

_OFFSETS = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if (row, column) != (0, 0)]


def imputed(image: npt.NDArray[np.floating[Any]], removed: Bools) -> Floats:
    """Fill in removed pixels.

    Args:
        image: (C, H, W).
        removed: (H, W) which pixels are filled in.

    Returns:
        (C, H, W); a constant image stays itself. Where every pixel is removed, the mean of each channel.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.linalg import splu

    filled = image.astype(np.float64)
    if not removed.any():
        return filled
    if removed.all():
        return np.broadcast_to(filled.mean(axis=(1, 2), keepdims=True), filled.shape).copy()
    number = np.where(removed, np.cumsum(removed.ravel()).reshape(removed.shape) - 1, -1)
    count = int(removed.sum())
    entries, known, total = _system(filled, number, count)
    rows, columns, values = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    diagonal = np.arange(count)
    system = coo_array(
        (np.concatenate([total, -values]), (np.concatenate([diagonal, rows]), np.concatenate([diagonal, columns]))),
        shape=(count, count),
    ).tocsc()
    # The system is symmetric, which this order of elimination needs and makes fast.
    solver = splu(system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    filled[:, removed] = solver.solve(known).T
    return filled


# The entries between removed pixels, what known neighbours give to each removed one, and its sum of weights.
def _system(image: Floats, number: Ints, count: int) -> tuple[list[tuple[Ints, Ints, Floats]], Floats, Floats]:
    height, width = number.shape
    entries, known, total = [], np.zeros((count, len(image))), np.zeros(count)
    for row, column in _OFFSETS:
        weight = 1 / 6 if 0 in {row, column} else 1 / 12
        here = slice(max(0, -row), height - max(0, row)), slice(max(0, -column), width - max(0, column))
        there = slice(max(0, row), height + min(0, row)), slice(max(0, column), width + min(0, column))
        own, other = number[here].ravel(), number[there].ravel()
        total[own[own >= 0]] += weight
        both, edge = (own >= 0) & (other >= 0), (own >= 0) & (other < 0)
        entries.append((own[both], other[both], np.full(both.sum(), weight)))
        known[own[edge]] += weight * image[:, *there].reshape(len(image), -1)[:, edge].T
    return entries, known, total
