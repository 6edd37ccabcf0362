"""Pixels in the order of their relevance, with equal ones treated as what they are: in no order.

Everything here is the expected value over all orders of equal pixels, so that no number depends on
the way in which an image is read. Masks say how much of each pixel lies inside; the numbers are
then those of the finer mask that was averaged to it.
"""

from __future__ import annotations

from typing import Self

import attrs
import numpy as np

from imgcls.evaluation.arrays import Floats, Ints, ratio

__all__ = ["Ranked"]


@attrs.frozen(kw_only=True, eq=False)
class Ranked:
    """Maps of B images as P pixels each, sorted by falling relevance.

    Attributes:
        values: (B, P) relevance, falling.
        inside: (B, P) how much of each pixel lies in the mask, 0 to 1.
        hits: (B, P + 1) the sum of `inside` over the first pixels: of none, of one, and so on.
        starts: (B, P) how many pixels have a higher relevance.
        ends: (B, P) how many have one as high or higher.
    """

    values: Floats
    inside: Floats
    hits: Floats
    starts: Ints
    ends: Ints

    @classmethod
    def of(cls, maps: Floats, masks: Floats) -> Self:
        """Sort.

        Args:
            maps: (B, P) relevance, finite.
            masks: (B, P) how much of each pixel lies inside.

        Returns:
            The sorted pixels.
        """
        order = np.argsort(-maps, axis=1, kind="stable")
        values, inside = np.take_along_axis(maps, order, axis=1), np.take_along_axis(masks, order, axis=1)
        count = values.shape[1]
        new = np.pad(values[:, 1:] != values[:, :-1], ((0, 0), (1, 1)), constant_values=True)
        places = np.arange(count + 1)
        starts = np.maximum.accumulate(np.where(new[:, :-1], places[:-1], 0), axis=1)
        ends = np.minimum.accumulate(np.where(new[:, 1:], places[1:], count)[:, ::-1], axis=1)[:, ::-1]
        hits = np.pad(np.cumsum(inside, axis=1), ((0, 0), (1, 0)))
        return cls(values=values, inside=inside, hits=hits, starts=starts, ends=ends)

    @property
    def sizes(self) -> Floats:
        """(B,) pixels inside each mask."""
        return self.hits[:, -1]

    def hits_among(self, first: Floats) -> Floats:
        """Count the expected pixels of the mask among the most relevant ones.

        Args:
            first: (B,) how many pixels are taken, fractions allowed.

        Returns:
            (B,) pixels.
        """
        last = np.clip(np.ceil(first).astype(np.int64) - 1, 0, None)[:, None]
        start, end = (np.take_along_axis(ends, last, axis=1) for ends in (self.starts, self.ends))
        before, after = (np.take_along_axis(self.hits, places, axis=1)[:, 0] for places in (start, end))
        share = (first - start[:, 0]) / (end - start)[:, 0]
        return before + share * (after - before)

    def rank_accuracy(self) -> Floats:
        """Compute which share of the most relevant pixels, as many as the mask has, lies inside it.

        Arras, Osman and Samek, CLEVR-XAI, Information Fusion 81, 2022.

        Returns:
            (B,) from 0 to 1, NaN for empty masks.
        """
        return ratio(self.hits_among(self.sizes), self.sizes)

    def pointing(self) -> Floats:
        """Compute the chance that the most relevant pixel lies inside; of equal ones, any.

        Zhang et al., Top-Down Neural Attention by Excitation Backprop, IJCV 126, 2018, without
        a margin around the mask.

        Returns:
            (B,) from 0 to 1, NaN for empty masks.
        """
        first = self.ends[:, :1]
        chance = np.take_along_axis(self.hits, first, axis=1)[:, 0] / first[:, 0]
        return np.where(self.sizes > 0, chance, np.nan)

    def average_precision(self) -> Floats:
        """Compute the mean precision over the pixels of the mask, as scikit-learn does.

        Returns:
            (B,) from 0 to 1, NaN for empty masks.
        """
        precision = np.take_along_axis(self.hits, self.ends, axis=1) / self.ends
        return ratio((self.inside * precision).sum(axis=1), self.sizes)

    def roc_auc(self) -> Floats:
        """Compute the chance that a pixel inside has more relevance than one outside; equal ones count half.

        Returns:
            (B,) from 0 to 1, NaN for empty masks and for masks of the whole image.
        """
        outside = np.arange(self.hits.shape[1]) - self.hits
        above = (np.take_along_axis(outside, self.starts, axis=1) + np.take_along_axis(outside, self.ends, axis=1)) / 2
        total = outside[:, -1]
        lower = (self.inside * (total[:, None] - above)).sum(axis=1)
        return ratio(lower, self.sizes * total)

    def at_least(self, cuts: Floats) -> tuple[Floats, Floats]:
        """Take the pixels whose relevance reaches a threshold.

        Args:
            cuts: (B,) thresholds.

        Returns:
            How many they are, and how many of them lie inside, two of (B,).
        """
        taken = (self.values >= cuts[:, None]).sum(axis=1)
        return taken.astype(np.float64), np.take_along_axis(self.hits, taken[:, None], axis=1)[:, 0]

    def otsu(self) -> Floats:
        """Find the threshold that divides each map into two parts that differ most (Otsu, 1979).

        Returns:
            (B,) the lowest relevance of the upper part; of all values, not of a histogram. NaN
            where all pixels are equal.
        """
        count = self.values.shape[1]
        sums = np.cumsum(self.values, axis=1)
        upper = self.ends[:, :-1]  # the upper part ends where equal pixels end
        lower = count - upper
        part = np.take_along_axis(sums, upper - 1, axis=1)
        gap = part / upper - (sums[:, -1:] - part) / np.maximum(lower, 1)
        best = np.argmax(upper * lower * gap**2, axis=1)[:, None]
        cuts = np.take_along_axis(self.values, best, axis=1)[:, 0]
        return np.where(self.values[:, 0] == self.values[:, -1], np.nan, cuts)
