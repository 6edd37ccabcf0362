"""Transforms of other libraries as functions of (image, rng), with their chance taken from the generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from imgcls.core import options

__all__ = ["PerSampleFunction", "as_function", "name_of"]

PerSampleFunction = Callable[[NDArray[np.uint8], np.random.Generator], Any]


def as_function(value: Any) -> PerSampleFunction:
    """Make a function of (image, rng) of what a user gave.

    Args:
        value: A transform of torchvision v2, or another module from (C, H, W) to the same; one of
            albumentations; or a function of (image, rng).

    Returns:
        The function, from and to (H, W, C).

    Raises:
        ConfigError: if it is none of these.
    """
    if isinstance(value, nn.Module):
        return lambda image, rng: _by_module(value, image, rng)
    if any(kind.__module__.startswith("albumentations.") for kind in type(value).__mro__):
        if not callable(getattr(value, "set_random_seed", None)):
            raise options.rejected("function", "be a transform of albumentations 2 or later", name_of(value))
        return lambda image, rng: _by_albumentations(value, image, rng)
    if not callable(value) or isinstance(value, type):
        remedy = "a configuration cannot hold a function: give it in Python"
        raise options.rejected("function", "be a function of (image, rng)", value, remedy)
    found: PerSampleFunction = value
    return found


def name_of(function: Any) -> str:
    """Name a function for messages.

    Args:
        function: What the user gave.

    Returns:
        Its name, or that of its class.
    """
    return str(getattr(function, "__name__", type(function).__name__))


# The default generator alone is seeded: torch.manual_seed would seed those of GPUs too, which are not put back.
def _by_module(module: nn.Module, image: NDArray[np.uint8], rng: np.random.Generator) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**63)))
        found = module(torch.from_numpy(image).permute(2, 0, 1).contiguous())
    return found.permute(1, 2, 0).numpy() if isinstance(found, torch.Tensor) and found.ndim == 3 else found


# Albumentations 2 keeps generators of its own, which its seed sets; they are no global chance.
def _by_albumentations(transform: Any, image: NDArray[np.uint8], rng: np.random.Generator) -> Any:
    transform.set_random_seed(int(rng.integers(2**32)))
    return transform(image=image)["image"]
