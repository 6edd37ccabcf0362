"""Several views of an image, whose probabilities are averaged: test-time augmentation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, final

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from imgcls.augment.augment import Augment, to_augment
from imgcls.augment.augmenter import augmenter
from imgcls.augment.table import Rows
from imgcls.core import config, options
from imgcls.data.spec import ImageSpec

__all__ = ["FLIPS", "Draws", "View", "views"]

#: From pixels (B, H, W, C) to another view of them, on the same scale.
View = Callable[[NDArray[Any]], NDArray[Any]]

# Augmentation sets how many threads torch has, and puts it back.
_ALONE = threading.Lock()


def _plain(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels


def _flipped(pixels: NDArray[Any], *, axes: tuple[int, ...]) -> NDArray[Any]:
    return np.ascontiguousarray(np.flip(pixels, axes))


_LR, _UD, _BOTH = (partial(_flipped, axes=axes) for axes in ((2,), (1,), (1, 2)))

#: Flips by name; each has the image itself as well.
FLIPS: Mapping[str, tuple[View, ...]] = MappingProxyType(
    {"flip-lr": (_plain, _LR), "flip-ud": (_plain, _UD), "flips": (_plain, _LR, _UD, _BOTH)}
)


def _augment(value: Any) -> Any:
    return to_augment(value)


@final
@attrs.frozen(kw_only=True)
class Draws:
    """Draws of an augmentation, the same ones for every image.

    Attributes:
        augment: What is drawn: a preset, a list of transforms, or what else `augment` of a Trainer takes.
        draws: How many, besides the image itself.
        seed: Of the draws.
    """

    augment: Augment = attrs.field(converter=_augment)
    draws: int = attrs.field(default=8, validator=options.count())
    seed: int = attrs.field(default=42, validator=options.seed())

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.augment, Augment):
            raise options.rejected("augment", "be one policy, since the class is not known", self.augment)
        if self.augment.mixes or not self.augment.transforms:
            raise options.rejected("augment", "change images, and not mix them", self.augment)


def views(tta: str | Mapping[str, Any] | Draws | None, image: ImageSpec) -> Sequence[View]:
    """Make the views of test-time augmentation.

    Args:
        tta: A name of `FLIPS`; `Draws` or its options, such as `{"augment": "light", "draws": 8}`; None gives the image
            alone.
        image: The form of the images.

    Returns:
        The views, the image itself first.

    Raises:
        ConfigError: if there is no such name or an option is wrong.
    """
    if tta is None:
        return (_plain,)
    if isinstance(tta, str):
        if tta not in FLIPS:
            raise options.rejected("tta", f"be one of {list(FLIPS)}, or options of draws", tta)
        return FLIPS[tta]
    spec = tta if isinstance(tta, Draws) else config.build(Draws, tta, path="tta")
    return (_plain, *(partial(_drawn, spec=spec, number=number, image=image) for number in range(spec.draws)))


# All images have the same number, so what is drawn depends neither on their order nor on the size of a batch.
def _drawn(pixels: NDArray[Any], *, spec: Draws, number: int, image: ImageSpec) -> NDArray[Any]:
    rows = Rows(seed=spec.seed, epoch=0, numbers=np.full(len(pixels), number))
    planes = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    with _ALONE:
        changed, _ = augmenter(spec.augment, classes=("any",)).apply(planes, rows)
    found: NDArray[Any] = (changed * image.levels).permute(0, 2, 3, 1).contiguous().numpy()
    return found
