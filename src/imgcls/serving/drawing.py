"""Relevance maps of single images, drawn over them."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgcls.explain.base import explainers
from imgcls.inference.explaining import explained_by
from imgcls.inference.overlays import picture
from imgcls.inference.predictor import Predictor
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
            found = explained_by(predictor.models, explainer, batch, np.array([target]), spec=predictor.image)
        return picture(pixels, found.maps[0])

    return draw
