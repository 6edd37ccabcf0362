"""How much of a map lies in few pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from imgcls.evaluation.arrays import Floats, ratio

__all__ = ["entropy", "gini"]


def gini(maps: npt.NDArray[np.floating[Any]]) -> Floats:
    """Compute the Gini index of the sizes of relevance (Chalasani et al., ICML 2020).

    Args:
        maps: (N, H, W), finite.

    Returns:
        (N,) from 0 (all pixels equal) to nearly 1 (one pixel has all); NaN for maps of zeros.

    Examples:
        >>> gini(np.array([[[1.0, 1.0, 0.0, 0.0]]])).item()
        0.5
    """
    sizes = np.sort(_sizes(maps), axis=1)
    count = sizes.shape[1]
    ranks = 2 * np.arange(1, count + 1) - count - 1
    return ratio(sizes @ ranks.astype(np.float64), count * sizes.sum(axis=1))


def entropy(maps: npt.NDArray[np.floating[Any]]) -> Floats:
    """Compute the entropy of the shares of relevance, in nats (complexity; Bhatt et al., IJCAI 2020).

    Args:
        maps: (N, H, W), finite.

    Returns:
        (N,) from 0 (one pixel has all) to the logarithm of the number of pixels; NaN for maps of zeros.

    Examples:
        >>> entropy(np.array([[[1.0, 1.0, 0.0, 0.0]]])).round(4).item()
        0.6931
    """
    sizes = _sizes(maps)
    shares = ratio(sizes, np.broadcast_to(sizes.sum(axis=1, keepdims=True), sizes.shape))
    return -np.where(shares > 0, shares * np.log(np.where(shares > 0, shares, 1)), shares * 0).sum(axis=1)


def _sizes(maps: npt.NDArray[np.floating[Any]]) -> Floats:
    return np.abs(maps.reshape(len(maps), maps.shape[1] * maps.shape[2]).astype(np.float64))
