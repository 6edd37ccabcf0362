"""The training of one fold: model, loop, and the predictions of its best checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from imgcls.balancing.balancer import Balancer
from imgcls.balancing.base import Records
from imgcls.core.folders import write_text
from imgcls.core.progress import progress
from imgcls.core.randomness import derive_seed
from imgcls.data.dataset import Dataset
from imgcls.data.folds import Fold
from imgcls.evaluation.predictions import Predictions, probabilities
from imgcls.models.base import Classifier
from imgcls.runtime.batches import Batches, forward
from imgcls.training.loop import EpochEnd, Job, fit
from imgcls.training.optim import Optimizer, Schedule
from imgcls.training.stages import EarlyStopping, Stage

__all__ = ["FoldResult", "Recipe", "train_fold"]

#: Records predicted at a time.
_PREDICTED = 64


@attrs.frozen(kw_only=True, eq=False)
class Recipe:
    """What all folds of a run share.

    Attributes:
        dataset: The set.
        batches: Its images.
        test: A test set outside of it with its images, or None.
        build: Makes the model of a fold from a seed.
        balancer: How imbalance is met.
        stages: The stages.
        optimizer: Where a stage names none.
        schedule: Where a stage names none.
        monitor: The metric that chooses the checkpoint.
        early_stopping: When a stage ends early, or None.
        batch_size: Records a step.
        seed: The seed of the run.
        callbacks: Called with each `EpochEnd`.
    """

    dataset: Dataset
    batches: Batches
    test: tuple[Dataset, Batches] | None
    build: Callable[[int], Classifier]
    balancer: Balancer
    stages: tuple[Stage, ...]
    optimizer: Optimizer
    schedule: Schedule
    monitor: str
    early_stopping: EarlyStopping | None
    batch_size: int
    seed: int
    callbacks: tuple[Callable[[EpochEnd], Any], ...]


@attrs.frozen(kw_only=True, eq=False)
class FoldResult:
    """What a trained fold leaves beside its checkpoint.

    Attributes:
        val: Predictions of its validation records.
        test: Predictions of its test records, or None.
        best: The epoch whose weights were kept.
    """

    val: Predictions
    test: Predictions | None
    best: EpochEnd


def train_fold(recipe: Recipe, fold: Fold, number: int, folder: Path, *, label: str) -> FoldResult:
    """Train one fold and predict its validation and test records.

    Args:
        recipe: What all folds share.
        fold: Its records.
        number: Which fold, from 0.
        folder: Where checkpoint, history and validation predictions go.
        label: What the progress display says.

    Returns:
        The predictions, computed in full precision, and the best epoch.
    """
    job = _job(recipe, fold, derive_seed(recipe.seed, "fold", number), folder)
    model = recipe.batches.runtime.place(recipe.build(derive_seed(recipe.seed, "weights", number)))
    assert isinstance(model, Classifier)
    history = _fit(model, job, recipe, label)
    data, batches, tested = recipe.dataset, recipe.batches, fold.test
    val = _predict(model, data, batches, fold.val, split="val", number=number)
    val.save(folder / "predictions_val.npz")
    if recipe.test is not None:
        data, batches = recipe.test
        tested = np.arange(len(data))
    test = _predict(model, data, batches, tested, split="test", number=number) if len(tested) else None
    return FoldResult(val=val, test=test, best=[event for event in history if event.best][-1])


def _job(recipe: Recipe, fold: Fold, seed: int, folder: Path) -> Job:
    data, balancer = recipe.dataset, recipe.balancer
    labels = data.labels[fold.train]
    groups = None if data.groups is None else data.groups[fold.train]
    weights = balancer.weights(labels, data.classes)
    device = recipe.batches.runtime.device
    return Job(
        batches=recipe.batches,
        targets=data.labels,
        train=fold.train,
        val=fold.val,
        records=Records(labels=labels, groups=groups, num_classes=len(data.classes)),
        sampler=balancer.sampler,
        loss=balancer.loss,
        class_weights=None if weights is None else torch.tensor(weights, dtype=torch.float32, device=device),
        stages=recipe.stages,
        optimizer=recipe.optimizer,
        schedule=recipe.schedule,
        monitor=recipe.monitor,
        early_stopping=recipe.early_stopping,
        batch_size=recipe.batch_size,
        positive=None if data.positive is None else data.classes.index(data.positive),
        seed=seed,
        folder=folder / "checkpoints",
        ids=data.ids,
    )


def _fit(model: Classifier, job: Job, recipe: Recipe, label: str) -> list[EpochEnd]:
    history: list[EpochEnd] = []
    epochs = sum(stage.epochs for stage in job.stages)
    with progress(label, epochs * len(job.draws(0))) as advance:

        def on_epoch(event: EpochEnd) -> None:
            history.append(event)
            write_text(job.folder.parent / "history.csv", _table(history))
            advance(0, f"{job.monitor} {event.val[job.monitor]:.4f}{' (best)' if event.best else ''}")
            for callback in recipe.callbacks:
                callback(event)

        return fit(model, job, on_step=lambda: advance(1), on_epoch=on_epoch)


def _table(history: list[EpochEnd]) -> str:
    header = ["epoch", "stage", "lr", "train_loss", *(f"val_{name}" for name in history[0].val), "seconds", "best"]
    return "\n".join([",".join(header), *(",".join(map(_cell, _values(event))) for event in history)]) + "\n"


def _values(event: EpochEnd) -> list[float]:
    measured = [event.lr, event.train_loss, *event.val.values()]
    return [event.epoch, event.stage, *measured, round(event.seconds, 3), int(event.best)]


def _cell(value: float) -> str:
    return "" if math.isnan(value) else str(value)


def _predict(
    model: Classifier, data: Dataset, batches: Batches, positions: NDArray[np.int64], *, split: str, number: int
) -> Predictions:
    exact = attrs.evolve(batches, runtime=batches.runtime.exact())
    logits = forward(model, exact, positions, batch_size=_PREDICTED).cpu().numpy()
    return Predictions(
        ids=data.ids[positions],
        labels=data.labels[positions],
        logits=logits,
        probs=probabilities(logits),
        groups=None if data.groups is None else data.groups[positions],
        fold=np.full(len(positions), number),
        split=split,
        classes=data.classes,
        positive=data.positive,
    )
