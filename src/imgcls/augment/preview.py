"""A contact sheet: images and what augmentation makes of them, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from imgcls.augment.augment import Augment, Policies
from imgcls.augment.augmenter import Augmenter, augmenter
from imgcls.augment.per_image import to_bytes
from imgcls.augment.table import Rows
from imgcls.core import options
from imgcls.core.randomness import generator
from imgcls.data.dataset import Dataset
from imgcls.data.spec import ImageSpec

__all__ = ["contact_sheet", "preview"]

_CELL, _GAP, _LINE = 128, 4, 16  # pixels
_OUTLINE = (1.0, 0.0, 0.0)
_HALF = 127  # of a mask, whose values are shares of 255


def preview(
    dataset: Dataset,
    value: Augment | Policies,
    *,
    image: ImageSpec,
    records: int = 6,
    draws: int = 8,
    seed: int = 42,
) -> Image.Image:
    """Draw a contact sheet of some records, of each class in turn.

    Args:
        dataset: The set; the outlines of its masks are drawn.
        value: The augmentation.
        image: The form of the images.
        records: How many records; with policies by class at least one of each class.
        draws: How many draws of each.
        seed: Chooses records and draws.

    Returns:
        The sheet.
    """
    for name, number in (("records", records), ("draws", draws)):
        if number < 1:
            raise options.rejected(name, "be a whole number of at least 1", number)
    count = max(records, len(dataset.classes)) if isinstance(value, Policies) else records
    chosen = _in_turn(dataset, count, seed)
    labels = np.asarray(dataset.labels[chosen])
    masked = "mask" in dataset.frame
    return contact_sheet(
        np.stack([dataset.pixels(int(position), image) for position in chosen]),
        value,
        titles=[f"{dataset.frame['label'].iloc[position]}: {dataset.ids[position]}" for position in chosen],
        labels=labels if labels.ndim == 1 else None,
        classes=dataset.classes,
        masks=np.stack([dataset.mask(int(position), image) > _HALF for position in chosen]) if masked else None,
        draws=draws,
        seed=seed,
    )


def contact_sheet(
    images: NDArray[Any],
    value: Augment | Policies,
    *,
    titles: Sequence[str],
    labels: NDArray[np.int64] | None = None,
    classes: Sequence[str] = ("all",),
    masks: NDArray[np.bool_] | None = None,
    draws: int = 8,
    seed: int = 42,
) -> Image.Image:
    """Draw images, each in a row: first as it is, then draws of it.

    Args:
        images: Images (N, H, W, C), uint8 or uint16.
        value: The augmentation.
        titles: What stands above each row.
        labels: Class index of each image, (N,), which policies by class need.
        classes: Names of the classes.
        masks: Regions (N, H, W), bool, whose outlines are drawn, or None.
        draws: Draws a row.
        seed: The seed of the draws.

    Returns:
        The sheet.
    """
    names = None if labels is None else labels.repeat(draws)
    rows = Rows.span(0, len(images) * draws, seed=seed, epoch=0, labels=names)
    changed, followed = _augmented(images, masks, augmenter(value, classes=classes), rows)
    shown = np.concatenate([images[:, None] / np.iinfo(images.dtype).max, changed], axis=1)
    regions = None if masks is None or followed is None else np.concatenate([masks[:, None], followed], axis=1)
    cell = tuple(max(1, round(side * _CELL / max(images.shape[1:3]))) for side in images.shape[1:3])
    height, width = cell[0] + _LINE + _GAP, cell[1] + _GAP
    sheet = Image.new("RGB", (shown.shape[1] * width + _GAP, len(shown) * height + _GAP), "white")
    for row, title in enumerate(titles):
        ImageDraw.Draw(sheet).text((_GAP, row * height + _GAP), title, "black")
        for column, pixels in enumerate(shown[row]):
            picture = _picture(pixels, None if regions is None else regions[row, column], cell)
            sheet.paste(picture, (column * width + _GAP, row * height + _LINE + _GAP))
    return sheet


# Draws (N, draws, H, W, C) from 0 to 1, and their masks.
def _augmented(
    images: NDArray[Any], masks: NDArray[np.bool_] | None, own: Augmenter, rows: Rows
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    shape = (len(images), len(rows.numbers) // len(images))
    repeats = torch.from_numpy(images.repeat(shape[1], 0)).permute(0, 3, 1, 2)
    regions = None if masks is None else torch.from_numpy(masks.repeat(shape[1], 0))
    found, followed = own.apply(repeats, rows, regions)
    found, _ = own.mix(found, torch.zeros(len(found), 1), rows)
    pixels = found.permute(0, 2, 3, 1).numpy().reshape(*shape, *images.shape[1:])
    return pixels, None if followed is None else followed.numpy().reshape(*shape, *images.shape[1:3])


# Small images are enlarged pixel by pixel.
def _picture(pixels: NDArray[Any], mask: NDArray[np.bool_] | None, cell: tuple[int, ...]) -> Image.Image:
    colours = np.broadcast_to(pixels, (*pixels.shape[:2], 3)).copy()
    if mask is not None:
        colours[_outline(mask)] = _OUTLINE
    way = Image.Resampling.NEAREST if max(cell) >= max(pixels.shape) else Image.Resampling.BOX
    return Image.fromarray(to_bytes(colours)).resize((cell[1], cell[0]), way)


# The pixels of a region that have a neighbour outside of it.
def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    around = np.pad(mask, 1)
    inner = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return mask & ~inner


# A record of each class, then a second one of each, and so on; the sheet has those of a class together.
def _in_turn(dataset: Dataset, count: int, seed: int) -> NDArray[np.int64]:
    order = generator(seed, "preview").permutation(len(dataset))
    names = dataset.frame["label"].to_numpy()[order]
    turn = np.zeros(len(order), np.int64)
    for name in np.unique(names):
        turn[names == name] = np.arange((names == name).sum())
    chosen = order[np.argsort(turn, kind="stable")[:count]]
    return chosen[np.argsort(dataset.frame["label"].to_numpy()[chosen], kind="stable")]
