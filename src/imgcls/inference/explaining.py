"""Explain a run's predictions, each by the model that made it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core import options
from imgcls.core.errors import ConfigError, RunError, nearest
from imgcls.core.progress import progress
from imgcls.core.spacing import evenly
from imgcls.data.dataset import Dataset
from imgcls.data.spec import ImageSpec
from imgcls.evaluation.decisions import decisions, hard_errors
from imgcls.evaluation.predictions import MEAN, Predictions
from imgcls.evaluation.thresholds import Threshold
from imgcls.explain.base import Attributions, Explainer
from imgcls.inference.masks import Masks
from imgcls.inference.predictor import normalised
from imgcls.inference.saved import SavedModel
from imgcls.models.base import Classifier

__all__ = ["Request", "Subject", "attributions_of", "choose", "explained_by", "explained_class", "selected"]

#: Images explained at a time.
_BATCH = 16

Ints = NDArray[np.int64]


@attrs.frozen(kw_only=True)
class Request:
    """Which records of a run are explained, and for which class.

    Attributes:
        limit: How many records at most; None takes all.
        errors: Whether to take the worst errors (half false positives, half false negatives
            for two classes) instead of an even sample.
        target: The name of a class for all of them; None takes what was decided, and of several
            labels the most probable one.
        masks: True takes records with a mask alone; False scores no maps; None scores where the
            set has masks. Masks by id may be given instead, (h, w) each.
        box: The plausible region as (top, left, bottom, right) in shares of the image, or None.
    """

    limit: int | None = attrs.field(default=16, validator=options.optional(options.count(1)))
    errors: bool = attrs.field(default=False, validator=options.instance(bool))
    target: str | None = attrs.field(default=None, validator=options.optional(options.instance(str)))
    masks: bool | Mapping[str, Any] | None = None
    box: tuple[float, float, float, float] | None = None


@attrs.frozen(kw_only=True, eq=False)
class Subject:
    """What of a run is explained.

    Attributes:
        folder: The run's folder.
        predictions: What its models said of N records.
        data: The set that holds them.
        saved: The description of the models.
        thresholds: Those of the run.
        models: Gives the model of a fold.
        num_folds: How many folds there are.
    """

    folder: Path
    predictions: Predictions
    data: Dataset
    saved: SavedModel
    thresholds: Sequence[Threshold]
    models: Callable[[int], Classifier]
    num_folds: int

    def take(self, positions: Ints) -> Subject:
        """Pick records.

        Args:
            positions: Which.

        Returns:
            The subject with those alone.
        """
        return attrs.evolve(self, predictions=self.predictions.take(positions))

    @property
    def positions(self) -> Ints:
        """(N,) where the records stand in the set."""
        place = {name: position for position, name in enumerate(self.data.ids.tolist())}
        return np.array([place[name] for name in self.predictions.ids.tolist()], dtype=np.int64)

    @property
    def decided(self) -> Ints:
        """(N,) the classes that the run's rule decides, or (N, K) of several labels."""
        return decisions(self.predictions, self.thresholds, self.saved.decision)

    def pixels(self, position: int) -> NDArray[Any]:
        """Read an image as the models see it.

        Args:
            position: Where it stands in the set.

        Returns:
            (H, W, C).
        """
        return self.data.pixels(position, self.saved.image)


def choose(subject: Subject, *, limit: int | None, errors: bool) -> Ints:
    """Choose records to explain.

    Args:
        subject: N records.
        limit: How many at most; None takes all.
        errors: Whether to take the worst errors instead of an even sample.

    Returns:
        Positions in the predictions.
    """
    predictions, most = subject.predictions, len(subject.predictions) if limit is None else limit
    if errors:
        each = max(1, most // 2) if predictions.positive is not None and limit is not None else most
        found = hard_errors(predictions, subject.thresholds, subject.saved.decision, limit=each)
        return found["idx"].to_numpy(dtype=np.int64)
    return evenly(len(predictions), most)


def selected(subject: Subject, request: Request, masks: Masks | None) -> Subject:
    """Pick the records that were asked for.

    Args:
        subject: N records.
        request: Which of them.
        masks: Their masks; with `request.masks` records that have none are left out.

    Returns:
        The records, at least one.

    Raises:
        RunError: if there is none.
    """
    split, part = subject.predictions.split, subject
    if masks is not None and request.masks is not None:
        masked = np.flatnonzero([masks.any(position) for position in part.positions.tolist()])
        if not len(masked):
            raise RunError(f"the {split} records must have masks that are not empty, got none; leave 'masks' out")
        part = part.take(masked)
    chosen = choose(part, limit=request.limit, errors=request.errors)
    if not len(chosen):
        raise RunError(f"the {split} records must have errors to explain, got none; leave 'errors' out")
    return part.take(chosen)


def explained_class(subject: Subject, *, target: str | None) -> Ints:
    """Choose the class of each record that is explained.

    Args:
        subject: N records.
        target: The name of a class for all of them; None takes what was decided, and of several labels the most
            probable one.

    Returns:
        Class indices (N,).

    Raises:
        ConfigError: if there is no class of that name.
    """
    predictions = subject.predictions
    if target is None:
        return predictions.probs.argmax(axis=1) if predictions.multilabel else subject.decided
    if target not in predictions.classes:
        raise ConfigError(f"'target' must be a class, got {target!r}; {nearest(target, predictions.classes)}")
    return np.full(len(predictions), predictions.classes.index(target))


def attributions_of(subject: Subject, explainer: Explainer, target: Ints, *, label: str = "explain") -> Attributions:
    """Explain a class of each record.

    A record that one fold predicted is explained by that fold's model, which did not train on
    it. One that the mean of the folds predicted gets the mean of their maps.

    Args:
        subject: N records.
        explainer: The method.
        target: The class to explain of each, (N,), as `explained_class` chooses it.
        label: What progress is called.

    Returns:
        The attributions (N), in the order of the predictions.
    """
    fold, parts, order = subject.predictions.fold, [], []
    models = np.where(fold == MEAN, subject.num_folds, 1)
    with progress(label, int(models.sum())) as advance:

        def by_fold(number: int, rows: Ints) -> Attributions:
            model, found = subject.models(number), []
            for batch in _batches(rows):
                found.append(_batch(subject, explainer, target, model, batch))
                advance(len(batch))
            return Attributions.concat(found)

        for number in np.unique(fold).tolist():
            rows = np.flatnonzero(fold == number)
            every = range(subject.num_folds) if number == MEAN else [number]
            parts.append(_mean([by_fold(one, rows) for one in every]))
            order.append(rows)
    return Attributions.concat(parts).take(np.argsort(np.concatenate(order)))


def _batches(rows: Ints) -> Iterator[Ints]:
    for start in range(0, len(rows), _BATCH):
        yield rows[start : start + _BATCH]


def _batch(subject: Subject, explainer: Explainer, target: Ints, model: Classifier, rows: Ints) -> Attributions:
    pixels = np.stack([subject.pixels(position) for position in subject.positions[rows].tolist()])
    return explainer.explain(model, normalised(pixels, model, subject.saved.image), target[rows].tolist())


def explained_by(
    models: Sequence[Classifier], explainer: Explainer, pixels: NDArray[Any], target: Ints, *, spec: ImageSpec
) -> Attributions:
    """Explain what several models say together.

    Args:
        models: One or more.
        explainer: The method.
        pixels: (B, H, W, C) in the form of the spec.
        target: The class to explain of each, (B,).
        spec: The form of the images.

    Returns:
        The mean of their maps, (B).
    """
    return _mean([explainer.explain(model, normalised(pixels, model, spec), target.tolist()) for model in models])


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
