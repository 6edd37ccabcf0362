"""Several maps of the same images on one sheet: methods or models beside each other, classes on average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from imgcls.core.errors import ConfigError
from imgcls.explain.drawing import Pixels, as_rgb, layout, to_png
from imgcls.explain.panels import colored, is_signed, legend, overlay

__all__ = ["class_sheet", "comparison_sheet", "outlined"]

_OUTLINE = (0, 255, 0)


def outlined(image: Pixels, mask: npt.ArrayLike) -> Pixels:
    """Draw the edge of a mask into its image, in green.

    Args:
        image: (H, W, 3), (H, W, 1) or (H, W), uint8.
        mask: (H, W): whether, or from 0 to 1 how much, each pixel lies inside; from half on it does.

    Returns:
        (H, W, 3); the pixels of the edge lie just outside the mask, so that small objects stay visible.

    Raises:
        ConfigError: if the sizes differ.
    """
    from scipy import ndimage

    found = as_rgb(image).copy()
    inside = np.asarray(mask, dtype=np.float64) >= 0.5
    if inside.shape != found.shape[:2]:
        raise ConfigError(f"'mask' must have the size of the image {found.shape[:2]}, got {inside.shape}")
    found[ndimage.binary_dilation(inside) & ~inside] = _OUTLINE
    return found


def comparison_sheet(
    images: Sequence[Pixels],
    maps: Mapping[str, Sequence[npt.NDArray[np.floating[Any]]]],
    *,
    notes: Sequence[str] = (),
    masks: Sequence[npt.ArrayLike] | None = None,
    lines: Sequence[str] = (),
    alpha: float = 0.4,
) -> bytes:
    """Draw each image beside what several methods or models make of it, each map scaled by itself.

    Args:
        images: N images (H, W, 3), (H, W, 1) or (H, W), uint8.
        maps: By name, N maps (H, W), of the size of the images.
        notes: A text for each image.
        masks: A mask (H, W) of each image, outlined in it, or None.
        lines: Texts at the top.
        alpha: The share of a map in its overlay.

    Returns:
        A PNG file; the same arguments always give the same bytes.

    Raises:
        ConfigError: if there is not one map of each image, or sizes differ.
    """
    for name, found in maps.items():
        if len(found) != len(images):
            raise ConfigError(f"'maps' must have one for each of {len(images)} images, got {len(found)} of {name!r}")
    painted = {name: _overlays(images, found, alpha) for name, found in maps.items()}
    firsts = images if masks is None else [outlined(*pair) for pair in zip(images, masks, strict=True)]
    rows = [[as_rgb(first), *(found[at] for found in painted.values())] for at, first in enumerate(firsts)]
    return to_png(layout(rows, lines=lines, heads=["image", *maps], notes=notes))


# Maps of one method have one kind of scale.
def _overlays(images: Sequence[Pixels], maps: Sequence[npt.NDArray[np.floating[Any]]], alpha: float) -> list[Pixels]:
    signed = any(map(is_signed, maps))
    return [overlay(image, found, alpha=alpha, signed=signed) for image, found in zip(images, maps, strict=True)]


def class_sheet(
    images: npt.NDArray[np.uint8], maps: npt.NDArray[np.floating[Any]], *, lines: Sequence[str] = ()
) -> bytes:
    """Draw the mean of images and the mean of their maps, each map divided by its sum of sizes.

    Args:
        images: (N, H, W, C) those decided to be of a class.
        maps: (N, H, W) their maps.
        lines: Texts at the top.

    Returns:
        A PNG file.
    """
    mean = np.rint(images.mean(axis=0)).astype(np.uint8)
    sums = np.abs(maps).sum(axis=(1, 2), keepdims=True, dtype=np.float64)
    relevance = np.divide(maps, sums, out=np.zeros(maps.shape), where=sums > 0).mean(axis=0) * mean[..., 0].size
    tiles = [as_rgb(mean), colored(relevance), overlay(mean, relevance)]
    heads = ["mean image", "mean relevance", "overlay"]
    return to_png(layout([tiles], lines=lines, heads=heads, legend=legend(relevance)))
