"""How well relevance maps point at what they should: maps against masks, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import numpy.typing as npt

from imgcls.core import options
from imgcls.core.errors import ConfigError, DataError
from imgcls.evaluation.arrays import Bools, Floats, ratio
from imgcls.explain.attributions import Attributions
from imgcls.explain.ranking import Ranked

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CELLS", "MaskScores", "check_masks", "fit_masks"]

#: Pixels scored at a time, so that the sorted copies stay small.
_BLOCK = 2**21

#: The pixels of a map beside those of its mask, both cut at half: reference 004's protocol sums them over images.
CELLS = ("half_tp", "half_fp", "half_fn", "half_tn")

_NAMED = ("area", "otsu")


def check_masks(masks: npt.ArrayLike) -> Floats:
    """Read masks.

    Args:
        masks: (N, H, W): whether, or from 0 to 1 how much, each pixel lies inside.

    Returns:
        The same as floats.

    Raises:
        DataError: if they are anything else.
    """
    values = np.asarray(masks)
    if values.ndim != 3 or values.dtype.kind not in "bfiu":
        raise DataError(f"'masks' must be an array (N, H, W) of 0 and 1, got {values.shape} {values.dtype}")
    found = values.astype(np.float64)
    if not ((found >= 0) & (found <= 1)).all():  # NaN is neither
        got = f"values from {found.min():g} to {found.max():g}"
        raise DataError(f"'masks' must say from 0 to 1 how much of a pixel lies inside, got {got}; use 'mask > 127'")
    return found


def fit_masks(masks: npt.ArrayLike, size: tuple[int, int]) -> Floats:
    """Bring masks to the size of maps, by the area that each pixel covers.

    Mass of a map against such a mask equals that of the map, enlarged to the mask, against the
    mask itself, which no other way of resizing gives.

    Args:
        masks: (N, h, w): whether, or from 0 to 1 how much, each pixel lies inside.
        size: Height and width of the maps.

    Returns:
        (N, height, width) from 0 to 1.

    Raises:
        DataError: if they are no masks.
    """
    found = check_masks(masks)
    if found.shape[1:] == tuple(size):
        return found
    rows, columns = (_overlaps(before, after) for before, after in zip(found.shape[1:], size, strict=True))
    return np.clip(rows @ found @ columns.T, 0, 1)


# How much of each new pixel each old one fills, (after, before).
def _overlaps(before: int, after: int) -> Floats:
    edges = np.arange(after + 1) * (before / after)
    low = np.maximum(edges[:-1, None], np.arange(before))
    high = np.minimum(edges[1:, None], np.arange(1, before + 1))
    return np.maximum(high - low, 0) * (after / before)


def _cuts(values: Any) -> Any:
    return tuple(values) if isinstance(values, Sequence) and not isinstance(values, str) else values


def _check_cuts(_: Any, field: attrs.Attribute[Any], values: Any) -> None:
    good = isinstance(values, tuple) and all(
        value in _NAMED or (isinstance(value, float) and 0 < value <= 1) for value in values
    )
    if not good:
        raise options.rejected(field.name, "be shares of the maximum above 0 and at most 1, 'area' or 'otsu'", values)


@attrs.frozen(kw_only=True)
class MaskScores:
    """What is measured of a map against a mask.

    Relevance counts as it is, before any scaling for display. For an image with relevance R
    and mask M, of P pixels:

    - `area`: the share of the image that the mask covers. A map that says nothing (all pixels
      equal, or by chance) has this mass, rank, pointing and average precision.
    - `mass`: sum of R inside over the sum of R; `gain` is mass / area.
    - `rank`: of the |M| most relevant pixels, the share inside (both: Arras, Osman and Samek 2022).
    - `pointing`: whether the most relevant pixel is inside (Zhang et al. 2018).
    - `average_precision`, `roc_auc`: of pixels, mask against rest.
    - `iou@T`, `dice@T`: overlap of the mask with the pixels that reach a threshold T.
    - `roi_ratio`: sum of R inside over the sum of R with its signs, where any part of a pixel
      that lies inside counts it as inside; the ratio of htcv_mgs, from floats.

    Equal pixels are in no order: every number is the expected one over all orders. Masks may
    say how much of a pixel lies inside. An empty mask, a map without relevance and one that is
    not finite have no scores; `state` says which, and scores are NaN.

    Attributes:
        relevance: `positive` (what speaks against the class counts as nothing), or `absolute`
            (it counts as much), for methods whose sign has no meaning.
        thresholds: Shares of the map's maximum; `area` takes as many pixels as the mask has,
            `otsu` divides the map in two (Otsu, 1979).
    """

    relevance: str = attrs.field(default="positive", validator=options.choice("positive", "absolute"))
    thresholds: tuple[float | str, ...] = attrs.field(
        default=(0.5, "area", "otsu"), converter=_cuts, validator=_check_cuts
    )

    @property
    def names(self) -> tuple[str, ...]:
        """The scores, in order."""
        first = ("mass", "gain", "rank", "pointing", "average_precision", "roc_auc", "roi_ratio")
        return (*first, *(f"{name}@{cut}" for cut in self.thresholds for name in ("iou", "dice")))

    def rows(
        self, found: Attributions | npt.NDArray[np.floating[Any]], masks: npt.ArrayLike, *, silent: Bools | None = None
    ) -> pd.DataFrame:
        """Score each map.

        Args:
            found: Attributions, or maps (N, H, W).
            masks: (N, h, w): whether, or from 0 to 1 how much, each pixel lies inside; brought
                to the size of the maps by area.
            silent: (N,) images whose map counts as empty in the columns of `CELLS`: those that
                were not decided to be of the class, after reference 004. None silences none.

        Returns:
            A row a map: `area`, `state` (`scored`, `empty mask`, `no relevance`, or `invalid` for
            what is not finite), the scores of `names`, and the counts of `CELLS`.

        Raises:
            DataError: if maps and masks do not fit together.
        """
        import pandas as pd

        maps, valid = _parts(found)
        inside = fit_masks(masks, maps.shape[1:])
        _check_number(maps, inside, silent)
        quiet = np.zeros(len(maps), dtype=np.bool_) if silent is None else np.asarray(silent, dtype=np.bool_)
        block = max(1, _BLOCK // max(1, maps[0].size)) if len(maps) else 1
        parts = []
        for start in range(0, max(len(maps), 1), block):
            part = slice(start, start + block)
            parts.append(pd.DataFrame(self._block(maps[part], inside[part], valid[part], quiet[part])))
        return pd.concat(parts, ignore_index=True)

    def _block(self, maps: npt.NDArray[Any], masks: Floats, valid: Bools, silent: Bools) -> dict[str, Any]:
        raw = np.where(valid[:, None], maps.reshape(len(maps), maps.shape[1] * maps.shape[2]).astype(np.float64), 0)
        inside = masks.reshape(raw.shape)
        relevance = np.abs(raw) if self.relevance == "absolute" else np.maximum(raw, 0)
        state = np.select(
            [~valid, inside.sum(axis=1) == 0, relevance.sum(axis=1) == 0],
            ["invalid", "empty mask", "no relevance"],
            "scored",
        )
        scores = self._scores(relevance, inside) | {"roi_ratio": _roi_ratio(raw, inside)}
        shown = {name: np.where(state == "scored", scores[name], np.nan) for name in self.names}
        cells = _half(raw, inside, silent | ~valid)
        return {"area": inside.mean(axis=1), "state": state, **shown, **dict(zip(CELLS, cells, strict=True))}

    def _scores(self, relevance: Floats, inside: Floats) -> dict[str, Floats]:
        ranked = Ranked.of(relevance, inside)
        mass = ratio((relevance * inside).sum(axis=1), relevance.sum(axis=1))
        found = {
            "mass": mass,
            "gain": ratio(mass, inside.mean(axis=1)),
            "rank": ranked.rank_accuracy(),
            "pointing": ranked.pointing(),
            "average_precision": ranked.average_precision(),
            "roc_auc": ranked.roc_auc(),
        }
        for cut in self.thresholds:
            taken, hits = _taken(ranked, cut)
            both = taken + ranked.sizes
            found |= {f"iou@{cut}": ratio(hits, both - hits), f"dice@{cut}": ratio(2 * hits, both)}
        return found


def _taken(ranked: Ranked, cut: float | str) -> tuple[Floats, Floats]:
    if cut == "area":
        return ranked.sizes, ranked.hits_among(ranked.sizes)
    return ranked.at_least(ranked.otsu() if cut == "otsu" else float(cut) * ranked.values[:, 0])


def _roi_ratio(raw: Floats, inside: Floats) -> Floats:
    whole = raw.sum(axis=1)
    part = (raw * (inside > 0)).sum(axis=1)
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole != 0)


# DeepVisionXplain: each map from its minimum to its maximum, above half; a map of equal pixels is empty.
def _half(raw: Floats, inside: Floats, silent: Bools) -> tuple[Floats, ...]:
    low, high = raw.min(axis=1, keepdims=True), raw.max(axis=1, keepdims=True)
    taken = (raw - low > 0.5 * (high - low)) & ~silent[:, None]
    hits = (taken * inside).sum(axis=1)
    alarms, misses = taken.sum(axis=1) - hits, inside.sum(axis=1) - hits
    return hits, alarms, misses, inside.shape[1] - hits - alarms - misses


def _parts(found: Any) -> tuple[npt.NDArray[Any], Bools]:
    if isinstance(found, Attributions):
        return found.maps, _finite(found.native)
    maps = np.asarray(found)
    if maps.ndim != 3 or maps.dtype.kind != "f":
        raise DataError(f"'found' must be attributions or float maps (N, H, W), got {maps.shape} {maps.dtype}")
    valid = _finite(maps)
    return np.where(valid[:, None, None], maps, 0), valid


def _finite(maps: npt.NDArray[Any]) -> Bools:
    finite: Bools = np.isfinite(maps).all(axis=(1, 2))
    return finite


def _check_number(maps: npt.NDArray[Any], masks: Floats, silent: Bools | None) -> None:
    if len(masks) != len(maps):
        raise DataError(f"'masks' must be as many as the maps, {len(maps)}, got {len(masks)}")
    if silent is not None and np.shape(silent) != (len(maps),):
        raise ConfigError(f"'silent' must say something of each of {len(maps)} maps, got {np.shape(silent)}")
