"""Labels that are probably wrong, by what models say that did not train on the record.

Confident learning (Northcutt, Jiang and Chuang 2021): a record speaks for a class where its probability is at least
what records with that label have on average. A record that speaks for another class than its label is suspected. The
average differs from class to class, so a model that is less sure of one class does not make all of its labels suspect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imgcls.evaluation.arrays import Bools, Floats, Ints
from imgcls.evaluation.predictions import Predictions

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["label_errors"]


def label_errors(predictions: Predictions, *, limit: int | None = None) -> pd.DataFrame:
    """Rank records by how probable it is that their label is wrong.

    Args:
        predictions: N records, each predicted by a model that did not train on it. What several such models said about
            a record is averaged.
        limit: The most rows; None gives all records.

    Returns:
        The most doubtful labels first, by margin: idx (position by id where a record has several predictions), path
        (the id), y_true (the label), suggested (the class that the record speaks for most, its label where it speaks
        for none; of several labels the label that is doubted, with `not` before it where it is to go), y_score (the
        probability of that), p_label (the probability of the label as it is), margin (p_label less the largest other
        one, from -1 to 1) and suspected.
    """
    import pandas as pd

    found = predictions if len(np.unique(predictions.ids)) == len(predictions) else predictions.mean_of_repeats()
    table = _of_several(found) if found.multilabel else _of_one(found)
    frame = pd.DataFrame({"idx": np.arange(len(found)), "path": found.ids, **table})
    frame = frame.sort_values("doubt", ascending=False, kind="stable")
    return frame.drop(columns="doubt").head(len(frame) if limit is None else limit).reset_index(drop=True)


def _of_one(found: Predictions) -> dict[str, object]:
    rows, labels = np.arange(len(found)), found.labels
    spoken, best = _spoken(found.probs, labels)
    own = found.probs[rows, labels]
    others = found.probs.copy()
    others[rows, labels] = -1
    margin = own - others.max(axis=1)
    return {
        "y_true": found.names(labels),
        "suggested": found.names(best),
        "y_score": found.probs[rows, best],
        "p_label": own,
        "margin": margin,
        "suspected": spoken & (best != labels),
        "doubt": -margin,
    }


# For which class each record speaks most, and whether it speaks for any.
def _spoken(probs: Floats, labels: Ints) -> tuple[Bools, Ints]:
    known = range(probs.shape[1])
    usual = np.array([probs[labels == k, k].mean() if (labels == k).any() else np.inf for k in known])
    speaks = probs >= usual
    spoken: Bools = np.asarray(speaks.any(axis=1))
    best: Ints = np.where(spoken, np.where(speaks, probs, -1).argmax(axis=1), labels)
    return spoken, best


# Each label is a question of its own; the worst doubt of a record counts.
def _of_several(found: Predictions) -> dict[str, object]:
    own = np.where(found.labels == 1, found.probs, 1 - found.probs)
    suspected = np.zeros_like(own, dtype=np.bool_)
    for k in range(found.num_classes):
        pair = np.stack([1 - found.probs[:, k], found.probs[:, k]], axis=1)
        spoken, best = _spoken(pair, found.labels[:, k])
        suspected[:, k] = spoken & (best != found.labels[:, k])
    rows, worst = np.arange(len(own)), (own - suspected).argmin(axis=1)
    p_label, there = own[rows, worst], found.labels[rows, worst] == 1
    names = np.asarray(found.classes)[worst]
    return {
        "y_true": found.names(found.labels),
        "suggested": np.where(there, np.char.add("not ", names), names),
        "y_score": 1 - p_label,
        "p_label": p_label,
        "margin": 2 * p_label - 1,
        "suspected": suspected[rows, worst],
        "doubt": 1 - p_label,
    }
