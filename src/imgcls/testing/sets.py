"""Small synthetic sets that a small network learns in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import ConfigError
from imgcls.core.options import rejected
from imgcls.core.randomness import generator
from imgcls.data.dataset import Dataset

__all__ = ["blobs", "write_image_folder"]

#: The names of the classes of `blobs`, in order.
_NAMES = "abcdefgh"


def blobs(
    *,
    groups: int = 15,
    per_group: int = 4,
    classes: int = 2,
    size: int = 12,
    channels: int = 1,
    grouped: bool = True,
    splits: Sequence[str] | None = None,
    positive: str | None = None,
    seed: int = 0,
) -> Dataset:
    """Make noisy images in which the place of a bright square says the class.

    All images of a group are of one class and share a background, as images of one patient
    share a look; group i is of class i modulo `classes`.

    Args:
        groups: How many groups.
        per_group: Images in each group.
        classes: How many classes, 2 to 8, named `a`, `b` and so on.
        size: Side of the images in pixels, at least 8.
        channels: 1 or 3.
        grouped: Whether the set knows its groups.
        splits: The split of each group in turn, such as `["train", "train", "test"]`; group
            i takes item i modulo their number.
        positive: As in `Dataset.from_arrays`.
        seed: The seed of the noise.

    Returns:
        The set, in memory; ids are positions.

    Raises:
        ConfigError: if a number is out of its range.

    Examples:
        >>> data = blobs(groups=5, per_group=2)
        >>> len(data), data.classes, data.positive
        (10, ('a', 'b'), 'b')
    """
    if not 2 <= classes <= len(_NAMES):
        raise rejected("classes", f"be from 2 to {len(_NAMES)}", classes)
    if size < 8:
        raise rejected("size", "be at least 8", size)
    group = np.repeat(np.arange(groups), per_group)
    labels = group % classes
    images = _images(group, labels, size, generator(seed, "blobs"))
    names = np.array([f"g{number:03d}" for number in group])
    return Dataset.from_arrays(
        images if channels == 1 else np.repeat(images[..., None], channels, axis=-1),
        np.array(list(_NAMES))[labels],
        groups=names if grouped else None,
        splits=None if splits is None else np.array(splits)[group % len(splits)],
        positive=positive,
    )


def _images(
    group: NDArray[np.int64], labels: NDArray[np.int64], size: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    background = rng.integers(20, 80, group.max() + 1)[group]
    images = background[:, None, None] + rng.integers(-20, 21, (len(group), size, size))
    side = size // 4
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 3)
        top, left = 1 + row * (side + 1), 1 + column * (side + 1)
        image[top : top + side, left : left + side] = 230
    return images.astype(np.uint8)


def write_image_folder(path: Path | str, data: Dataset) -> Path:
    """Write a set as class folders of PNG files, to be read by `Dataset.from_folder`.

    Args:
        path: The folder, made if need be.
        data: The set. Files are `class/group-id.png`, below a folder of the split where the
            set has splits, so the pattern `(g[0-9]+)-` finds the groups of `blobs` again.

    Returns:
        The folder.

    Raises:
        ConfigError: if the set is not one in memory.
    """
    from PIL import Image

    if data.arrays is None:
        raise ConfigError("'data' must hold images in memory, got files; copy them")
    for position, name in enumerate(data.ids):
        sample = data[position]
        split = [] if data.splits is None else [str(data.splits[position])]
        file = Path(path, *split, sample.label, f"{sample.group or 'none'}-{name}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample.image[..., 0] if sample.image.shape[-1] == 1 else sample.image).save(file)
    return Path(path)
