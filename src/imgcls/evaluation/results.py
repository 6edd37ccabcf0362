"""From the predictions of the folds to the results of a run, on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from imgcls.core import config
from imgcls.core.folders import read_json, write_json, write_text
from imgcls.evaluation.decisions import confusion, hard_errors
from imgcls.evaluation.evaluate import evaluate
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.thresholds import RULES, Threshold, fit_thresholds

__all__ = ["conclude", "load_thresholds"]

#: How often groups are drawn for each interval.
RESAMPLES = 1000


def conclude(
    folder: Path,
    val: Sequence[Predictions],
    test: Sequence[Predictions],
    *,
    fixed: bool,
    rules: Sequence[str | float],
    seed: int,
) -> None:
    """Fit thresholds on validation, apply them to test, and write everything down.

    Each fold's threshold is fitted on its own validation records. That of the mean of the
    folds, which `predict` applies, is fitted on the validation records of all folds, each
    predicted by a model that did not train on it; what several such models said about a
    record is averaged first, so that each record counts once.

    Args:
        folder: The run's folder.
        val: Validation predictions, one a fold.
        test: Test predictions, one a fold; empty where nothing tests.
        fixed: Whether all folds predict the same test records, which are then also
            predicted by the mean of the folds.
        rules: Threshold rules to fit beside the usual ones; first the one that decides.
        seed: Of the intervals.
    """
    import pandas as pd

    wanted = [*rules, *RULES]
    pooled = Predictions.concat(val)
    thresholds = [t for number, part in enumerate(val) for t in fit_thresholds(part, model=str(number), rules=wanted)]
    thresholds += fit_thresholds(pooled.mean_of_repeats(), model="mean", rules=wanted)
    tables = [evaluate(pooled, thresholds, resamples=RESAMPLES, seed=seed)]
    final = pooled
    if test:
        final = Predictions.mean_of_folds(test) if fixed else Predictions.concat(test)
        every = Predictions.concat([*test, final]) if fixed else final
        tables.append(evaluate(every, thresholds, resamples=RESAMPLES, seed=seed))
        final.save(folder / "predictions_test.npz")
    write_text(folder / "metrics.csv", pd.concat(tables).to_csv(index=False))
    write_json(folder / "thresholds.json", [attrs.asdict(threshold) for threshold in thresholds])
    decision = thresholds[0].rule if thresholds else ""
    write_text(folder / "hard_errors.csv", hard_errors(final, thresholds, decision).to_csv(index=False))
    write_json(folder / "evaluation.json", _summary(final, thresholds, fixed=fixed))


def _summary(final: Predictions, thresholds: Sequence[Threshold], *, fixed: bool) -> dict[str, Any]:
    rules = ["", *dict.fromkeys(threshold.rule for threshold in thresholds)]
    order = list(final.classes)
    if final.positive_index == 0:
        order.reverse()
    return {
        "schema": 1,
        "split": final.split,
        "records": len(final),
        "models": _models(final, fixed=fixed),
        "selection": _selection(final, bool(thresholds)),
        "intervals": _intervals("records" if final.groups is None else "groups"),
        "classes": order,
        "confusion": {rule or "argmax": confusion(final, thresholds, rule).tolist() for rule in rules},
    }


def _models(final: Predictions, *, fixed: bool) -> str:
    if fixed and final.split == "test":
        return "mean of the folds"
    if len(np.unique(final.fold)) == 1:
        return "by the only model"
    whose = "each record by the fold that did not train on it"
    return f"{whose}; predict applies the mean of the folds, which these numbers do not measure"


def _selection(final: Predictions, thresholds: bool) -> str:
    if final.split == "test":
        return "this run used its test numbers for nothing"
    chosen = "checkpoint and thresholds" if thresholds else "the checkpoint"
    return f"there are no test records: these validation numbers also chose {chosen}, so they flatter"


def _intervals(units: str) -> str:
    wilson = f"shares of records have the interval of Wilson (1927) for the number of {units}, other metrics none"
    return f"95 %, percentile bootstrap over {units}, {RESAMPLES} resamples; where these all agree, {wilson}"


def load_thresholds(path: Path) -> tuple[Threshold, ...]:
    """Read the thresholds of a run.

    Args:
        path: Its `thresholds.json`.

    Returns:
        The thresholds.
    """
    return tuple(config.build(Threshold, item, path=path.name) for item in read_json(path))
