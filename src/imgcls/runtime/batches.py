"""From positions in the decoded store to normalised images on the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imgcls.data.spec import ImageSpec
from imgcls.data.store import Store
from imgcls.runtime.device import Runtime

__all__ = ["Batches", "chunks", "forward", "normalisation", "normalise"]


def normalisation(spec: ImageSpec) -> tuple[Tensor, Tensor]:
    """Prepare the normalisation of a spec.

    Args:
        spec: The form of the images, with mean and standard deviation.

    Returns:
        What a pixel is multiplied by and what is then subtracted, both (1, C, 1, 1).
    """
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
    return 1 / (255 * std), mean / std


def normalise(raw: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Turn pixels into what a network sees; training, prediction and explanation all come here.

    Args:
        raw: Pixels (B, H, W, C), uint8.
        scale: Of `normalisation`.
        shift: Of `normalisation`.

    Returns:
        Images (B, C, H, W), float32, channels-last in memory as the pixels are.
    """
    return raw.permute(0, 3, 1, 2).float().mul_(scale).sub_(shift)


@final
@attrs.frozen(kw_only=True, eq=False)
class Batches:
    """Cuts batches of images out of a store.

    Attributes:
        pixels: All images (N, H, W, C), uint8; on the CPU a view of the file.
        scale: What a pixel is multiplied by, (1, C, 1, 1): one over 255 and the deviation.
        shift: What is then subtracted, (1, C, 1, 1): mean over deviation.
        runtime: Where the images go.
    """

    pixels: Tensor
    scale: Tensor
    shift: Tensor
    runtime: Runtime

    @classmethod
    def over(cls, store: Store, runtime: Runtime) -> Batches:
        """Prepare batches of a store.

        Args:
            store: The store; its spec has mean and standard deviation.
            runtime: Where the images go. On a GPU with room the whole store is moved there.

        Returns:
            The batches.
        """
        scale, shift = normalisation(store.spec)
        pixels = torch.from_numpy(store.images)
        if runtime.device.startswith("cuda") and pixels.numel() < 0.3 * torch.cuda.mem_get_info(runtime.device)[0]:
            pixels = pixels.to(runtime.device)
        return cls(pixels=pixels, scale=scale.to(runtime.device), shift=shift.to(runtime.device), runtime=runtime)

    def images(self, positions: NDArray[np.int64]) -> Tensor:
        """Cut out one batch.

        Args:
            positions: Positions (B,).

        Returns:
            Normalised images (B, C, H, W), float32, on the device.
        """
        index = torch.from_numpy(positions).to(self.pixels.device)
        raw = self.pixels.index_select(0, index).to(self.runtime.device)
        images = normalise(raw, self.scale, self.shift)
        return images if self.runtime.channels_last else images.contiguous()


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
            return torch.cat([model(batches.images(part)).float() for part in chunks(positions, batch_size)])
    finally:
        for module, mode in modes.items():
            module.training = mode
