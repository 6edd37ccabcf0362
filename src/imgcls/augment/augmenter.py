"""Augmentation of the batches of a training set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import final

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imgcls.augment.augment import Augment, Policies
from imgcls.augment.base import Intensity, Mixing, Step, plan
from imgcls.augment.layouts import LEVELS, planes, put, shares
from imgcls.augment.parts import CHANGED, MOVED, each_alone, parts
from imgcls.augment.table import Rows
from imgcls.augment.warping import compose, warp
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
        repeats: Whether the last part is for repeated draws, whatever their class.
    """

    parts: tuple[Augment, ...]
    part_of_class: NDArray[np.int64]
    repeats: bool = False

    @property
    def mixes(self) -> bool:
        """Whether `mix` does anything, so that the loss must take soft targets."""
        return any(part.mixes for part in self.parts)

    @property
    def idle(self) -> bool:
        """Whether nothing ever happens."""
        return not any(part.transforms for part in self.parts)

    def apply(
        self,
        images: Tensor,
        rows: Rows,
        masks: Tensor | None = None,
        *,
        finish: Callable[[Tensor], Tensor] | None = None,
        layout: torch.memory_format = torch.contiguous_format,
    ) -> tuple[Tensor, Tensor | None]:
        """Augment a batch, all but the mixing.

        Another view of the same images gets the same geometry and the same changes of values
        from the same rows.

        Args:
            images: Images (B, C, H, W) of 1 or 3 channels, float32 from 0 to 1, or uint8 or uint16
                with all their levels, on any device; they are left as they are.
            rows: Their rows of the table.
            masks: Masks (B, H, W) of any type, on the same device, or None. They follow the
                geometry; shares (float) are interpolated, anything else is read at the
                nearest pixel; outside they are 0.
            finish: What a part of the batch goes through at last, such as normalisation, before
                it leaves the cache; it may overwrite what it is given.
            layout: How the result lies in memory.

        Returns:
            Images of the same shape, float32, and masks of the same shape and type.
        """
        _check(images, rows, masks)
        found = torch.empty(images.shape, device=images.device, memory_format=layout)
        kept = None if masks is None else masks.clone()
        size = (images.shape[2], images.shape[3])
        plans = [(augment.fill, steps, compose(steps, size, len(images))) for augment, steps in self._plans(rows)]

        def work(part: slice) -> None:
            piece, mask = shares(images[part]), None if masks is None else masks[part]
            changes: list[Step] = []
            for fill, steps, matrices in plans:
                own = [step.within(part) for step in steps]
                # A policy after another begins where that has ended; mostly there is one.
                piece, changes = _changed(planes(piece), changes) if changes else piece, own
                piece, mask = warp(piece, mask, own, matrices[part], fill=fill)
            piece = planes(piece)
            _changed(piece, changes, place=found[part], finish=finish)
            if kept is not None and mask is not None:
                kept[part] = mask

        each_alone(work, parts(images, MOVED))
        return found, kept

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
        chosen = np.full(len(rows.numbers), self.part_of_class[0])
        if (self.part_of_class != self.part_of_class[0]).any():
            if rows.labels is None:
                raise DataError("'labels' must be given where policies differ by class, got None; give them to Rows")
            chosen = self.part_of_class[rows.labels]
        if self.repeats:
            if rows.repeated is None:
                raise DataError("'repeated' must be given where repeated draws differ, got None; give it to Rows")
            chosen = np.where(rows.repeated, len(self.parts) - 1, chosen)
        return torch.from_numpy(chosen == number)


def augmenter(value: Augment | Policies, *, classes: Sequence[str], repeats: Augment | None = None) -> Augmenter:
    """Bind augmentation to the classes of a set.

    Args:
        value: The augmentation.
        classes: Names of the classes in order.
        repeats: What happens instead to draws of records that the epoch had before; None: the same.

    Returns:
        What augments batches.

    Raises:
        ConfigError: if a policy names a class that is none.
    """
    policies = {"default": value} if isinstance(value, Augment) else value
    for name in policies:
        if name not in {"default", *classes}:
            raise ConfigError(f"'augment.{name}' must be 'default' or a class; {nearest(name, classes)}")
    names = list(policies)
    chosen = np.array([names.index(name if name in policies else "default") for name in classes], np.int64)
    last = () if repeats is None else (repeats,)
    return Augmenter(parts=(*policies.values(), *last), part_of_class=chosen, repeats=repeats is not None)


# Image by image, so that all that happens to one finds it in the cache; into `place`, or over the images.
def _changed(
    images: Tensor,
    steps: Sequence[Step],
    *,
    place: Tensor | None = None,
    finish: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    own = [(step, step.active.tolist()) for step in steps if isinstance(step.transform, Intensity)]
    if not own and place is None:
        return images
    for part in parts(images, CHANGED):
        piece = images[part]
        for step, active in own:
            if any(active[part]):
                piece = _by_step(piece, step.within(part), all(active[part]))
        put(images[part] if place is None else place[part], piece if finish is None else finish(piece))
    return images


def _by_step(images: Tensor, step: Step, every: bool) -> Tensor:
    assert isinstance(step.transform, Intensity)
    if every:
        return step.transform.change(images, step.parameters)
    index, parameters = step.drawn()
    rows = index.to(images.device)
    return images.index_copy(0, rows, step.transform.change(images.index_select(0, rows), parameters))


def _check(images: Tensor, rows: Rows, masks: Tensor | None) -> None:
    if images.ndim != 4 or images.shape[1] not in {1, 3} or images.dtype not in {torch.float32, *LEVELS}:
        got = (tuple(images.shape), str(images.dtype))
        raise options.rejected("images", "be float32, uint8 or uint16 of shape (B, 1 or 3, H, W)", got)
    if len(rows.numbers) != len(images):
        raise options.rejected("rows", f"be {len(images)}, one an image", len(rows.numbers))
    if masks is not None and masks.shape != (len(images), *images.shape[2:]):
        wanted = (len(images), *images.shape[2:])
        raise options.rejected("masks", f"have shape {wanted}", tuple(masks.shape))
