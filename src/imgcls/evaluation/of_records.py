"""Predictions of the records of a set, with what the set knows of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgcls.data.dataset import Dataset
from imgcls.evaluation.predictions import Predictions, probabilities

__all__ = ["predictions_of"]


def predictions_of(
    data: Dataset, positions: NDArray[np.int64], logits: NDArray[np.float32], *, split: str, fold: int
) -> Predictions:
    """Put what a model said beside what the set knows, so that errors can be studied by its columns.

    Args:
        data: The set, with the classes of the model in its order.
        positions: Where the N records stand in it.
        logits: (N, K), or (N, 1).
        split: What to call the records.
        fold: The number of the model.

    Returns:
        The predictions, before calibration.
    """
    part = data.frame.iloc[positions]
    others = [name for name in part.columns if name not in {"id", "label", "group", "split"}]
    return Predictions(
        ids=data.ids[positions],
        labels=data.labels[positions],
        logits=logits,
        probs=probabilities(logits, multilabel=data.multilabel),
        groups=None if data.groups is None else data.groups[positions],
        fold=np.full(len(positions), fold),
        split=split,
        classes=data.classes,
        positive=data.positive,
        columns={name: part[name].to_numpy() for name in others},
    )
