"""What an image looks like from far away: its size, its brightness, its border. No network is needed to see that.

Where such facts tell the classes apart, a network may have learnt how images were taken and not what they show.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import ImgclsError
from imgcls.data.dataset import Dataset
from imgcls.data.images import header
from imgcls.evaluation.arrays import Floats, Texts

__all__ = ["file_names", "looks"]

#: Pixels that are looked at for the brightness, on each side at most; and how much of each side is border.
_SEEN, _BORDER = 56, 1 / 28


def looks(dataset: Dataset, blocks: Iterable[tuple[NDArray[np.int64], NDArray[Any]]]) -> Floats:
    """Describe images from far away.

    Args:
        dataset: The set of N images.
        blocks: Positions (B,) and decoded pixels (B, H, W, C) of them, together all that matter.

    Returns:
        (N, 10): logarithms of width, height and their ratio before they were fitted; mean and deviation of the
        brightness; mean of each of the four borders, and the deviation of all; zeros for images that are in no block.
    """
    found = np.zeros((len(dataset), 10))
    seen = []
    for positions, pixels in blocks:
        found[positions, 3:] = _pixel_facts(pixels)
        seen.append(positions)
    known = np.concatenate(seen) if seen else np.zeros(0, dtype=np.int64)
    found[known, :3] = _sizes(dataset, known)
    return found


def _sizes(dataset: Dataset, positions: NDArray[np.int64]) -> Floats:
    if dataset.root is None:  # images in memory have been brought to one size, or are decoded to learn it
        return np.zeros((len(positions), 3))

    def work(position: int) -> tuple[int, int]:
        try:
            known = header(dataset.path(position))
        except ImgclsError:
            return 1, 1
        return known.width, known.height

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sizes = np.log(np.array(list(pool.map(work, positions.tolist())), dtype=np.float64).reshape(-1, 2))
    return np.column_stack([sizes, sizes[:, 0] - sizes[:, 1]])


def _pixel_facts(pixels: NDArray[Any]) -> Floats:
    height, width = pixels.shape[1:3]
    steps = max(1, height // _SEEN), max(1, width // _SEEN)
    inner = pixels[:, :: steps[0], :: steps[1]].reshape(len(pixels), -1).astype(np.float32)
    edge = max(1, round(height * _BORDER)), max(1, round(width * _BORDER))
    sides = [pixels[:, : edge[0]], pixels[:, -edge[0] :], pixels[:, :, : edge[1]], pixels[:, :, -edge[1] :]]
    flat = [side.reshape(len(pixels), -1).astype(np.float32) for side in sides]
    means = [side.mean(axis=1) for side in flat]
    spread = np.concatenate(flat, axis=1).std(axis=1)
    return np.column_stack([inner.mean(axis=1), inner.std(axis=1), *means, spread]).astype(np.float64)


def file_names(dataset: Dataset) -> Texts | None:
    """Name the files of a set without their folders, whose names often are the classes.

    Args:
        dataset: The set.

    Returns:
        (N,) names, or None for images in memory.
    """
    if dataset.root is None:
        return None
    return np.array([PurePosixPath(name).name for name in dataset.ids.tolist()], dtype=np.str_)
