"""The embeddings that the models of a run give its own records."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.data.dataset import Dataset
from imgcls.data.folds import Folds
from imgcls.inference.guarding import Guard, Known
from imgcls.inference.saved import SavedModel
from imgcls.models.base import Classifier
from imgcls.runtime.batches import Batches, forward
from imgcls.runtime.device import Runtime, pick_device
from imgcls.runtime.sources import open_source

__all__ = ["fit_guard"]

#: Records at a time.
_BATCH = 64

#: Training records of a fold that are kept, evenly spaced, so that file and search stay small.
_MOST = 50_000


def fit_guard(
    data: Dataset,
    folds: Folds,
    saved: SavedModel,
    models: Sequence[Classifier],
    *,
    on_bad: str = "raise",
    device: str = "auto",
) -> Guard:
    """Fit a guard against images unlike the training data.

    Args:
        data: The set that the models were trained on.
        folds: Which records trained and validated each.
        saved: The description of the models.
        models: One a fold.
        on_bad: What to do about unreadable images: `raise`, or `skip`, which leaves them out.
        device: `"auto"` or a torch device.

    Returns:
        The guard.

    Raises:
        DataError: if a fold has no validation records.
    """
    runtime = Runtime(device=pick_device(device))
    source = open_source(data, saved.image, on_bad=on_bad).to(runtime.device)
    known = []
    for fold, model in zip(folds, models, strict=True):
        own = attrs.evolve(saved.image, mean=model.facts.mean, std=model.facts.std)
        batches, body = Batches.over(source, runtime, spec=own), runtime.place(model.body)
        train, val = _some(np.setdiff1d(fold.train, list(source.bad))), np.setdiff1d(fold.val, list(source.bad))
        features = forward(body, batches, np.concatenate([train, val]), batch_size=_BATCH).cpu().numpy()
        known.append(Known.fit(features[: len(train)], train, features[len(train) :]))
    labels = data.frame["label"].to_numpy().astype(str)
    return Guard(folds=known, ids=data.ids.astype(str), labels=labels)


def _some(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(positions) <= _MOST:
        return positions
    return positions[np.linspace(0, len(positions) - 1, _MOST).astype(np.int64)]
