"""The training of one fold: model, loop, and the predictions of its best checkpoint."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imgcls.core.folders import read_json, write_json, write_text
from imgcls.core.progress import progress, say
from imgcls.core.randomness import derive_seed
from imgcls.data.dataset import Dataset
from imgcls.data.folds import Fold
from imgcls.evaluation.predictions import Predictions, probabilities
from imgcls.models.base import Classifier
from imgcls.runtime.batches import Batches, forward
from imgcls.runtime.checkpoints import load_checkpoint, save_checkpoint
from imgcls.runtime.features import features_of
from imgcls.training.events import EpochEnd, StepEnd
from imgcls.training.job import Job
from imgcls.training.loop import Listeners, fit
from imgcls.training.planning import Recipe, plan_job

__all__ = ["FoldResult", "skipped", "train_fold", "write_skipped"]

#: Records predicted at a time.
_PREDICTED = 64


@attrs.frozen(kw_only=True, eq=False)
class FoldResult:
    """What a trained fold leaves beside its checkpoint.

    Attributes:
        val: Predictions of its validation records.
        test: Predictions of its test records, or None.
        objective: The monitored value of the best weights.
    """

    val: Predictions
    test: Predictions | None
    objective: float


def train_fold(recipe: Recipe, fold: Fold, number: int, folder: Path, *, label: str) -> FoldResult:
    """Train one fold and predict its validation and test records; what was done before stays done.

    Args:
        recipe: What all folds share.
        fold: Its records.
        number: Which fold, from 0.
        folder: Where checkpoints, history and predictions go.
        label: What the progress display says.

    Returns:
        The predictions, computed in full precision, and the best epoch.
    """
    done = folder / "fold.json"
    if not done.exists():
        folder.mkdir(exist_ok=True)
        _train(recipe, fold, number, folder, label)
    recipe.ranks.wait()
    test = folder / "predictions_test.npz"
    return FoldResult(
        val=Predictions.load(folder / "predictions_val.npz"),
        test=Predictions.load(test) if test.exists() else None,
        objective=math.nan if (value := read_json(done)["objective"]) is None else value,
    )


def _train(recipe: Recipe, fold: Fold, number: int, folder: Path, label: str) -> None:
    job = plan_job(recipe, fold, number, folder)
    model = recipe.build(derive_seed(recipe.seed_of(number), "weights"))
    recipe.start(model, fold, number)
    if recipe.ranks.first:
        write_json(folder / "balance.json", [phase.account for phase in job.phases])
    placed = recipe.runtime.place(model)
    assert isinstance(placed, Classifier)
    history = _fit(placed, job, recipe, label)
    best = [event for event in history if event.best][-1]
    _predict_all(placed, job, recipe, fold, folder)
    if recipe.ranks.first:
        kept = load_checkpoint(job.folder / "best").facts["values"]  # of an average, which is no event
        write_json(folder / "fold.json", {"objective": kept[job.monitor], "epoch": best.epoch, "step": best.step})
        _tidy(job)


# Nothing goes on from here any more, so the last checkpoint keeps its weights alone.
def _tidy(job: Job) -> None:
    last = load_checkpoint(job.folder / "last")
    shutil.rmtree(job.folder / "last")
    save_checkpoint(job.folder / "last", attrs.evolve(last, state=None))
    shutil.rmtree(job.folder / "top", ignore_errors=True)


def _predict_all(model: Classifier, job: Job, recipe: Recipe, fold: Fold, folder: Path) -> None:
    data, batches, tested = recipe.dataset, job.batches, fold.test
    val = _predict(model, data, batches, fold.val, recipe, split="val", number=job.fold)
    if recipe.test is not None:
        data, source = recipe.test
        batches = Batches.over(source, recipe.runtime, spec=batches.spec)
        tested = np.setdiff1d(np.arange(len(data)), list(source.bad))
    test = _predict(model, data, batches, tested, recipe, split="test", number=job.fold) if len(tested) else None
    if recipe.ranks.first:
        val.save(folder / "predictions_val.npz")
        if test is not None:
            test.save(folder / "predictions_test.npz")


def write_skipped(path: Path, recipe: Recipe) -> None:
    """List the records that were left out since they cannot be read, and say so.

    Args:
        path: The CSV file.
        recipe: What all folds share.
    """
    import pandas as pd

    write_text(path, pd.DataFrame(_skipped(recipe)).to_csv(index=False))
    counts = ", ".join(f"{count} of {name}" for name, count in skipped(recipe).items())
    say(f"Left out since they cannot be read: {counts}; listed in {path.name}. Their split is judged without them.")


def skipped(recipe: Recipe) -> dict[str, int]:
    """Count the records that were left out since they cannot be read.

    Args:
        recipe: What all folds share.

    Returns:
        How many, by the split that the set says.
    """
    counts = Counter(row["split"] or "set" for row in _skipped(recipe))
    return dict(sorted(counts.items()))


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


def _fit(model: Classifier, job: Job, recipe: Recipe, label: str) -> list[EpochEnd]:
    history: list[EpochEnd] = []
    callbacks = recipe.callbacks if recipe.ranks.first else ()
    total, first = 0, 0
    for phase in job.phases:
        total, first = total + phase.steps(first), first + phase.stage.epochs
    with progress(label, total) as advance:

        def on_begin(past: list[EpochEnd], steps: int) -> None:
            history.extend(past)
            advance(steps)

        def on_step(event: StepEnd) -> None:
            advance(1)
            for callback in callbacks:
                callback(event)

        def on_epoch(event: EpochEnd) -> None:
            history.append(event)
            if recipe.ranks.first:
                write_text(job.folder.parent / "history.csv", _table(history))
            advance(0, f"{job.monitor} {event.val[job.monitor]:.4f}{' (best)' if event.best else ''}")
            for callback in callbacks:
                callback(event)

        return fit(model, job, Listeners(begin=on_begin, step=on_step, epoch=on_epoch))


def _table(history: list[EpochEnd]) -> str:
    names = history[0].val
    metrics = [*(f"train_{name}" for name in names if name != "loss"), *(f"val_{name}" for name in names)]
    header = ["epoch", "stage", "step", "lr", "train_loss", *metrics, "seconds", "best"]
    return "\n".join([",".join(header), *(",".join(map(_cell, _values(event))) for event in history)]) + "\n"


def _values(event: EpochEnd) -> list[float]:
    train = [event.train.get(name, math.nan) for name in event.val if name != "loss"]
    measured = [event.lr, event.train_loss, *train, *event.val.values()]
    return [event.epoch, event.stage, event.step, *measured, round(event.seconds, 3), int(event.best)]


def _cell(value: float) -> str:
    return "" if math.isnan(value) else str(value)


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


# A backbone that never trained gives the same features in every fold.
def _logits(model: Classifier, exact: Batches, positions: NDArray[np.int64], recipe: Recipe) -> Tensor:
    if recipe.caches and all(full.stage.train == "head" for full in recipe.stages):
        features = features_of(model.body, exact, positions)
        if features is not None:
            with torch.no_grad():
                return model.eval().classify(features.of(positions))
    _, own = recipe.ranks.share(positions)
    return recipe.ranks.gather(forward(model, exact, own, batch_size=_PREDICTED))


# What else the set knows of its records goes with the predictions, so that they can be studied by it.
def _columns(data: Dataset, positions: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    part = data.frame.iloc[positions]
    return {name: part[name].to_numpy() for name in part.columns if name not in {"id", "label", "group", "split"}}
