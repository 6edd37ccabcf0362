"""What a run writes beside its metrics: predictions as tables, and labels that are probably wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imgcls.core.folders import write_text
from imgcls.data.folds import Folds
from imgcls.evaluation.calibration import Calibration, calibrate, cross_calibrated, fit_calibration
from imgcls.evaluation.label_errors import label_errors
from imgcls.evaluation.predictions import Predictions

__all__ = ["calibrated", "write_findings"]

#: So many doubtful labels are listed at least, suspected or not.
_DOUBTS = 20


def calibrated(
    val: Sequence[Predictions], test: Sequence[Predictions], method: str, *, folds: Folds, seed: int
) -> tuple[list[Calibration], list[Predictions], list[Predictions]]:
    """Calibrate what the models of the folds said, each by its own validation records.

    Args:
        val: Validation predictions, one a fold.
        test: Test predictions, one a fold; empty where nothing tests.
        method: As for `fit_calibration`.
        folds: The folds that were trained.
        seed: Of the division of validation records, which calibrate each other.

    Returns:
        The calibration of each fold, and last that of all validation records together, for one model that is trained
        on all of them ("mean"); the calibrated validation predictions; the calibrated test predictions.
    """
    prior = None if folds.prior is None else [folds.prior[name] for name in val[0].classes]
    pooled = Predictions.concat(val)
    found = [fit_calibration(part, method, model=str(number), prior=prior) for number, part in enumerate(val)]
    crossed = [cross_calibrated(part, method, prior=prior, seed=seed) for part in val]
    whole = fit_calibration(pooled, method, model="mean", prior=prior)
    return [*found, whole], crossed, [calibrate(part, found) for part in test]


def write_findings(folder: Path, val: Predictions, final: Predictions) -> None:
    """Write predictions as tables with file names, and list labels that are probably wrong.

    Doubts come from records that the models did not train on: those that are reported, and where all models share a
    fixed test set the validation records too.

    Args:
        folder: The run's folder.
        val: The validation predictions of all folds.
        final: The predictions that are reported, of test or validation records.
    """
    import pandas as pd

    parts = {part.split: part for part in (val, final)}
    for split, part in parts.items():
        write_text(folder / f"predictions_{split}.csv", part.frame().to_csv(index=False))
    fixed = final.split == "test" and not set(val.ids.tolist()) <= set(final.ids.tolist())
    judged = [final, val] if fixed else [final]
    tables = [label_errors(part).assign(split=part.split) for part in judged]
    doubts = pd.concat(tables).sort_values("margin", kind="stable")
    listed = doubts[doubts["suspected"] | (np.arange(len(doubts)) < _DOUBTS)]
    write_text(folder / "label_errors.csv", listed.to_csv(index=False))
