"""How long calls take, measured in one way wherever it is asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from imgcls.data.spec import ImageSpec

__all__ = ["latencies", "timed"]


def timed(call: Callable[[], Any], *, rounds: int, warm: int = 3, device: str = "cpu") -> NDArray[np.float64]:
    """Time a call again and again.

    Args:
        call: What is timed.
        rounds: How often.
        warm: How often it is called before.
        device: Where it works; what a GPU has not finished is waited for.

    Returns:
        Seconds (rounds,).
    """
    found = []
    for _ in range(warm + rounds):
        started = time.perf_counter()
        call()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - started)
    return np.array(found[warm:])


@torch.no_grad()
def latencies(model: nn.Module, image: ImageSpec, device: str, *, rounds: int = 15) -> NDArray[np.float64]:
    """Time single images through a network in full precision, without decoding and normalisation.

    Args:
        model: The network; it is put into evaluation mode and moved.
        image: The form of its images.
        device: Where it runs.
        rounds: How many images.

    Returns:
        Milliseconds of each, (rounds,).
    """
    model = model.eval().to(device)
    pixels = torch.zeros(1, image.channels, *image.size, device=device)
    return 1000 * timed(lambda: model(pixels), rounds=rounds, device=device)
