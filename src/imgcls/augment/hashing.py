"""More chance than a table holds: numbers for every pixel, each a hash of its place and of the key of its image."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

__all__ = ["normal", "uniform"]

# A hash and not a generator for each image: it makes a whole batch at once, the same on every device.


def uniform(keys: Tensor, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Draw evenly from 0 to 1.

    Args:
        keys: A whole number for each image below 2**31, (B,).
        shape: How many numbers an image needs, along each axis.
        device: Where to.

    Returns:
        Multiples of 2**-24 in [0, 1), (B, *shape), float32.
    """
    return ((_bits(keys, math.prod(shape), device) & 0xFFFFFF) * 2.0**-24).view(-1, *shape)


def normal(keys: Tensor, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Draw from the normal distribution of mean 0 and deviation 1.

    Args:
        keys: A whole number for each image below 2**31, (B,).
        shape: How many numbers an image needs, along each axis.
        device: Where to.

    Returns:
        The 65,536 quantiles in the middle of equal shares, the largest 4.3, (B, *shape), float32.
    """
    count = math.prod(shape)
    halves = _bits(keys, -(-count // 2), device).view(torch.int16).int().add_(2**15)
    found = _quantiles(device).index_select(0, halves.flatten()).view(len(keys), -1)
    return found[:, :count].reshape(-1, *shape)


@functools.cache
def _quantiles(device: torch.device) -> Tensor:
    shares = (torch.arange(2**16, dtype=torch.float64) + 0.5) / 2**16
    found: Tensor = torch.special.ndtri(shares)
    return found.float().to(device)


# Places are mixed before the key comes in, or images of neighbouring keys would have the same noise, shifted.
def _bits(keys: Tensor, count: int, device: torch.device) -> Tensor:
    return _mixed(_places(count, device) ^ keys.to(torch.int32).to(device).unsqueeze(1))


@functools.lru_cache(maxsize=4)
def _places(count: int, device: torch.device) -> Tensor:
    return _mixed(torch.arange(count, dtype=torch.int32, device=device))


# The finalizer of MurmurHash3 (Appleby); masks, as the shift to the right of a signed number repeats its sign. Words
# are overwritten.
def _mixed(words: Tensor) -> Tensor:
    words.bitwise_xor_((words >> 16).bitwise_and_(0xFFFF)).mul_(0x85EBCA6B - 2**32)
    words.bitwise_xor_((words >> 13).bitwise_and_(0x7FFFF)).mul_(0xC2B2AE35 - 2**32)
    return words.bitwise_xor_((words >> 16).bitwise_and_(0xFFFF))
