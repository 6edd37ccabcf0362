"""Relevance maps of predicted files, drawn over them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgcls.core.progress import progress, warn
from imgcls.data import images
from imgcls.explain.base import Explainer
from imgcls.explain.drawing import to_png
from imgcls.explain.panels import overlay, panel_name
from imgcls.inference.attribution_folder import method_name
from imgcls.inference.explaining import explained_by
from imgcls.inference.predictor import Predictor

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["draw_maps", "picture"]

#: Images explained at a time.
_BATCH = 16


def draw_maps(predictor: Predictor, table: pd.DataFrame, *, explainer: Explainer, folder: Path) -> list[str]:
    """Draw over each image what its decision rests on: the mean of the models' maps, painted on a scale of its own.

    Args:
        predictor: The models.
        table: What they said of the files, as `Predictor.predict` gives it.
        explainer: The method.
        folder: Where to; it may exist, and files of the same names are replaced.

    Returns:
        The files by row; empty texts for images that could not be read, and where a map says nothing.

    Raises:
        UnsupportedModelError: if the method cannot treat the network; with the reason.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target, found = _targets(predictor, table), [""] * len(table)
    readable = np.flatnonzero(table["error"] == "" if "error" in table else np.ones(len(table), dtype=np.bool_))
    with progress("Drawing maps", len(readable)) as advance:
        for start in range(0, len(readable), _BATCH):
            rows = readable[start : start + _BATCH]
            pixels = np.stack([images.read(Path(table["path"].iloc[row]), predictor.image) for row in rows])
            maps = explained_by(predictor.models, explainer, pixels, target[rows], spec=predictor.image)
            for row, image, relevance, valid in zip(rows.tolist(), pixels, maps.maps, maps.valid, strict=True):
                if valid:
                    found[row] = str(folder / _name(row, table, predictor.saved.classes[target[row]], explainer))
                    Path(found[row]).write_bytes(picture(image, relevance))
            advance(len(rows))
    if lost := sum(not found[row] for row in readable):
        warn(f"{lost} of {len(readable)} maps are zero everywhere or not finite; these say nothing and were not drawn")
    return found


# The class that was decided; of several labels the most probable one.
def _targets(predictor: Predictor, table: pd.DataFrame) -> NDArray[np.int64]:
    classes = predictor.saved.classes
    if predictor.saved.multilabel:
        probs = table[[f"prob_{name}" for name in classes]].to_numpy()
        return np.asarray(np.nan_to_num(probs).argmax(axis=1))
    place = {"": 0, **{name: number for number, name in enumerate(classes)}}
    return np.array([place[name] for name in table["decision"]], dtype=np.int64)


def _name(row: int, table: pd.DataFrame, target: str, explainer: Explainer) -> str:
    image = table["path"].iloc[row]
    return panel_name(row, image=image, truth=None, predicted=target, method=method_name(explainer))


def picture(pixels: NDArray[Any], relevance: NDArray[Any]) -> bytes:
    """Draw a map over its image.

    Args:
        pixels: (H, W, C) in 8 or 16 bits; deep ones are shown by their high byte.
        relevance: (H, W).

    Returns:
        A PNG file.
    """
    shown = pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
    return to_png(Image.fromarray(overlay(shown, relevance)))
