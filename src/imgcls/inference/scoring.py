"""What the models of a run say of the records of a set."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.data.dataset import Dataset
from imgcls.evaluation.of_records import predictions_of
from imgcls.evaluation.predictions import Predictions
from imgcls.inference.saved import SavedModel
from imgcls.models.base import Classifier
from imgcls.runtime.batches import Batches, forward
from imgcls.runtime.device import Runtime, pick_device
from imgcls.runtime.sources import open_source

__all__ = ["score"]

#: Records predicted at a time.
_BATCH = 64


def score(
    data: Dataset,
    parts: Sequence[NDArray[np.int64]],
    saved: SavedModel,
    models: Sequence[Classifier],
    *,
    split: str,
    on_bad: str = "raise",
    device: str = "auto",
) -> list[Predictions]:
    """Predict records of a set, in full precision.

    Args:
        data: The set, with the classes of the run in its order.
        parts: The positions that each model predicts.
        saved: The description of the models.
        models: One a fold.
        split: What to call the records.
        on_bad: What to do about unreadable images: `raise`, or `skip`, which leaves them out.
        device: `"auto"` or a torch device.

    Returns:
        What each model said, before calibration.
    """
    runtime = Runtime(device=pick_device(device))
    source = open_source(data, saved.image, on_bad=on_bad).to(runtime.device)
    found = []
    for fold, (positions, model) in enumerate(zip(parts, models, strict=True)):
        own = attrs.evolve(saved.image, mean=model.facts.mean, std=model.facts.std)
        readable = np.setdiff1d(positions, list(source.bad))
        batches = Batches.over(source, runtime, spec=own)
        logits = forward(runtime.place(model), batches, readable, batch_size=_BATCH).cpu().numpy()
        found.append(predictions_of(data, readable, logits, split=split, fold=fold))
    return found
