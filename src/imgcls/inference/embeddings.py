"""The embeddings that the models of a run give: of records of a set, and of image files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from imgcls.core.options import rejected
from imgcls.data import images
from imgcls.data.dataset import Dataset
from imgcls.data.folds import Folds
from imgcls.inference.guarding import Guard, Known
from imgcls.inference.predictor import normalised
from imgcls.inference.saved import SavedModel
from imgcls.models.base import Classifier
from imgcls.runtime.batches import Batches, forward
from imgcls.runtime.device import Runtime, pick_device
from imgcls.runtime.sources import Source, open_source

__all__ = ["embed_files", "embed_records", "fit_guard"]

Floats = NDArray[np.float32]

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
        train, val = _some(np.setdiff1d(fold.train, list(source.bad))), np.setdiff1d(fold.val, list(source.bad))
        features = _features(source, runtime, saved, model, np.concatenate([train, val]))
        known.append(Known.fit(features[: len(train)], train, features[len(train) :]))
    labels = data.frame["label"].to_numpy().astype(str)
    return Guard(folds=known, ids=data.ids.astype(str), labels=labels)


def _some(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(positions) <= _MOST:
        return positions
    return positions[np.linspace(0, len(positions) - 1, _MOST).astype(np.int64)]


def _features(
    source: Source, runtime: Runtime, saved: SavedModel, model: Classifier, positions: NDArray[np.int64]
) -> Floats:
    own = attrs.evolve(saved.image, mean=model.facts.mean, std=model.facts.std)
    batches, body = Batches.over(source, runtime, spec=own), runtime.place(model.body)
    found: Floats = forward(body, batches, positions, batch_size=_BATCH).cpu().numpy()
    return found


def embed_records(
    data: Dataset, saved: SavedModel, model: Classifier, *, on_bad: str = "raise", device: str = "auto"
) -> Floats:
    """Compute the embeddings of all records of a set.

    Args:
        data: The set of N records.
        saved: The description of the model.
        model: The model, which goes to the device.
        on_bad: What to do about unreadable images: `raise`, or `skip`, which leaves their rows without numbers.
        device: `"auto"` or a torch device.

    Returns:
        What goes into the head, (N, D), in full precision; NaN for images that were skipped.

    Raises:
        DecodeError: if images cannot be read and `on_bad` is `raise`.
    """
    runtime = Runtime(device=pick_device(device))
    source = open_source(data, saved.image, on_bad=on_bad).to(runtime.device)
    readable = np.setdiff1d(np.arange(len(data)), list(source.bad))
    features = _features(source, runtime, saved, model, readable)
    found = np.full((len(data), features.shape[1]), np.nan, dtype=np.float32)
    found[readable] = features
    return found


def embed_files(paths: Sequence[Path], saved: SavedModel, model: Classifier) -> Floats:
    """Compute the embeddings of image files, on the CPU as predictions are.

    Args:
        paths: B files, at least one.
        saved: The description of the model.
        model: The model, on the CPU and in evaluation mode.

    Returns:
        What goes into the head, (B, D), in full precision.

    Raises:
        ConfigError: if there is no file.
        DecodeError: if a file is missing or cannot be read.
    """
    if not paths:
        raise rejected("images", "name at least one image file", [])
    found = []
    with torch.no_grad():
        for start in range(0, len(paths), _BATCH):
            pixels = np.stack([images.read(path, saved.image) for path in paths[start : start + _BATCH]])
            found.append(model.body(normalised(pixels, model, saved.image)).float().numpy())
    return np.concatenate(found)
