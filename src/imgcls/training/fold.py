"""The training of one fold: model, loop, and the predictions of its best checkpoint."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import attrs

from imgcls.core.folders import read_json, write_json
from imgcls.core.randomness import derive_seed
from imgcls.data.folds import Fold
from imgcls.evaluation.predictions import Predictions
from imgcls.models.base import Classifier
from imgcls.runtime.checkpoints import load_checkpoint, save_checkpoint
from imgcls.training.planning import Recipe, plan_job
from imgcls.training.predicting import predict_fold
from imgcls.training.telling import fit_told

__all__ = ["FoldResult", "train_fold"]


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
    if recipe.ranks.first:
        _tidy(folder / "checkpoints")
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
    history = fit_told(placed, job, recipe, label)
    best = [event for event in history if event.best][-1]
    predict_fold(placed, job, recipe, fold, folder)
    if recipe.ranks.first:
        kept = load_checkpoint(job.folder / "best").facts["values"]  # of an average, which is no event
        write_json(folder / "fold.json", {"objective": kept[job.monitor], "epoch": best.epoch, "step": best.step})


# Nothing goes on from here any more, so the last checkpoint keeps its weights alone; a kill in between does no harm.
def _tidy(folder: Path) -> None:
    last = load_checkpoint(folder / "last")
    if last.state is not None:
        save_checkpoint(folder / "last", attrs.evolve(last, state=None))
    shutil.rmtree(folder / "top", ignore_errors=True)
