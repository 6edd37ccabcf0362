"""Relevance maps of single images, drawn over them."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgcls.explain.base import explainers
from imgcls.explain.drawing import to_png
from imgcls.explain.panels import overlay
from imgcls.inference.predictor import Predictor, normalised
from imgcls.serving.served import Draw

__all__ = ["drawer"]


def drawer(predictor: Predictor, method: str) -> Draw:
    """Make what draws maps.

    Args:
        predictor: The models; the map is the mean of theirs.
        method: The explainer.

    Returns:
        A function from pixels (H, W, C) and a class to a PNG file. Threads may call it; one draws at a time, since
        maps need several times the memory of a prediction.
    """
    explainer, alone = explainers.create(method), threading.Lock()

    def draw(pixels: NDArray[Any], target: int) -> bytes:
        batch = np.stack([pixels])  # one that may be written, as torch wants
        with alone:
            maps = [
                explainer.explain(model, normalised(batch, model, predictor.image), [target]).maps[0]
                for model in predictor.models
            ]
        shown = pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
        return to_png(Image.fromarray(overlay(shown, np.mean(maps, axis=0))))

    return draw
