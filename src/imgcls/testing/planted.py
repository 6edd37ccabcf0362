"""Images whose class lies in one known place, to see whether explanations find it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgcls.core.options import rejected
from imgcls.core.randomness import generator
from imgcls.data.dataset import Dataset

__all__ = ["planted_patches"]

#: Pixels from one stripe of a patch to the next, and how far they differ from the ground.
_WAVE, _STRENGTH = 4, 90

#: How many images of a kind share a group.
_GROUP = 4


def planted_patches(
    num: int = 512, *, size: int = 64, side: int = 16, classes: int = 4, marker: bool = False, seed: int = 0
) -> tuple[Dataset, dict[str, NDArray[np.bool_]]]:
    """Make noise in which a striped patch at a place by chance says the class.

    Args:
        num: How many images.
        size: Their side in pixels.
        side: Of the patch.
        classes: How many directions of the stripes, 2 to 8.
        marker: Whether the direction is by chance, and a white square in the top left corner, an eighth
            of the image wide, says the class instead; then there are two classes, `plain` and `marked`.
        seed: Of all chance.

    Returns:
        The set, in memory, in groups of four, and the mask of the patch of each image, (size, size), by id.

    Raises:
        ConfigError: if a number is out of its range.

    Examples:
        >>> data, masks = planted_patches(8, size=32, side=8)
        >>> len(data), data.classes, masks[data.ids[0]].mean().item()
        (8, ('turn0', 'turn1', 'turn2', 'turn3'), 0.0625)
    """
    if not 2 <= classes <= 8:
        raise rejected("classes", "be from 2 to 8", classes)
    if not 0 < side <= size * 3 // 4:
        raise rejected("side", f"be above 0 and at most {size * 3 // 4}", side)
    rng = generator(seed, "planted")
    images = rng.normal(128, 20, (num, size, size)) + _smooth(num, size, rng)
    turns = rng.integers(classes, size=num) if marker else np.arange(num) % classes
    low = size // 8 if marker else 0
    corners = rng.integers(low, size - side + 1, (num, 2))
    masks = np.zeros((num, size, size), dtype=np.bool_)
    for at, (top, left) in enumerate(corners.tolist()):
        masks[at, top : top + side, left : left + side] = True
        images[at, masks[at]] += _stripes(side, np.pi * turns[at] / classes, rng.uniform(0, 2 * np.pi)).ravel()
    names = np.array(["plain", "marked"])[np.arange(num) % 2] if marker else np.array([f"turn{turn}" for turn in turns])
    pixels = np.clip(images, 0, 255).astype(np.uint8)
    if marker:
        pixels[1::2, : size // 8, : size // 8] = 255
    groups = [f"g{number // (classes * _GROUP):03d}-{names[number]}" for number in range(num)]
    data = Dataset.from_arrays(pixels, names, groups=groups, classes=["plain", "marked"] if marker else None)
    return data, dict(zip(data.ids.tolist(), masks, strict=True))


# A ground that changes slowly, so that brightness says nothing.
def _smooth(num: int, size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    rows, columns = np.meshgrid(np.arange(size) / size, np.arange(size) / size, indexing="ij")
    slopes = rng.normal(0, 30, (num, 2, 1, 1))
    found: NDArray[np.float64] = slopes[:, 0] * (rows - 0.5) + slopes[:, 1] * (columns - 0.5)
    return found


def _stripes(side: int, turn: float, phase: float) -> NDArray[np.float64]:
    rows, columns = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    along = np.cos(turn) * columns + np.sin(turn) * rows
    found: NDArray[np.float64] = _STRENGTH * np.sin(2 * np.pi * along / _WAVE + phase)
    return found
