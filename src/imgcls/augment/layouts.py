"""Between pixels that lie together and channels that are planes."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["LEVELS", "interleaved", "planes", "put", "shares"]

LEVELS = {torch.uint8: 2**8 - 1, torch.uint16: 2**16 - 1}
"""The highest level of whole numbers."""

# Torch copies between the two layouts element by element; OpenCV does it several times as fast.


def shares(images: Tensor) -> Tensor:
    """Copy images to shares of the highest level.

    Args:
        images: Images (B, C, H, W), float32 from 0 to 1, or uint8 or uint16 with all their levels.

    Returns:
        Images (B, C, H, W), float32 from 0 to 1, in the layout that they had on a CPU, elsewhere as planes.
    """
    layout = torch.preserve_format if images.device.type == "cpu" else torch.contiguous_format
    found = images.to(torch.float32, memory_format=layout, copy=True)
    return found if images.is_floating_point() else found.div_(LEVELS[images.dtype])


def planes(images: Tensor) -> Tensor:
    """Make each channel a plane.

    Args:
        images: Images (B, C, H, W), float32.

    Returns:
        The same, contiguous.
    """
    pixels = interleaved(images)
    if pixels is None:
        return images.contiguous()
    import cv2

    found = torch.empty(images.shape)
    for image, channels in zip(pixels, found.numpy(), strict=True):
        cv2.split(image, list(channels))
    return found


def put(place: Tensor, images: Tensor) -> None:
    """Copy images to where they belong.

    Args:
        place: Where, (B, C, H, W).
        images: Images (B, C, H, W).
    """
    pixels = interleaved(place)
    if pixels is None or not images.is_contiguous():
        place.copy_(images)
        return
    import cv2

    for image, planes in zip(pixels, images.numpy(), strict=True):
        cv2.merge(list(planes), dst=image)


def interleaved(images: Tensor) -> NDArray[Any] | None:
    """Look at pixels whose three channels lie together.

    Args:
        images: Images (B, C, H, W).

    Returns:
        Their memory (B, H, W, C); None if there is another layout or device.
    """
    pixels = images.permute(0, 2, 3, 1)
    together = images.shape[1] == 3 and images.device.type == "cpu" and pixels.is_contiguous()
    return pixels.numpy() if together else None
