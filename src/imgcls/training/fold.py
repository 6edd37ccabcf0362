"""The training of one fold: model, loop, and the predictions of its best checkpoint."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from imgcls.balancing.balancer import Balancer
from imgcls.balancing.base import Records
from imgcls.core.folders import write_text
from imgcls.core.progress import progress, say
from imgcls.core.randomness import derive_seed
from imgcls.data.dataset import Dataset
from imgcls.data.folds import Fold
from imgcls.data.spec import ImageSpec
from imgcls.evaluation.predictions import Predictions, probabilities
from imgcls.models.base import Classifier
from imgcls.runtime.batches import Batches, forward
from imgcls.runtime.device import Runtime
from imgcls.runtime.sources import Source, resolved
from imgcls.training.loop import EpochEnd, Job, fit
from imgcls.training.optim import Optimizer, Schedule
from imgcls.training.stages import EarlyStopping, Stage

__all__ = ["FoldResult", "Recipe", "train_fold", "write_skipped"]

#: Records predicted at a time.
_PREDICTED = 64


@attrs.frozen(kw_only=True, eq=False)
class Recipe:
    """What all folds of a run share.

    Attributes:
        dataset: The set.
        source: Its images.
        train_source: The images of training steps: those, or another view of the records.
        test: A test set outside of it with its images, or None.
        spec: The form of the images.
        runtime: Where they go.
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
    source: Source
    train_source: Source
    test: tuple[Dataset, Source] | None
    spec: ImageSpec
    runtime: Runtime
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

    @property
    def bad(self) -> Mapping[int, str]:
        """Why records of the set cannot be read, by position."""
        return {**self.train_source.bad, **self.source.bad}

    @property
    def skipped(self) -> dict[str, int]:
        """How many records were left out since they cannot be read, by the split that the set says."""
        counts = Counter(row["split"] or "set" for row in _skipped(self))
        return dict(sorted(counts.items()))


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
    model = recipe.runtime.place(recipe.build(derive_seed(recipe.seed, "weights", number)))
    assert isinstance(model, Classifier)
    history = _fit(model, job, recipe, label)
    data, batches, tested = recipe.dataset, job.batches, fold.test
    val = _predict(model, data, batches, fold.val, split="val", number=number)
    val.save(folder / "predictions_val.npz")
    if recipe.test is not None:
        data, source = recipe.test
        batches = Batches.over(source, recipe.runtime, spec=job.batches.spec)
        tested = np.setdiff1d(np.arange(len(data)), list(source.bad))
    test = _predict(model, data, batches, tested, split="test", number=number) if len(tested) else None
    return FoldResult(val=val, test=test, best=[event for event in history if event.best][-1])


def write_skipped(path: Path, recipe: Recipe) -> None:
    """List the records that were left out since they cannot be read, and say so.

    Args:
        path: The CSV file.
        recipe: What all folds share.
    """
    import pandas as pd

    write_text(path, pd.DataFrame(_skipped(recipe)).to_csv(index=False))
    counts = ", ".join(f"{count} of {name}" for name, count in recipe.skipped.items())
    say(f"Left out since they cannot be read: {counts}; listed in {path.name}. Their split is judged without them.")


def _skipped(recipe: Recipe) -> list[dict[str, str]]:
    sets = [(recipe.dataset, recipe.bad, "")]
    sets += [] if recipe.test is None else [(recipe.test[0], recipe.test[1].bad, "test")]
    return [
        {
            "id": str(data.ids[position]),
            "label": str(data.frame["label"].iloc[position]),
            "split": split or ("" if data.splits is None else str(data.splits[position])),
            "reason": reason,
        }
        for data, bad, split in sets
        for position, reason in sorted(bad.items())
    ]


def _job(recipe: Recipe, fold: Fold, seed: int, folder: Path) -> Job:
    data, balancer = recipe.dataset, recipe.balancer
    labels = data.labels[fold.train]
    groups = None if data.groups is None else data.groups[fold.train]
    weights = balancer.weights(labels, data.classes)
    device = recipe.runtime.device
    spec = resolved(recipe.spec, recipe.train_source, fold.train)
    return Job(
        batches=Batches.over(recipe.source, recipe.runtime, spec=spec),
        train_batches=Batches.over(recipe.train_source, recipe.runtime, spec=spec),
        targets=data.labels,
        weights=None if data.weights is None else torch.tensor(data.weights, dtype=torch.float32, device=device),
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
        columns=_columns(data, positions),
    )


# What else the set knows of its records goes with the predictions, so that they can be studied by it.
def _columns(data: Dataset, positions: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    part = data.frame.iloc[positions]
    return {name: part[name].to_numpy() for name in part.columns if name not in {"id", "label", "group", "split"}}
