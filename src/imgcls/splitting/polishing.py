"""Move units between parts, or let two change places, as long as that evens the parts out."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = ["polished"]

#: More units than this are not moved, more than this do not change places in pairs: many even out by themselves.
_MOVED, _SWAPPED = 2_000, 400

#: So many steps at most.
_STEPS = 200

#: A gain that is not rounding.
_GAIN = 1e-9

Floats = NDArray[np.float64]


def polished(parts: NDArray[np.int64], weights: Floats, shares: Floats) -> NDArray[np.int64]:
    """Even parts out by single moves and by exchanges of two units, the best one first.

    It ends where neither lowers the sum of squared deviations, each in proportion to the share of its part.

    Args:
        parts: The part of each unit, (G,).
        weights: What the units have of each class, in shares of its total, (G, K).
        shares: The share of each part (P,), summing to 1.

    Returns:
        The new part of each unit, (G,). No part has lost its last unit of a class. Where there are very many
        units, parts stay as they are.
    """
    polishing = _Polishing(weights=weights, shares=shares, parts=parts.copy())
    if 0 < len(parts) <= _MOVED:
        for _ in range(_STEPS):
            if not polishing.step():
                break
    return polishing.parts


@attrs.frozen(kw_only=True, eq=False)
class _Polishing:
    weights: Floats
    shares: Floats
    parts: NDArray[np.int64]

    def step(self) -> bool:
        excess = np.stack([self.weights[self.parts == part].sum(axis=0) for part in range(len(self.shares))])
        excess -= np.outer(self.shares, self.weights.sum(axis=0))
        toward, bound = 2 * excess @ self.weights.T, self._bound()
        changes = self._move(toward, bound)
        if not changes and len(self.parts) <= _SWAPPED:
            changes = self._swap(toward, bound)
        for unit, part in changes:
            self.parts[unit] = part
        return bool(changes)

    # Which units are the last ones of a class in their part.
    def _bound(self) -> NDArray[np.bool_]:
        has = self.weights > 0
        units = np.stack([has[self.parts == part].sum(axis=0) for part in range(len(self.shares))])
        return (has & (units == 1)[self.parts]).any(axis=1)

    # A part that gets a unit w changes by (2 excess w + w^2) / share, one that gives it by (-2 excess w + w^2) / share.
    def _move(self, toward: Floats, bound: NDArray[np.bool_]) -> list[tuple[int, int]]:
        own, square = toward[self.parts, np.arange(len(self.parts))], (self.weights**2).sum(axis=1)
        change = (toward + square) / self.shares[:, None] + (square - own) / self.shares[self.parts]
        change[self.parts, np.arange(len(self.parts))] = np.inf
        change[:, bound] = np.inf
        part, unit = divmod(int(change.argmin()), len(self.parts))
        return [(unit, part)] if change[part, unit] < -_GAIN else []

    # A part that gives unit a for unit b changes by (2 excess (b - a) + (b - a)^2) / share.
    def _swap(self, toward: Floats, bound: NDArray[np.bool_]) -> list[tuple[int, int]]:
        mine = toward[self.parts]
        square = ((self.weights[:, None] - self.weights) ** 2).sum(axis=-1)
        half = (mine - mine.diagonal()[:, None] + square) / self.shares[self.parts][:, None]
        change = half + half.T
        change[self.parts[:, None] == self.parts] = np.inf
        change[bound] = change[:, bound] = np.inf
        one, other = divmod(int(change.argmin()), len(self.parts))
        parts = int(self.parts[one]), int(self.parts[other])
        return [(one, parts[1]), (other, parts[0])] if change[one, other] < -_GAIN else []
