"""Explain a run's predictions, each by the model that made it, and draw them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import ConfigError, nearest
from imgcls.core.folders import write_text
from imgcls.data.dataset import Dataset
from imgcls.evaluation.decisions import decisions, hard_errors
from imgcls.evaluation.predictions import MEAN, Predictions
from imgcls.evaluation.thresholds import Threshold
from imgcls.explain.base import Attributions, Explainer
from imgcls.explain.panels import panel, panel_name
from imgcls.inference.predictor import normalised
from imgcls.inference.saved import SavedModel
from imgcls.models.base import Classifier

__all__ = ["choose", "draw", "explain", "explained_class"]

#: Images explained at a time.
_BATCH = 16


def choose(
    predictions: Predictions, thresholds: Sequence[Threshold], rule: str, *, limit: int, errors: bool
) -> NDArray[np.int64]:
    """Choose records to explain.

    Args:
        predictions: N records.
        thresholds: Those of the run.
        rule: The rule that decides; empty takes the most probable class.
        limit: How many at most.
        errors: Whether to take the worst errors (half false positives, half false negatives
            for two classes) instead of an even sample.

    Returns:
        Positions in the predictions.
    """
    if errors:
        each = max(1, limit // 2) if predictions.positive is not None else limit
        return hard_errors(predictions, thresholds, rule, limit=each)["idx"].to_numpy(dtype=np.int64)
    return np.unique(np.linspace(0, len(predictions) - 1, min(limit, len(predictions))).astype(np.int64))


def explained_class(
    predictions: Predictions, thresholds: Sequence[Threshold], rule: str, *, target: str | None
) -> NDArray[np.int64]:
    """Choose the class of each record that is explained.

    Args:
        predictions: N records.
        thresholds: Those of the run.
        rule: The rule that decides; empty takes the most probable class.
        target: The name of a class for all of them; None takes what was decided, and of several labels the most
            probable one.

    Returns:
        Class indices (N,).

    Raises:
        ConfigError: if there is no class of that name.
    """
    if target is None:
        if predictions.multilabel:
            return predictions.probs.argmax(axis=1)
        return decisions(predictions, thresholds, rule)
    if target not in predictions.classes:
        raise ConfigError(f"'target' must be a class, got {target!r}; {nearest(target, predictions.classes)}")
    return np.full(len(predictions), predictions.classes.index(target))


def explain(
    predictions: Predictions,
    explainer: Explainer,
    *,
    target: NDArray[np.int64],
    data: Dataset,
    saved: SavedModel,
    models: Callable[[int], Classifier],
    num_folds: int,
) -> Attributions:
    """Explain a class of each record.

    A record that one fold predicted is explained by that fold's model, which did not train on
    it. One that the mean of the folds predicted gets the mean of their maps.

    Args:
        predictions: N records.
        explainer: The method.
        target: The class to explain of each, (N,), as `explained_class` chooses it.
        data: The set that holds them.
        saved: The description of the models.
        models: Gives the model of a fold.
        num_folds: How many folds there are.

    Returns:
        The attributions (N), in the order of the predictions.
    """
    place = {name: position for position, name in enumerate(data.ids.tolist())}
    positions = np.array([place[name] for name in predictions.ids.tolist()], dtype=np.int64)

    def batch(model: Classifier, rows: NDArray[np.int64]) -> Attributions:
        pixels = np.stack([data.pixels(position, saved.image) for position in positions[rows].tolist()])
        return explainer.explain(model, normalised(pixels, model, saved.image), target[rows].tolist())

    def by_fold(fold: int, rows: NDArray[np.int64]) -> Attributions:
        model = models(fold)
        starts = range(0, len(rows), _BATCH)
        return Attributions.concat([batch(model, rows[start : start + _BATCH]) for start in starts])

    parts, order = [], []
    for fold in np.unique(predictions.fold).tolist():
        rows = np.flatnonzero(predictions.fold == fold)
        parts.append(_mean([by_fold(f, rows) for f in range(num_folds)]) if fold == MEAN else by_fold(fold, rows))
        order.append(rows)
    return Attributions.concat(parts).take(np.argsort(np.concatenate(order)))


# Maps that say nothing are left out of the mean.
def _mean(parts: list[Attributions]) -> Attributions:
    if len(parts) == 1:
        return parts[0]
    valid = np.stack([part.valid for part in parts])
    weights = valid / np.maximum(valid.sum(axis=0), 1)

    def mean(name: str) -> NDArray[np.float64]:
        values = np.stack([getattr(part, name) for part in parts])
        shape = (*weights.shape, *([1] * (values.ndim - 2)))
        return (np.where(valid.reshape(shape), values, 0) * weights.reshape(shape)).sum(axis=0)

    names = [name for name in ("maps", "native", "logits", "score", "conserved") if getattr(parts[0], name) is not None]
    provenance = {**parts[0].provenance, "models": f"mean of {len(parts)} folds"}
    return attrs.evolve(
        parts[0], valid=valid.any(axis=0), provenance=provenance, **{name: mean(name) for name in names}
    )


def draw(
    folder: Path,
    found: Attributions,
    predictions: Predictions,
    data: Dataset,
    saved: SavedModel,
    *,
    target: NDArray[np.int64],
    thresholds: Sequence[Threshold],
    rule: str,
    method: str,
) -> list[dict[str, Any]]:
    """Draw a panel of each explained record; errors of two classes go to `FP` and `FN`.

    Args:
        folder: Where the panels go, with `index.csv`.
        found: The attributions (N).
        predictions: Their records (N).
        data: The set that holds them.
        saved: The description of the models.
        target: The class that is explained of each, (N,).
        thresholds: Those of the run.
        rule: The rule that decides; empty takes the most probable class.
        method: The explainer's name.

    Returns:
        What `index.csv` says: file, id, label, decision (of several with `|` between), the class that is explained as
        `target`, and its probability.
    """
    import pandas as pd

    place = {name: position for position, name in enumerate(data.ids.tolist())}
    truths, decided = (
        predictions.names(codes).tolist() for codes in (predictions.labels, decisions(predictions, thresholds, rule))
    )
    rows = []
    for number, name in enumerate(predictions.ids.tolist()):
        truth, predicted, explained = truths[number], decided[number], int(target[number])
        prob = float(predictions.probs[number, explained])
        kind = _kind(predictions, truth, predicted)
        seen, shown = truth or "none", predicted or "none"
        file = folder / kind / panel_name(number, image=name, truth=seen, predicted=shown, method=method)
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = _shown(data.pixels(place[name], saved.image))
        if predicted != saved.classes[explained]:
            shown += f", map of {saved.classes[explained]}"
        file.write_bytes(panel(pixels, found.maps[number], truth=seen, predicted=shown, prob=prob, title=name))
        where = file.relative_to(folder).as_posix()
        said = {"label": truth, "decision": predicted, "target": saved.classes[explained], "prob": prob}
        rows.append({"file": where, "id": name, **said, "method": method})
    write_text(folder / "index.csv", pd.DataFrame(rows).to_csv(index=False))
    return rows


# Deep pixels are shown by their high byte.
def _shown(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    return pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)


def _kind(predictions: Predictions, truth: str, predicted: str) -> str:
    if truth == predicted or predictions.positive is None:
        return "right" if truth == predicted else "wrong"
    return "FP" if predicted == predictions.positive else "FN"
