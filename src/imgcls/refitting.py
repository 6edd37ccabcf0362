"""One model on all records of a run, for people who deploy one model."""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from imgcls.core.config import from_yaml
from imgcls.core.errors import RunError
from imgcls.core.folders import new_folder, read_json, write_json
from imgcls.core.randomness import generator
from imgcls.data.folds import Fold, Folds
from imgcls.evaluation.calibration import save_calibrations
from imgcls.inference.saved import SavedModel
from imgcls.preparing import prepare
from imgcls.run import Run, finish_run, load_run
from imgcls.runtime.device import Runtime
from imgcls.runtime.interruption import interruptible
from imgcls.runtime.ranks import Ranks
from imgcls.trainer import Trainer
from imgcls.training.fold import train_fold
from imgcls.training.schedules import Plateau

__all__ = ["refit"]

#: Records whose metrics the history of a refitted model has; they are of those that it trains on.
_WATCHED = 256

#: What a refitted model takes from the run: its numbers are those of other models of the same training.
_COPIED = (
    *("config.yaml", "environment.json", "manifest.csv", "thresholds.json"),
    *("metrics.csv", "hard_errors.csv", "label_errors.csv", "baselines.csv", "predictions_test.npz"),
)

_SPEAKS = (
    "this model was trained on all their records and was not measured itself, so the numbers speak for it as far as it "
    "was trained alike"
)


def refit(run: Run, *, out: Path | str | None = None) -> Run:
    """Train one model on all records of a run but those of a fixed test set.

    It trains for the median of the epochs after which the models of the folds were best, with the
    learning rates that they had. Its threshold is that of the mean of the folds, fitted on predictions of
    records that no model had trained on.

    Args:
        run: The run of the folds.
        out: The folder; None takes `refit` in that of the run.

    Returns:
        The run of the one model; its numbers are those of the folds, and its report says so.

    Raises:
        RunError: if the run's configuration cannot be rebuilt, or its learning rates followed validation.
    """
    trainer = _trainer(run)
    epochs, fold = _epochs(run), _everything(run)
    folder = new_folder(run.folder / "refit" if out is None else out)
    with interruptible():
        runtime = Runtime(**read_json(run.folder / "environment.json")["runtime"])
        recipe, model = prepare(trainer, num_folds=1, ranks=Ranks(), runtime=runtime)
        train_fold(attrs.evolve(recipe, final=epochs, average=1), fold, 0, folder / "fold_0", label="Refit")
        _describe(run, folder, fold, model)
        _finish(run, folder, epochs)
    return load_run(folder, data=run.data, backbone=trainer.backbone)


def _trainer(run: Run) -> Trainer:
    options = from_yaml((run.folder / "config.yaml").read_text(encoding="utf-8"))
    test = options.pop("test")
    given: dict[str, Any] = {"data": run.data, "init_from": None, "out": None, "fold_seeds": None}
    given |= {"test": None if isinstance(test, dict) else test, "callbacks": (), "trackers": ()}
    if "opaque" in options["backbone"]:
        given["backbone"] = run.given_backbone
    trainer = Trainer(**{**options, **given})
    if any(isinstance(full.schedule, Plateau) for full in trainer.full_stages):
        raise RunError(
            "'schedule' must not be 'plateau' to refit, since without validation nothing says when to go down"
        )
    return trainer


# All that the folds used, but for a test set that is the same in each.
def _everything(run: Run) -> Fold:
    folds = run.folds
    parts = [np.concatenate([fold.train, fold.val, fold.test]) for fold in folds]
    fixed = np.intersect1d(folds[0].test, folds[-1].test) if len(folds) > 1 else folds[0].test
    train = np.setdiff1d(np.unique(np.concatenate(parts)), fixed)
    watched = generator(0, "refit").permutation(train)[:_WATCHED]
    unused = np.setdiff1d(np.arange(len(run.data)), np.concatenate([train, fixed]))
    return Fold(train=train, val=np.sort(watched), test=fixed, unused=unused)


def _epochs(run: Run) -> int:
    kept = [read_json(path)["epoch"] + 1 for path in sorted(run.folder.glob("fold_*/fold.json"))]
    return int(statistics.median_high(kept))


def _describe(run: Run, folder: Path, fold: Fold, model: SavedModel) -> None:
    for name in _COPIED:
        if (run.folder / name).exists():
            shutil.copyfile(run.folder / name, folder / name)
    (folder / "fold_0" / "predictions_val.npz").unlink()  # of records that it trained on
    if run.calibrations:  # what all validation records say is for one model that is trained on all of them
        whole = next(one for one in run.calibrations if one.model == "mean")
        save_calibrations(folder / "calibration.json", [attrs.evolve(whole, model="0"), whole])
    model.save(folder / "model.json")
    kept = attrs.evolve(fold, val=np.arange(0))
    data = run.data
    Folds(folds=(kept,), fingerprint=data.fingerprint, repeats=(0,), report="test").save(folder / "splits.json", data)
    summary = read_json(run.folder / "evaluation.json")
    write_json(folder / "evaluation.json", {**summary, "models": f"models of the folds; {_SPEAKS}"})


def _finish(run: Run, folder: Path, epochs: int) -> None:
    names = ("fingerprint", "test_fingerprint", "positive_given", "mask_threshold", "monitor", "skipped")
    finish_run(
        folder,
        num_folds=1,
        root=run.data.root,
        objective=[],
        refit_of=str(run.folder.resolve()),
        epochs=epochs,
        **{name: run.facts[name] for name in names},
        test_openings=run.facts.get("test_openings"),
    )
