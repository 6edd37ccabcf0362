"""Whether a model decides by what lies beside the subject: a marker in a corner, a margin, a text.

Lapuschkin et al., Unmasking Clever Hans predictors and assessing what machines really learn, Nature
Communications 10, 2019; DeGrave, Janizek and Lee, AI for radiographic COVID-19 detection selects shortcuts
over signal, Nature Machine Intelligence 3, 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import numpy.typing as npt

from imgcls.core import options
from imgcls.core.errors import DataError
from imgcls.evaluation.arrays import Bools, Floats, ratio
from imgcls.explain.attributions import Attributions
from imgcls.explain.mask_scores import fit_masks
from imgcls.explain.regions import border, margins, text_like
from imgcls.explain.score_tables import summary

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ShortcutCheck", "Shortcuts"]

#: How each region is called in a warning.
_WORDS = {
    "outside": "outside the plausible region",
    "border": "in the band along the border",
    "margin": "in margins of one colour",
    "text": "in what looks like text or signs",
}


@attrs.frozen(kw_only=True, eq=False)
class Shortcuts:
    """What a shortcut check found.

    Attributes:
        rows: A row an image: `class`, where known `group`, and for each region its share of the
            relevance, such as `border`, and of the image, `border_area`; NaN where it is not in the image.
        table: By class and region: `class`, `region`, `share` (mean over images that have it),
            `low`, `high` (95 %), `area`, `gain` (share / area), `n`, `warns`.
    """

    rows: pd.DataFrame
    table: pd.DataFrame

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence for each class that is decided by what it should not be."""
        found = self.table[self.table["warns"]]
        return tuple(
            f"'{row['class']}' is decided {_WORDS[row['region']]}: {row['share']:.0%} of its relevance lies there "
            f"({row['low']:.0%} to {row['high']:.0%}), on {row['area']:.0%} of the image"
            for row in found.to_dict("records")
        )


def _box(value: Any) -> Any:
    return tuple(map(float, value)) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _check_box(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    good = isinstance(value, tuple) and len(value) == 4 and all(0 <= part <= 1 for part in value)
    if not good or not (value[0] < value[2] and value[1] < value[3]):
        raise options.rejected(field.name, "be (top, left, bottom, right) as shares of the image, 0 to 1", value)


@attrs.frozen(kw_only=True)
class ShortcutCheck:
    """A check of where the relevance of each class lies.

    Regions are the band along the border, margins of one colour, what looks like text, and what
    lies outside the plausible region, where that is known. A class warns where the mean share
    of its positive relevance in a region is at least `share`, and its 95 % interval lies above the
    share of the area, which a map that says nothing would have.

    Attributes:
        box: The plausible region as (top, left, bottom, right), shares of the image from 0 to 1;
            None where masks say it, or nothing does.
        share: From which share of the relevance a region decides.
        width: Width of the band along the border, as a share of each side.
    """

    box: tuple[float, float, float, float] | None = attrs.field(
        default=None, converter=attrs.converters.optional(_box), validator=options.optional(_check_box)
    )
    share: float = attrs.field(default=0.5, validator=options.fraction())
    width: float = attrs.field(default=0.1, validator=options.number(0, 0.5, above=True, below=True))

    def check(
        self,
        found: Attributions,
        images: npt.NDArray[np.unsignedinteger[Any]],
        classes: Sequence[str],
        *,
        masks: npt.ArrayLike | None = None,
        groups: npt.ArrayLike | None = None,
        resamples: int = 1000,
        seed: int = 0,
    ) -> Shortcuts:
        """Measure where the relevance lies.

        Args:
            found: The maps (N) of the classes in their `target`.
            images: (N, H, W, C) the pixels that were explained.
            classes: The names of the classes.
            masks: (N, h, w) the plausible region of each image; one that is empty says nothing
                of its image.
            groups: (N,) the group of each image, or None.
            resamples: How often groups are drawn for the intervals.
            seed: Of the draws.

        Returns:
            Shares by image and by class, with warnings.

        Raises:
            DataError: if maps, images and masks do not fit together.
        """
        import pandas as pd

        if images.shape[:3] != found.maps.shape:
            raise DataError(f"'images' must be those of the maps, {found.maps.shape}, got {images.shape[:3]}")
        regions = self._regions(images, masks)
        relevance = np.maximum(found.maps.astype(np.float64), 0)
        total = np.where(found.valid, relevance.sum(axis=(1, 2)), 0)
        columns: dict[str, Any] = {"class": np.asarray(classes)[found.target]}
        if groups is not None:
            columns["group"] = np.asarray(groups)
        for name, region in regions.items():
            area = region.mean(axis=(1, 2))
            there = (area > 0) & (total > 0) & (area < 1)
            share = ratio((relevance * region).sum(axis=(1, 2)), total)
            columns |= {name: np.where(there, share, np.nan), f"{name}_area": np.where(there, area, np.nan)}
        rows = pd.DataFrame(columns)
        return Shortcuts(rows=rows, table=self._table(rows, list(regions), resamples, seed))

    def _regions(self, images: npt.NDArray[Any], masks: npt.ArrayLike | None) -> dict[str, Floats | Bools]:
        size = images.shape[1:3]
        found: dict[str, Floats | Bools] = {
            "border": np.broadcast_to(border(size, width=self.width), images.shape[:3]),
            "margin": margins(images),
            "text": text_like(images),
        }
        plausible = self._plausible(size, masks)
        return found if plausible is None else {"outside": 1 - np.broadcast_to(plausible, images.shape[:3]), **found}

    def _plausible(self, size: tuple[int, int], masks: npt.ArrayLike | None) -> Floats | None:
        if self.box is not None:
            top, left, bottom, right = self.box
            rows, columns = (
                _within(low, high, side) for low, high, side in ((top, bottom, size[0]), (left, right, size[1]))
            )
            inside: Floats = rows[:, None] * columns
            return inside
        return None if masks is None else fit_masks(masks, size)

    def _table(self, rows: pd.DataFrame, regions: Sequence[str], resamples: int, seed: int) -> pd.DataFrame:
        import pandas as pd

        means = summary(rows, regions, by="class", resamples=resamples, seed=seed)
        areas = rows.groupby("class")[[f"{name}_area" for name in regions]].mean()
        found = []
        for row in means[means["by"].eq("class") & means["value"].ne("") & means["n"].gt(0)].to_dict("records"):
            share, low, area = row["mean"], row["low"], float(areas.loc[row["value"], f"{row['metric']}_area"])
            warns = bool(share >= self.share and low > area)
            key = {"class": row["value"], "region": row["metric"], "share": share, "low": low, "high": row["high"]}
            found.append({**key, "area": area, "gain": share / area, "n": row["n"], "warns": warns})
        names = ["class", "region", "share", "low", "high", "area", "gain", "n", "warns"]
        return pd.DataFrame(found, columns=names).astype({"warns": bool})


# How much of each pixel of a side lies between two shares of it.
def _within(low: float, high: float, side: int) -> Floats:
    edges = np.arange(side + 1) / side
    return np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None) * side
