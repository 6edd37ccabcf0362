"""Between pixels that lie together and channels that are planes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["LEVELS", "put", "shares"]

LEVELS = {torch.uint8: 2**8 - 1, torch.uint16: 2**16 - 1}
"""The highest level of whole numbers."""

# Torch copies between the two layouts element by element; OpenCV does it several times as fast.


def shares(images: Tensor) -> Tensor:
    """Copy images to shares of the highest level, each channel a plane.

    Args:
        images: Images (B, C, H, W), float32 from 0 to 1, or uint8 or uint16 with all their levels.

    Returns:
        Images (B, C, H, W), float32 from 0 to 1.
    """
    pixels = _interleaved(images)
    if pixels is None or images.is_floating_point():
        planes = images.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
        return planes if images.is_floating_point() else planes.div_(LEVELS[images.dtype])
    import cv2

    found = torch.empty(images.shape, dtype=torch.float32)
    highest = np.float32(LEVELS[images.dtype])
    for image, planes in zip(pixels, found.numpy(), strict=True):
        for channel, plane in zip(cv2.split(image), planes, strict=True):
            np.divide(channel, highest, out=plane)
    return found


def put(place: Tensor, images: Tensor) -> None:
    """Copy images to where they belong.

    Args:
        place: Where, (B, C, H, W).
        images: Images (B, C, H, W).
    """
    pixels = _interleaved(place)
    if pixels is None or not images.is_contiguous():
        place.copy_(images)
        return
    import cv2

    for image, planes in zip(pixels, images.numpy(), strict=True):
        cv2.merge(list(planes), dst=image)


# The pixels (B, H, W, C) of images on a CPU whose three channels lie together.
def _interleaved(images: Tensor) -> NDArray[Any] | None:
    pixels = images.permute(0, 2, 3, 1)
    together = images.shape[1] == 3 and images.device.type == "cpu" and pixels.is_contiguous()
    return pixels.numpy() if together else None
