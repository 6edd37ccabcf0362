"""What a model costs, which a search may minimise or limit beside the metric."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from imgcls.data.spec import ImageSpec

__all__ = ["EXTRAS", "measured"]

#: What can be measured: milliseconds that one image takes, and millions of weights.
EXTRAS = ("latency", "parameters")

#: Images before the clock starts, and those that are timed.
_WARM, _TIMED = 3, 15


def measured(names: Iterable[str], model: nn.Module, image: ImageSpec, device: str) -> dict[str, float]:
    """Measure a model.

    Args:
        names: Some of `EXTRAS`.
        model: The model, on the CPU; it may be moved.
        image: The form of its images.
        device: Where it is to run.

    Returns:
        The values by name: `latency` in ms is the median over single images in full precision, `parameters` is in
        millions.
    """
    makers: dict[str, Any] = {
        "latency": lambda: latency(model, image, device),
        "parameters": lambda: sum(weights.numel() for weights in model.parameters()) / 1e6,
    }
    return {name: float(makers[name]()) for name in names}


@torch.no_grad()
def latency(model: nn.Module, image: ImageSpec, device: str) -> float:
    """Time single images.

    Args:
        model: The model.
        image: The form of its images.
        device: Where it runs.

    Returns:
        The median in ms.
    """
    model = model.eval().to(device)
    pixels = torch.zeros(1, image.channels, *image.size, device=device)
    seconds = []
    for _ in range(_WARM + _TIMED):
        started = time.perf_counter()
        model(pixels)
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds[_WARM:])
