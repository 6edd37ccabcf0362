"""What a model costs, which a search may minimise or limit beside the metric."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from torch import nn

from imgcls.data.spec import ImageSpec
from imgcls.runtime.timing import latencies

__all__ = ["EXTRAS", "measured"]

#: What can be measured: milliseconds that one image takes, and millions of weights.
EXTRAS = ("latency", "parameters")


def measured(names: Iterable[str], model: nn.Module, image: ImageSpec, device: str) -> dict[str, float]:
    """Measure a model.

    Args:
        names: Some of `EXTRAS`.
        model: The model, on the CPU; it may be moved.
        image: The form of its images.
        device: Where it is to run.

    Returns:
        The values by name: `latency` in ms is the median over single images in full precision, as `imgcls
        benchmark` tells of the network, `parameters` is in millions.
    """
    makers: dict[str, Any] = {
        "latency": lambda: np.median(latencies(model, image, device)),
        "parameters": lambda: sum(weights.numel() for weights in model.parameters()) / 1e6,
    }
    return {name: float(makers[name]()) for name in names}
