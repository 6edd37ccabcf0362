"""Augmentation of the batches of a training set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import final

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imgcls.augment.augment import Augment, Policies
from imgcls.augment.base import Intensity, Mixing, Step, plan
from imgcls.augment.table import Rows
from imgcls.augment.warping import warp
from imgcls.core import options
from imgcls.core.errors import ConfigError, DataError, nearest

__all__ = ["Augmenter", "augmenter"]


@final
@attrs.frozen(kw_only=True, eq=False)
class Augmenter:
    """Changes batches of images: pure functions of images and rows.

    Attributes:
        parts: What there is to do, one or several.
        part_of_class: Which part each class has, (K,).
    """

    parts: tuple[Augment, ...]
    part_of_class: NDArray[np.int64]

    @property
    def mixes(self) -> bool:
        """Whether `mix` does anything, so that the loss must take soft targets."""
        return any(part.mixes for part in self.parts)

    @property
    def idle(self) -> bool:
        """Whether nothing ever happens."""
        return not any(part.transforms for part in self.parts)

    def apply(self, images: Tensor, rows: Rows, masks: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Augment a batch, all but the mixing.

        Another view of the same images gets the same geometry and the same changes of values
        from the same rows.

        Args:
            images: Images (B, C, H, W) of 1 or 3 channels, float32 from 0 to 1, on any device;
                they are left as they are.
            rows: Their rows of the table.
            masks: Masks (B, H, W) of any type, on the same device, or None. They follow the
                geometry; shares (float) are interpolated, anything else is read at the
                nearest pixel; outside they are 0.

        Returns:
            Images and masks of the same shapes and types.
        """
        _check(images, rows, masks)
        for part, steps in self._plans(rows):
            images, masks = warp(images, masks, steps, fill=part.fill)
            images = _changed(images, steps)
        return images, masks

    def mix(self, images: Tensor, targets: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """Mix the images of a batch, and their targets alike.

        The other image of a pair is one of the batch, so this alone depends on the batch.

        Args:
            images: Images (B, C, H, W), normalised or not.
            targets: Targets (B, K), one-hot, float.
            rows: Their rows of the table.

        Returns:
            Mixed images and targets.
        """
        for _, steps in self._plans(rows):
            for step in steps:
                if isinstance(step.transform, Mixing):
                    images, targets = step.transform.mix(images, targets, step)
        return images, targets

    def _plans(self, rows: Rows) -> Iterator[tuple[Augment, list[Step]]]:
        uniforms = rows.uniforms(max(part.columns for part in self.parts))
        for number, part in enumerate(self.parts):
            yield part, plan(part.transforms, uniforms, self._members(number, rows))

    def _members(self, number: int, rows: Rows) -> Tensor:
        if len(self.parts) == 1:
            return torch.ones(len(rows.numbers), dtype=torch.bool)
        if rows.labels is None:
            raise DataError("'labels' must be given where policies differ by class, got None; give them to Rows")
        return torch.from_numpy(self.part_of_class[rows.labels] == number)


def augmenter(value: Augment | Policies, *, classes: Sequence[str]) -> Augmenter:
    """Bind augmentation to the classes of a set.

    Args:
        value: The augmentation.
        classes: Names of the classes in order.

    Returns:
        What augments batches.

    Raises:
        ConfigError: if a policy names a class that is none.
    """
    if isinstance(value, Augment):
        return Augmenter(parts=(value,), part_of_class=np.zeros(len(classes), np.int64))
    for name in value:
        if name not in {"default", *classes}:
            raise ConfigError(f"'augment.{name}' must be 'default' or a class; {nearest(name, classes)}")
    names = list(value)
    chosen = [names.index(name if name in value else "default") for name in classes]
    return Augmenter(parts=tuple(value.values()), part_of_class=np.array(chosen, np.int64))


def _changed(images: Tensor, steps: Sequence[Step]) -> Tensor:
    for step in steps:
        if isinstance(step.transform, Intensity):
            index, parameters = step.drawn()
            rows = index.to(images.device)
            images = images.index_copy(0, rows, step.transform.change(images[rows], parameters))
    return images


def _check(images: Tensor, rows: Rows, masks: Tensor | None) -> None:
    if images.ndim != 4 or images.shape[1] not in {1, 3} or images.dtype != torch.float32:
        got = (tuple(images.shape), str(images.dtype))
        raise options.rejected("images", "be float32 of shape (B, 1 or 3, H, W)", got)
    if len(rows.numbers) != len(images):
        raise options.rejected("rows", f"be {len(images)}, one an image", len(rows.numbers))
    if masks is not None and masks.shape != (len(images), *images.shape[2:]):
        wanted = (len(images), *images.shape[2:])
        raise options.rejected("masks", f"have shape {wanted}", tuple(masks.shape))
