"""What the trained model of a fold says of the records that it did not train on."""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imgcls.core.progress import warn
from imgcls.data.dataset import Dataset
from imgcls.data.folds import Fold
from imgcls.evaluation.of_records import predictions_of
from imgcls.evaluation.predictions import Predictions
from imgcls.models.base import Classifier
from imgcls.runtime.batches import Batches, forward
from imgcls.runtime.features import features_of
from imgcls.training.job import Job
from imgcls.training.planning import Recipe

__all__ = ["predict_fold"]

#: Records predicted at a time.
_PREDICTED = 64


def predict_fold(model: Classifier, job: Job, recipe: Recipe, fold: Fold, folder: Path) -> None:
    """Predict the validation and test records of a fold, in full precision.

    Args:
        model: The model with its best weights, on the device.
        job: Its training.
        recipe: What all folds share.
        fold: The records.
        folder: Where `predictions_val.npz` and, with test records, `predictions_test.npz` go.
    """
    data, batches, tested = recipe.dataset, job.batches, fold.test
    val = _predict(model, data, batches, fold.val, recipe, split="val", number=job.fold)
    _warn_of_collapse(val, job)
    if recipe.test is not None:
        data, source = recipe.test
        batches = Batches.over(source, recipe.runtime, spec=batches.spec)
        tested = np.setdiff1d(np.arange(len(data)), list(source.bad))
    test = _predict(model, data, batches, tested, recipe, split="test", number=job.fold) if len(tested) else None
    if recipe.ranks.first:
        val.save(folder / "predictions_val.npz")
        if test is not None:
            test.save(folder / "predictions_test.npz")


# A model that says the same of everyone has learnt nothing but what is frequent.
def _warn_of_collapse(val: Predictions, job: Job) -> None:
    chosen = np.unique(val.probs.argmax(axis=1))
    if val.labels.ndim == 1 and len(chosen) == 1 and len(np.unique(val.labels)) > 1:
        warn(
            f"Fold {job.fold}: {val.classes[chosen[0]]!r} is the most probable class of every validation record; train "
            "longer, raise 'lr', balance the classes, or look at the data",
            fold=job.fold,
        )


def _predict(
    model: Classifier,
    data: Dataset,
    batches: Batches,
    positions: NDArray[np.int64],
    recipe: Recipe,
    *,
    split: str,
    number: int,
) -> Predictions:
    logits = _logits(model, attrs.evolve(batches, runtime=batches.runtime.exact()), positions, recipe).cpu().numpy()
    return predictions_of(data, positions, logits, split=split, fold=number)


# A backbone that never trained gives the same features in every fold.
def _logits(model: Classifier, exact: Batches, positions: NDArray[np.int64], recipe: Recipe) -> Tensor:
    if recipe.caches and all(full.stage.train == "head" for full in recipe.stages):
        features = features_of(model.body, exact, positions)
        if features is not None:
            with torch.no_grad():
                return model.eval().classify(features.of(positions))
    _, own = recipe.ranks.share(positions)
    return recipe.ranks.gather(forward(model, exact, own, batch_size=_PREDICTED))
