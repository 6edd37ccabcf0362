"""How a batch on the CPU is taken apart and shared out to threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

__all__ = ["CHANGED", "MOVED", "each_alone", "parts"]

# What one step leaves is still in the cache when the next begins, which makes many steps several times as fast.
MOVED = 2**20
"""Values that move together: some large images, or many small ones, so that little time goes into calls."""

CHANGED = 2**15
"""Values that change together: one large image, or some small ones."""


def parts(images: Tensor, values: int) -> list[slice]:
    """Take a batch apart on a CPU; elsewhere it stays whole.

    Args:
        images: Images (B, C, H, W).
        values: How many a part has, if it has more than one image.

    Returns:
        Where each part lies in the batch.
    """
    count = len(images)
    size = max(1, values // max(1, images[:1].numel())) if images.device.type == "cpu" else max(1, count)
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def each_alone(work: Callable[[slice], None], pieces: Sequence[slice]) -> None:
    """Do some work for each part, several at a time but each on one thread.

    Torch would share every sum of an image out to its threads, wait for all of them each time, and
    round in another way with another number of threads.

    Args:
        work: What to do.
        pieces: The parts.
    """
    import cv2

    threads, others = torch.get_num_threads(), cv2.getNumThreads()
    if threads == 1 or len(pieces) == 1:
        for piece in pieces:
            work(piece)
        return
    try:
        cv2.setNumThreads(1)
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(work, pieces))
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(others)
