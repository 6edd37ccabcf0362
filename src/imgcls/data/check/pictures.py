"""Images of a set as small pictures inside of a page."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import ImgclsError
from imgcls.data.check.scan import eight_bits
from imgcls.data.dataset import Dataset

__all__ = ["map_picture", "pictures"]

#: The longer side in pixels.
_SIDE = 160

#: Classes that have a colour of their own in the map.
_COLORS = 10

#: Points of the map that are drawn.
_POINTS = 5000


def pictures(dataset: Dataset, positions: Iterable[int]) -> dict[int, str]:
    """Read images again and make them small.

    Args:
        dataset: The set.
        positions: Which records.

    Returns:
        Data URIs by position; empty where an image cannot be read.
    """
    wanted = sorted(set(positions))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(wanted, pool.map(lambda position: _picture(dataset, position), wanted), strict=True))


def _picture(dataset: Dataset, position: int) -> str:
    from PIL import Image

    try:
        pixels = eight_bits(dataset.original(position))
    except ImgclsError:
        return ""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    scale = _SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    buffer = io.BytesIO()
    image.resize(size).save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def map_picture(dataset: Dataset, points: NDArray[np.float64]) -> str:
    """Draw the map of the embeddings, a colour per class.

    Args:
        dataset: The set.
        points: Coordinates (N, 2).

    Returns:
        A PNG file as a data URI.
    """
    from matplotlib.figure import Figure

    labels = dataset.frame["label"].to_numpy(dtype=np.str_)
    step = -(-len(points) // _POINTS)
    points, labels = points[::step], labels[::step]
    figure = Figure(figsize=(8, 5), layout="constrained")
    axis = figure.subplots()
    for place, name in enumerate(dict.fromkeys([*dataset.classes, *labels.tolist()])):
        x, y = points[labels == name].T
        color = f"C{place}" if place < _COLORS else "0.7"
        # Small classes lie above large ones, which would hide them.
        drawn = axis.scatter(x, y, s=8, color=color, linewidths=0, alpha=0.7, zorder=3 - len(x) / len(points))
        if place < _COLORS:
            drawn.set_label(name.lstrip("_") or "no label")
    axis.set(xticks=[], yticks=[])
    for text in axis.legend(fontsize=8, markerscale=2, loc="upper left", bbox_to_anchor=(1, 1)).get_texts():
        text.set_parse_math(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
