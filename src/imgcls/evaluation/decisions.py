"""From probabilities to decided classes, their confusion and the worst errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from imgcls.evaluation.arrays import Floats, Ints
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.thresholds import Threshold, values_for
from imgcls.evaluation.weighted import Cases

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["confusion", "decisions", "hard_errors", "largest"]


def decisions(predictions: Predictions, thresholds: Sequence[Threshold] = (), rule: str | float = "") -> Ints:
    """Decide the class of each record.

    Args:
        predictions: N records.
        thresholds: Fitted ones; each record is held against the one of its own fold's model.
        rule: Whose thresholds to take; "" takes the most probable class, the first of equals, and of several labels
            those whose probability is at least 0.5.

    Returns:
        (N,) class indices; with a rule the positive class where `score >= threshold`, and with more than two classes
        the class whose probability is largest in proportion to its threshold, which for two comes to the same. Of
        several labels 1 for each class that is decided, (N, K).

    Raises:
        ConfigError: if a rule has no threshold for some model.
    """
    if predictions.multilabel:
        called: Ints = (predictions.probs >= values_for(predictions, thresholds, rule or 0.5)).astype(np.int64)
        return called
    if rule == "":
        likely: Ints = predictions.probs.argmax(axis=1)
        return likely
    cuts, positive = values_for(predictions, thresholds, rule), predictions.positive_index
    if positive is None:
        return largest(predictions.probs, cuts)
    chosen: Ints = np.where(predictions.scores >= cuts, positive, 1 - positive)
    return chosen


def largest(probs: Floats, cuts: Floats) -> Ints:
    """Choose among more than two classes by their thresholds.

    Args:
        probs: (N, K).
        cuts: The threshold of each class, (N, K) or (K,).

    Returns:
        (N,) the class whose probability is largest in proportion to its threshold.

    Examples:
        >>> largest(np.array([[0.5, 0.4, 0.1]]), np.array([0.6, 0.3, 0.2]))
        array([1])
    """
    chosen: Ints = (probs / np.maximum(cuts, np.finfo(np.float64).tiny)).argmax(axis=1)
    return chosen


def confusion(predictions: Predictions, thresholds: Sequence[Threshold] = (), rule: str | float = "") -> Ints:
    """Count true against decided classes.

    Args:
        predictions: N records.
        thresholds: As in `decisions`.
        rule: As in `decisions`.

    Returns:
        (K, K) with a row per true and a column per decided class, in the order of the classes;
        with two classes the positive one is last: `[[TN, FP], [FN, TP]]`, and so of each class where there are
        several labels a record, (K, 2, 2).
    """
    if predictions.multilabel:
        cells = 2 * predictions.labels + decisions(predictions, thresholds, rule)
        return np.stack([np.bincount(column, minlength=4).reshape(2, 2) for column in cells.T])
    count = predictions.num_classes
    cells = predictions.labels * count + decisions(predictions, thresholds, rule)
    table = np.bincount(cells, minlength=count * count).reshape(count, count)
    return table[::-1, ::-1] if predictions.positive_index == 0 else table


def hard_errors(
    predictions: Predictions, thresholds: Sequence[Threshold] = (), rule: str | float = "", *, limit: int = 20
) -> pd.DataFrame:
    """List the errors that the model was surest of.

    Args:
        predictions: N records.
        thresholds: As in `decisions`.
        rule: As in `decisions`.
        limit: The most rows per error type with two classes, and in all with more or several labels.

    Returns:
        Each record once, by its worst prediction. The columns idx (its position), error_type, threshold (NaN without
        a rule), path (the id), y_true, y_score and y_pred. With two classes "FP" by falling and then "FN" by rising
        score of the positive class; with more "true -> decided" by falling probability of the decided class. Of several
        labels "FP a, FN b" names what is wrong, y_true and y_pred have the labels with `|` between, y_score is the
        loss of the record (mean binary cross-entropy in nats) and threshold NaN; most wrong labels come first, then the
        greatest loss.
    """
    if predictions.multilabel:
        return _hard_labels(predictions, decisions(predictions, thresholds, rule), limit)
    import pandas as pd

    preds = decisions(predictions, thresholds, rule)
    chosen, scores, types = (_of_many if predictions.positive is None else _of_two)(predictions, preds, limit)
    cuts = np.full(len(predictions), np.nan) if rule == "" else values_for(predictions, thresholds, rule)
    if cuts.ndim == 2:  # with more than two classes, that of the decided one
        cuts = cuts[np.arange(len(preds)), preds]
    names = np.asarray(predictions.classes)
    return pd.DataFrame(
        {
            "idx": chosen,
            "error_type": types,
            "threshold": cuts[chosen],
            "path": predictions.ids[chosen],
            "y_true": names[predictions.labels[chosen]],
            "y_score": scores[chosen],
            "y_pred": names[preds[chosen]],
        }
    )


def _of_two(predictions: Predictions, preds: Ints, limit: int) -> tuple[Ints, Floats, list[str]]:
    scores, wrong = predictions.scores, preds != predictions.labels
    order = np.argsort(scores, kind="stable")
    positive = (predictions.labels == predictions.positive_index)[order]
    false_negatives = _once(order[wrong[order] & positive], predictions)[:limit]
    false_positives = _once(order[wrong[order] & ~positive][::-1], predictions)[:limit]
    types = ["FP"] * len(false_positives) + ["FN"] * len(false_negatives)
    return np.concatenate([false_positives, false_negatives]), scores, types


def _of_many(predictions: Predictions, preds: Ints, limit: int) -> tuple[Ints, Floats, list[str]]:
    scores = predictions.probs[np.arange(len(preds)), preds]
    order = np.argsort(-scores, kind="stable")
    chosen = _once(order[preds[order] != predictions.labels[order]], predictions)[:limit]
    names = predictions.classes
    return chosen, scores, [f"{names[predictions.labels[at]]} -> {names[preds[at]]}" for at in chosen]


def _hard_labels(predictions: Predictions, preds: Ints, limit: int) -> pd.DataFrame:
    import pandas as pd

    wrong = (preds != predictions.labels).sum(axis=1)
    losses = Cases(labels=predictions.labels, probs=predictions.probs, preds=preds).losses
    order = np.lexsort((-losses, -wrong))
    chosen = _once(order[wrong[order] > 0], predictions)[:limit]
    truths, decided = predictions.labels[chosen], preds[chosen]
    return pd.DataFrame(
        {
            "idx": chosen,
            "error_type": [_faults(*pair, predictions.classes) for pair in zip(truths, decided, strict=True)],
            "threshold": np.full(len(chosen), np.nan),
            "path": predictions.ids[chosen],
            "y_true": predictions.names(truths),
            "y_score": losses[chosen],
            "y_pred": predictions.names(decided),
        }
    )


def _faults(truth: Ints, decided: Ints, classes: Sequence[str]) -> str:
    pairs = zip(classes, truth.tolist(), decided.tolist(), strict=True)
    return ", ".join(f"{'FP' if called else 'FN'} {name}" for name, actual, called in pairs if actual != called)


# Of several repeats, each has predictions of its own for the same record.
def _once(order: Ints, predictions: Predictions) -> Ints:
    return order[np.sort(np.unique(predictions.ids[order], return_index=True)[1])]
