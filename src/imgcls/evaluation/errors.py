"""Errors beyond the worst ones: which classes are taken for which, and which records cost most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from imgcls.evaluation.arrays import Ints
from imgcls.evaluation.decisions import decisions, hard_errors
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.thresholds import Threshold
from imgcls.evaluation.weighted import Cases

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["confused_pairs", "hard_errors", "highest_losses"]


def confused_pairs(
    predictions: Predictions, thresholds: Sequence[Threshold] = (), rule: str | float = ""
) -> pd.DataFrame:
    """List which classes are taken for which, the most frequent confusion first.

    Args:
        predictions: N records.
        thresholds: As in `decisions`.
        rule: As in `decisions`.

    Returns:
        The columns y_true, y_pred, count (different records) and share (of the records of the true class). Of several
        labels y_true is a label that was missed and y_pred one that was wrongly seen in the same record; the other is
        empty where there is none.
    """
    import pandas as pd

    preds = decisions(predictions, thresholds, rule)
    pairs: dict[tuple[str, str], set[str]] = {}
    wrong = np.flatnonzero((preds != predictions.labels).reshape(len(predictions), -1).any(axis=1))
    for at in wrong.tolist():
        for pair in _pairs(predictions, preds, at):
            pairs.setdefault(pair, set()).add(str(predictions.ids[at]))
    sizes = {name: len(set(predictions.ids[predictions.has(k)])) for k, name in enumerate(predictions.classes)}
    sizes[""] = len(set(predictions.ids.tolist()))
    rows = [(true, said, len(ids), len(ids) / sizes[true]) for (true, said), ids in pairs.items()]
    rows.sort(key=lambda row: (-row[2], row[:2]))
    return pd.DataFrame(rows, columns=["y_true", "y_pred", "count", "share"])


def _pairs(predictions: Predictions, preds: Ints, at: int) -> list[tuple[str, str]]:
    names = predictions.classes
    if not predictions.multilabel:
        return [(names[predictions.labels[at]], names[preds[at]])]
    gap = predictions.labels[at] - preds[at]
    missed, seen = ([names[k] for k in np.flatnonzero(gap == sign)] for sign in (1, -1))
    return [(true, said) for true in missed or [""] for said in seen or [""]]


def highest_losses(predictions: Predictions, *, limit: int = 20) -> pd.DataFrame:
    """List the records that cost most, whatever was decided.

    Args:
        predictions: N records.
        limit: The most rows.

    Returns:
        Each record once, by its worst prediction: idx (its position), path (the id), y_true, y_score (the probability
        of the true class; of several labels the smallest of a right answer) and loss (cross-entropy in nats).
    """
    import pandas as pd

    losses = Cases(labels=predictions.labels, probs=predictions.probs).losses
    order = np.argsort(-losses, kind="stable")
    order = order[np.sort(np.unique(predictions.ids[order], return_index=True)[1])][:limit]
    if predictions.multilabel:
        scores = np.where(predictions.labels == 1, predictions.probs, 1 - predictions.probs).min(axis=1)
    else:
        scores = predictions.probs[np.arange(len(predictions)), predictions.labels]
    return pd.DataFrame(
        {
            "idx": order,
            "path": predictions.ids[order],
            "y_true": predictions.names(predictions.labels[order]),
            "y_score": scores[order],
            "loss": losses[order],
        }
    )
