"""Pictures of relevance maps; the one place where maps are scaled, and only to be looked at."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from imgcls.core.errors import ConfigError
from imgcls.core.options import rejected
from imgcls.explain.drawing import Pixels, as_rgb, layout, scale, to_png

__all__ = ["colored", "five_tiles", "is_signed", "legend", "overlay", "panel", "panel_name"]

Map = npt.NDArray[np.floating[Any]]

_HEADS = {3: ("image", "relevance", "overlay"), 5: ("image", "mask", "relevance", "above half", "overlay")}


def is_signed(maps: npt.ArrayLike) -> bool:
    """Say whether maps of one method are to be painted with a sign.

    Args:
        maps: Maps of any shape.

    Returns:
        Whether negative values are more than rounding: over a hundredth of all relevance.
    """
    values = np.nan_to_num(np.asarray(maps, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    return bool(np.abs(np.minimum(values, 0)).sum() > 0.01 * np.abs(values).sum())


def colored(relevance: Map, *, signed: bool | None = None) -> Pixels:
    """Paint a map.

    Args:
        relevance: (H, W). Values that are not finite count as zero.
        signed: False paints from 0 to the maximum in jet, negative values as 0; True from minus
            to plus the largest size in blue, white and red, so that white is zero. None looks at
            the map (`is_signed`); say it for maps that are shown beside each other.

    Returns:
        (H, W, 3) uint8.
    """
    values = _finite(relevance)
    low, high, name = _scale(values, signed)
    return _painted(np.clip((values - low) / (high - low), 0, 1), name)


def legend(relevance: Map, *, signed: bool | None = None) -> Pixels:
    """Draw the scale of the colours that `colored` gives a map.

    Args:
        relevance: (H, W).
        signed: As for `colored`.

    Returns:
        (h, w, 3): the colours, with their relevance at both ends and in the middle.
    """
    low, high, name = _scale(_finite(relevance), signed)
    return scale(_painted(np.linspace(0, 1, 256), name), low, high)


def _finite(relevance: Map) -> Map:
    values = np.nan_to_num(np.asarray(relevance, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    if values.ndim != 2:
        raise rejected("relevance", "be a map (H, W)", values.shape)
    return values


def _scale(values: Map, signed: bool | None) -> tuple[float, float, str]:
    if is_signed(values) if signed is None else signed:
        top = float(np.abs(values).max()) or 1.0
        return -top, top, "bwr"
    return 0.0, max(float(values.max()), 0.0) or 1.0, "jet"


def _painted(shares: Map, name: str) -> Pixels:
    from matplotlib import colormaps

    painted: Pixels = colormaps[name](shares, bytes=True)[..., :3]
    return painted


def overlay(image: Pixels, relevance: Map, *, alpha: float = 0.4, signed: bool | None = None) -> Pixels:
    """Lay a painted map over its image.

    Args:
        image: (H, W, 3), (H, W, 1) or (H, W), uint8.
        relevance: (H, W).
        alpha: The share of the map in the mixture, from 0 to 1.
        signed: As for `colored`.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ConfigError: if the sizes differ or `alpha` is out of range.

    Examples:
        >>> overlay(np.full((1, 1), 100, np.uint8), np.ones((1, 1)), alpha=0.0)
        array([[[100, 100, 100]]], dtype=uint8)
    """
    if not 0 <= alpha <= 1:
        raise rejected("alpha", "be a number of at least 0 and at most 1", alpha)
    base, heat = as_rgb(image), colored(relevance, signed=signed)
    if base.shape != heat.shape:
        raise ConfigError(f"'relevance' must have the size of the image {base.shape[:2]}, got {heat.shape[:2]}")
    mixed: Pixels = np.rint((1 - alpha) * base + alpha * heat).astype(np.uint8)
    return mixed


def five_tiles(
    image: Pixels, relevance: Map, mask: npt.ArrayLike, *, alpha: float = 0.4, signed: bool | None = None
) -> list[Pixels]:
    """Make the tiles of reference 004's panel (DeepVisionXplain), its colours the right way round.

    Args:
        image: (H, W, 3), (H, W, 1) or (H, W), uint8.
        relevance: (H, W).
        mask: (H, W): whether, or from 0 to 1 how much, each pixel lies inside.
        alpha: The share of the map in the overlay.
        signed: As for `colored`.

    Returns:
        Image, mask, map, the map above half of its range, overlay.

    Raises:
        ConfigError: if the sizes differ.
    """
    tiles = _three_tiles(image, relevance, alpha=alpha, signed=signed)
    inside = np.asarray(mask, dtype=np.float64)
    if inside.shape != tiles[0].shape[:2]:
        raise ConfigError(f"'mask' must have the size of the image {tiles[0].shape[:2]}, got {inside.shape}")
    values = _finite(relevance)
    above = values - values.min() > 0.5 * (values.max() - values.min())
    white = [as_rgb(np.rint(255 * part).astype(np.uint8)) for part in (inside, above)]
    return [tiles[0], white[0], tiles[1], white[1], tiles[2]]


def _three_tiles(image: Pixels, relevance: Map, *, alpha: float, signed: bool | None) -> list[Pixels]:
    painted = overlay(image, relevance, alpha=alpha, signed=signed)
    return [as_rgb(image), colored(relevance, signed=signed), painted]


def panel(
    image: Pixels,
    relevance: Map,
    *,
    truth: str | None,
    predicted: str,
    prob: float,
    title: str = "",
    mask: npt.ArrayLike | None = None,
    alpha: float = 0.4,
    signed: bool | None = None,
) -> bytes:
    """Draw image, map and overlay side by side under a title, with the scale of the colours.

    Args:
        image: (H, W, 3), (H, W, 1) or (H, W), uint8.
        relevance: (H, W).
        truth: The name of the true class, None where it is not known.
        predicted: The name of the predicted class.
        prob: Its probability, 0 to 1.
        title: What else the title says, such as the name of the image; several lines are allowed.
        mask: (H, W), 0 to 1, for the five tiles of `five_tiles`; None leaves three.
        alpha: The share of the map in the overlay.
        signed: As for `colored`.

    Returns:
        A PNG file; the same arguments always give the same bytes.

    Raises:
        ConfigError: if the sizes differ or `alpha` is out of range.
    """
    colours: dict[str, Any] = {"alpha": alpha, "signed": signed}
    tiles = _three_tiles(image, relevance, **colours) if mask is None else five_tiles(image, relevance, mask, **colours)
    verdict = f"predicted: {predicted} ({prob:.2f})"
    lines = [*filter(None, title.split("\n")), verdict if truth is None else f"true: {truth}, {verdict}"]
    if not np.any(np.nan_to_num(relevance)):
        lines += ["no relevance found: this map says nothing"]
    return to_png(layout([tiles], lines=lines, heads=_HEADS[len(tiles)], legend=legend(relevance, signed=signed)))


def panel_name(number: int, *, image: str, truth: str | None, predicted: str, method: str) -> str:
    """Name the file of a panel.

    Args:
        number: The position of the image among those explained; keeps names apart.
        image: The name or path of the image.
        truth: The name of the true class, None where it is not known.
        predicted: The name of the predicted class.
        method: The explainer.

    Returns:
        A file name of plain letters, the same for the same arguments.

    Examples:
        >>> panel_name(3, image="test/b 1.jpeg", truth="cat", predicted="dog", method="grad-cam")
        '00003_b-1_true-cat_pred-dog_grad-cam.png'
    """
    stem = image.replace("\\", "/").rpartition("/")[2]
    stem = stem.rpartition(".")[0] or stem
    known = [] if truth is None else [f"true-{_plain(truth)}"]
    return "_".join([f"{number:05d}", _plain(stem), *known, f"pred-{_plain(predicted)}", _plain(method)]) + ".png"


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-.")[:60] or "x"
