from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

Texture = Callable[..., NDArray[np.uint8]]


@pytest.fixture
def texture() -> Texture:
    """Draw cloudy pictures that differ from seed to seed."""

    def draw(seed: int, *, size: tuple[int, int] = (72, 80), low: int = 40, high: int = 210) -> NDArray[np.uint8]:
        cells = np.random.default_rng(seed).integers(0, 256, (18, 20), dtype=np.uint8)
        picture = Image.fromarray(cells).resize((size[1], size[0]), Image.Resampling.BICUBIC)
        return (low + np.asarray(picture, np.float64) * (high - low) / 255).astype(np.uint8)

    return draw
