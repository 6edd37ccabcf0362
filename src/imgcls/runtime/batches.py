"""From positions in a source of pixels to normalised images on the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import final

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imgcls.data.spec import ImageSpec
from imgcls.runtime.device import Runtime
from imgcls.runtime.sources import Source

__all__ = ["Batches", "chunks", "forward", "normalisation", "normalise"]


def normalisation(spec: ImageSpec) -> tuple[Tensor, Tensor]:
    """Prepare the normalisation of a spec.

    Args:
        spec: The form of the images, with the numbers of mean and standard deviation.

    Returns:
        What a value is multiplied by and what is then subtracted, for a row of pixels, both
        (width * C,).
    """
    assert spec.statistics is not None
    mean, std = (torch.tensor(values).repeat(spec.size[1]) for values in spec.statistics)
    return 1 / (spec.levels * std), mean / std


def normalise(raw: Tensor, scale: Tensor, shift: Tensor, *, channels_last: bool = False) -> Tensor:
    """Turn pixels into what a network sees; training, prediction and explanation all come here.

    Args:
        raw: Pixels (B, H, W, C), uint8 or uint16.
        scale: Of `normalisation`.
        shift: Of `normalisation`.
        channels_last: Whether the channels of a pixel lie together in memory, as in `raw`, or
            each channel is a plane.

    Returns:
        Images (B, C, H, W), float32.
    """
    # Factors go along whole rows or planes: another one for each of three values in turn takes fifteen times as long.
    if channels_last:
        rows = raw.flatten(2).float().mul_(scale).sub_(shift)
        return rows.view(raw.shape).permute(0, 3, 1, 2)
    channels = raw.shape[-1]
    factor, offset = (values[:channels].view(-1, 1, 1) for values in (scale, shift))
    planes = raw.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return planes.mul_(factor).sub_(offset)


@final
@attrs.frozen(kw_only=True, eq=False)
class Batches:
    """Cuts batches of images out of a source.

    Attributes:
        source: The pixels.
        spec: Their form, with the numbers of mean and standard deviation.
        runtime: Where the images go.
        scale: What a value is multiplied by, for a row of pixels: one over levels and deviation.
        shift: What is then subtracted: mean over deviation.
    """

    source: Source
    spec: ImageSpec
    runtime: Runtime
    scale: Tensor
    shift: Tensor

    @classmethod
    def over(cls, source: Source, runtime: Runtime, *, spec: ImageSpec | None = None) -> Batches:
        """Prepare batches of a source.

        Args:
            source: The source. On a GPU with room the whole of a store is moved there.
            runtime: Where the images go.
            spec: The source's spec with numbers for mean and standard deviation; None where it
                has them.

        Returns:
            The batches.
        """
        own = spec or source.spec
        scale, shift = (value.to(runtime.device) for value in normalisation(own))
        return cls(source=source.to(runtime.device), spec=own, runtime=runtime, scale=scale, shift=shift)

    def images(self, positions: NDArray[np.int64]) -> Tensor:
        """Cut out one batch.

        Args:
            positions: Positions (B,).

        Returns:
            Normalised images (B, C, H, W), float32, on the device.
        """
        return self.ready(self.source.pixels(positions))

    def each(self, parts: Iterable[NDArray[np.int64]]) -> Iterator[Tensor]:
        """Cut out one batch after the other; files are decoded some batches ahead.

        Args:
            parts: Positions (B,) of each.

        Yields:
            Normalised images (B, C, H, W), float32, on the device.
        """
        for raw in self.source.each(parts):
            yield self.ready(raw)

    def planes(self, raw: Tensor) -> Tensor:
        """Turn pixels into images as augmentation takes them.

        Args:
            raw: Pixels (B, H, W, C) of the source.

        Returns:
            The same as (B, C, H, W), on the device.
        """
        return raw.to(self.runtime.device).permute(0, 3, 1, 2)

    @property
    def layout(self) -> torch.memory_format:
        """How images lie in memory."""
        return torch.channels_last if self.runtime.channels_last else torch.contiguous_format

    def standardised(self, images: Tensor) -> Tensor:
        """Normalise images from 0 to 1.

        Args:
            images: Images (B, C, H, W) from 0 to 1; they are overwritten.

        Returns:
            Normalised images (B, C, H, W), float32.
        """
        assert self.spec.statistics is not None
        mean, std = (images.new_tensor(values).view(-1, 1, 1) for values in self.spec.statistics)
        return images.sub_(mean).div_(std)

    def ready(self, raw: Tensor) -> Tensor:
        """Turn pixels into what the network sees.

        Args:
            raw: Pixels (B, H, W, C) of the source.

        Returns:
            Normalised images (B, C, H, W), float32, on the device.
        """
        moved = raw.to(self.runtime.device)
        return normalise(moved, self.scale, self.shift, channels_last=self.runtime.channels_last)


def chunks(positions: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """Cut positions into batches; a last batch of one joins the batch before it.

    Batch norm cannot train on a single image, and no record is to be left out.

    Args:
        positions: Positions (N,).
        size: Records a batch.

    Yields:
        Positions of each batch.
    """
    count = max(1, len(positions) // size + (len(positions) % size > 1))
    for number in range(count):
        yield positions[number * size : (number + 1) * size if number < count - 1 else None]


def forward(model: nn.Module, batches: Batches, positions: NDArray[np.int64], *, batch_size: int) -> Tensor:
    """Compute the logits of records in evaluation mode.

    Args:
        model: The model, on the device; its mode is put back.
        batches: The images.
        positions: Which records, (N,).
        batch_size: Records at a time.

    Returns:
        Logits (N, K), float32, on the device.
    """
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with torch.no_grad(), batches.runtime.autocast():
            return torch.cat([model(images).float() for images in batches.each(chunks(positions, batch_size))])
    finally:
        for module, mode in modes.items():
            module.training = mode
