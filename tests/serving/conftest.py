"""A model that tells how bright an image is, served."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imgcls.data.spec import ImageSpec
from imgcls.evaluation.thresholds import Threshold
from imgcls.inference.deciding import Decider
from imgcls.serving.served import Served

Png = Callable[..., bytes]


def brightness(pixels: NDArray[Any]) -> NDArray[np.float64]:
    light = pixels.mean(axis=(1, 2, 3)) / 255
    return np.stack([1 - light, light], axis=1)


@pytest.fixture
def served() -> Served:
    def threshold(rule: str, value: float) -> Threshold:
        return Threshold(rule=rule, value=value, model="mean", num_records=9, num_positives=4)

    decider = Decider(
        classes=("dark", "light"),
        positive="light",
        multilabel=False,
        decision="max_f1",
        thresholds=(threshold("max_f1", 0.4), threshold("sensitivity>=0.95", 0.2)),
    )
    image = ImageSpec(size=8, channels=1)
    return Served(name="lamps", kind="onnx", image=image, decider=decider, probs=brightness)


@pytest.fixture(scope="session")
def png() -> Png:
    def make(level: int = 128, size: tuple[int, int] = (12, 10), *, form: str = "PNG") -> bytes:
        stream = io.BytesIO()
        Image.new("L", size, level).save(stream, form)
        return stream.getvalue()

    return make
