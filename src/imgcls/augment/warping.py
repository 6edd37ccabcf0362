"""All geometry of a batch in one resampling: matrices are multiplied, fields added, pixels read once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from imgcls.augment.base import Displacement, Geometric, Size, Step
from imgcls.augment.displacement import centred
from imgcls.augment.layouts import interleaved

__all__ = ["compose", "warp"]


def warp(
    images: Tensor, masks: Tensor | None, steps: Sequence[Step], matrices: Tensor, *, fill: str
) -> tuple[Tensor, Tensor | None]:
    """Move the pixels of images and of their masks.

    Flips and quarter turns alone move whole pixels and are exact. What else there is for an
    image is one bilinear resampling.

    Args:
        images: Images (B, C, H, W), float32.
        masks: Masks (B, H, W), or None. Shares (float) are read in between pixels, anything
            else at the nearest; outside they are 0.
        steps: Steps in order; of these only displacements count.
        matrices: Matrices (B, 3, 3) of all other geometry, from `compose`.
        fill: What images are outside: "zeros", "border" or "reflection".

    Returns:
        Images and masks; those that nothing happens to are equal bit by bit.
    """
    size = (images.shape[2], images.shape[3])
    bends = [step for step in steps if isinstance(step.transform, Displacement)]
    read = ~_is_turn(matrices, size) | _any(bends, len(images))
    turns = torch.where(read.view(-1, 1, 1), torch.eye(3, dtype=torch.float64), matrices)
    if masks is None and images.device.type == "cpu" and _reads_between_pixels():
        straight = read & ~_any(bends, len(images)) & (matrices[:, 2, :2] == 0).all(1)
        images, read = _one_by_one(images, matrices, turns, straight.tolist(), fill), read & ~straight
    else:
        images, masks = _turned(images, turns), None if masks is None else _turned(masks, turns)
    if not read.any():
        return images, masks
    grid = _grid(matrices[read], _bend(bends, read, size, images.device), size, images.device)
    images = _where(read, images, lambda chosen: _sampled(chosen, grid, "bilinear", fill))
    return images, None if masks is None else _where(read, masks, lambda chosen: _masks_sampled(chosen, grid))


# OpenCV 4 rounds places to a 32nd of a pixel, which shows: values are off by up to 0.02.
@functools.cache
def _reads_between_pixels() -> bool:
    import cv2

    return int(cv2.__version__.split(".")[0]) >= 5


# Three times as fast as grid_sample on a CPU, which wants to be told the place of every pixel; the values are the same
# within 1e-4. cv2 counts from the middle of the first pixel, the matrices from the middle of the image.
def _one_by_one(images: Tensor, matrices: Tensor, turns: Tensor, straight: list[bool], fill: str) -> Tensor:
    height, width = images.shape[2:]
    middle = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=torch.float64)
    shifts = matrices[:, :2, 2] + middle - matrices[:, :2, :2] @ middle
    places = torch.cat([matrices[:, :2, :2], shifts.unsqueeze(2)], dim=2).numpy()
    found, pixels = torch.empty(images.shape), interleaved(images)
    for number, moves in enumerate(straight):
        planes = found[number].numpy()
        if not moves:
            found[number] = _turned(images[number : number + 1], turns[number : number + 1])[0]
        elif pixels is not None:
            _affine_together(pixels[number], planes, places[number], fill)
        else:
            for source, plane in zip(images[number].contiguous().numpy(), planes, strict=True):
                _affine(source, places[number], fill, plane)
    return found


# A fourth channel, which nobody needs, makes it twice as fast as with three.
def _affine_together(pixels: NDArray[Any], planes: NDArray[Any], places: NDArray[Any], fill: str) -> None:
    import cv2

    moved = _affine(cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA), places, fill)
    cv2.mixChannels([moved], list(planes), [0, 0, 1, 1, 2, 2])


def _affine(pixels: NDArray[Any], places: NDArray[Any], fill: str, found: NDArray[Any] | None = None) -> NDArray[Any]:
    import cv2

    outside = {"zeros": cv2.BORDER_CONSTANT, "border": cv2.BORDER_REPLICATE, "reflection": cv2.BORDER_REFLECT}[fill]
    flags, size = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, (pixels.shape[1], pixels.shape[0])
    return cv2.warpAffine(pixels, places, size, dst=found, flags=flags, borderMode=outside)


def compose(steps: Sequence[Step], size: Size, count: int) -> Tensor:
    """Multiply the matrices of a batch.

    Args:
        steps: Steps in order; those without matrices make no difference.
        size: Height and width in pixels.
        count: Images in the batch.

    Returns:
        Matrices (count, 3, 3), float64, from places in the result to places in the image. As
        they lead backwards, the first transform's matrix stands leftmost.
    """
    eye = torch.eye(3, dtype=torch.float64)
    product = eye.repeat(count, 1, 1)
    for step in steps:
        if isinstance(step.transform, Geometric):
            own = step.transform.matrices(step.parameters, size)
            product = product @ torch.where(step.active.view(-1, 1, 1), own, eye)
    return product


# Whether a matrix only flips and turns by quarters, so that each pixel of the result is a pixel of the image.
def _is_turn(matrices: Tensor, size: Size) -> Tensor:
    linear = matrices[:, :2, :2].abs()
    whole = (linear == linear.round()).all(2).all(1)
    single = (linear.sum(1) == 1).all(1) & (linear.sum(2) == 1).all(1)
    still = (matrices[:, :2, 2] == 0).all(1) & (matrices[:, 2, :2] == 0).all(1)
    return whole & single & still & ((linear[:, 0, 0] == 1) | (size[0] == size[1]))


def _any(steps: Sequence[Step], count: int) -> Tensor:
    return torch.stack([torch.zeros(count, dtype=torch.bool), *(step.active for step in steps)]).any(0)


# A column of the matrix says where a step to the right (or down) in the result leads in the image.
def _turned(pictures: Tensor, matrices: Tensor) -> Tensor:
    pictures = _where(matrices[:, 0, 0] == 0, pictures, lambda chosen: chosen.transpose(-1, -2))
    pictures = _where(matrices[:, :2, 0].sum(1) < 0, pictures, lambda chosen: chosen.flip(-1))
    return _where(matrices[:, :2, 1].sum(1) < 0, pictures, lambda chosen: chosen.flip(-2))


def _where(chosen: Tensor, pictures: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    if chosen.all():
        return function(pictures)
    if not chosen.any():
        return pictures
    rows = chosen.nonzero().squeeze(1).to(pictures.device)
    return pictures.index_copy(0, rows, function(pictures.index_select(0, rows)))


# Where each pixel of the images to be read comes from, (R, H, W, 2), from -1 to 1 as grid_sample wants it. Sums and no
# products of matrices, whose rounding depends on how many there are.
def _grid(matrices: Tensor, bend: Tensor | None, size: Size, device: torch.device) -> Tensor:
    units = torch.tensor([2 / size[1], 2 / size[0], 1], dtype=torch.float64).view(3, 1)
    entries = (units * matrices).float().to(device).view(-1, 3, 3, 1, 1)
    x, y = centred(size, device).unbind(2)
    if bend is None:
        x, y = x[:1], y[:, :1]
    else:
        x, y = x + bend[..., 0], y + bend[..., 1]

    def reckoned(row: int) -> tuple[Tensor, Tensor]:
        return entries[:, row, 0] * x + entries[:, row, 2], entries[:, row, 1] * y

    grid = torch.empty(len(matrices), *size, 2, device=device)
    torch.add(*reckoned(0), out=grid[..., 0])
    torch.add(*reckoned(1), out=grid[..., 1])
    if (matrices[:, 2, :2] != 0).any():
        grid /= torch.add(*reckoned(2)).unsqueeze(-1)
    return grid


# How far curves shift the pixels of the images to be read, (R, H, W, 2).
def _bend(bends: Sequence[Step], read: Tensor, size: Size, device: torch.device) -> Tensor | None:
    if not bends:
        return None
    shifts = torch.zeros(int(read.sum()), *size, 2, device=device)
    number = read.cumsum(0) - 1
    for step in bends:
        if isinstance(step.transform, Displacement):
            index, parameters = step.drawn()
            shifts.index_add_(0, number[index].to(device), step.transform.field(parameters, size, device))
    return shifts


def _sampled(pictures: Tensor, grid: Tensor, mode: str, fill: str) -> Tensor:
    return functional.grid_sample(pictures, grid, mode=mode, padding_mode=fill, align_corners=False)


def _masks_sampled(masks: Tensor, grid: Tensor) -> Tensor:
    mode = "bilinear" if masks.is_floating_point() else "nearest"
    found = _sampled(masks.unsqueeze(1).to(grid.dtype), grid, mode, "zeros")
    return found.squeeze(1).to(masks.dtype)
