"""From images to groups: what the images of a patient, an animal or a part say together."""

from __future__ import annotations

from typing import Literal

import attrs
import numpy as np

from imgcls.core import options
from imgcls.core.errors import DataError
from imgcls.evaluation.arrays import Floats, Ints
from imgcls.evaluation.predictions import Predictions

__all__ = ["AGGREGATIONS", "Aggregation", "aggregate"]

Aggregation = Literal["mean", "max", "noisy-or"]

#: How probabilities of images become that of their group.
AGGREGATIONS: tuple[Aggregation, ...] = ("mean", "max", "noisy-or")


def aggregate(predictions: Predictions, aggregation: Aggregation = "mean") -> Predictions:
    """Predict groups from their images, each fold and repeat on its own.

    A group of two classes is positive if one of its images is, and has each of several labels that one of its images
    has; of more classes all images of a group must have the same.

    Args:
        predictions: N images with groups.
        aggregation: "mean" of the probabilities; "max", the greatest one of the positive class or of each label;
            "noisy-or", the probability that one image at least is positive if images err independently (Pearl 1988,
            section 4.3), which they hardly do, so it is high for groups of many images.

    Returns:
        A prediction a group, whose id is the group's. Columns whose value is the same in each group stay.

    Raises:
        ConfigError: if `aggregation` is unknown, or needs a positive class and there is none.
        DataError: if there are no groups, or labels of more than two classes differ within one.
    """
    if aggregation not in AGGREGATIONS:
        raise options.rejected("aggregation", "be 'mean', 'max' or 'noisy-or'", aggregation)
    if aggregation != "mean" and predictions.positive is None and not predictions.multilabel:
        rule = f"be 'mean' with {predictions.num_classes} classes of which one holds"
        raise options.rejected("aggregation", rule, aggregation)
    if predictions.groups is None:
        raise DataError("'predictions' must have groups to be aggregated, got none; name them in the Dataset")
    keys = np.stack([np.unique(predictions.groups, return_inverse=True)[1], predictions.fold, predictions.repeat])
    _, firsts, places = np.unique(keys, axis=1, return_index=True, return_inverse=True)
    places = places.ravel()
    probs = _joined(predictions, places, aggregation)
    kept = {name: values for name, values in predictions.columns.items() if (values == values[firsts][places]).all()}
    whole = attrs.evolve(predictions, columns=kept).take(firsts)
    assert whole.groups is not None, "there are groups"
    labels = _labels(predictions, firsts, places)
    return attrs.evolve(whole, ids=whole.groups, labels=labels).with_probs(probs)


def _joined(predictions: Predictions, places: Ints, how: Aggregation) -> Floats:
    if how == "mean":
        sums = [np.bincount(places, weights=column) for column in predictions.probs.T]
        return np.stack(sums, axis=1) / np.bincount(places)[:, None]
    if predictions.multilabel:
        return np.stack([_any(column, places, how) for column in predictions.probs.T], axis=1)
    score = _any(predictions.scores, places, how)
    pair = [1 - score, score] if predictions.positive_index == 1 else [score, 1 - score]
    return np.stack(pair, axis=1)


def _any(scores: Floats, places: Ints, how: Aggregation) -> Floats:
    found = np.zeros(places.max() + 1)
    if how == "max":
        np.maximum.at(found, places, scores)
        return found
    with np.errstate(divide="ignore"):
        np.add.at(found, places, np.log1p(-scores))
    return -np.expm1(found)


def _labels(predictions: Predictions, firsts: Ints, places: Ints) -> Ints:
    own = predictions.labels[firsts]
    torn = (predictions.labels != own[places]).reshape(len(places), -1).any(axis=1)
    if not torn.any():
        return own
    if predictions.multilabel:
        np.maximum.at(own, places, predictions.labels)
        return own
    if predictions.positive_index is None:
        assert predictions.groups is not None, "there are groups"
        name = str(predictions.groups[int(torn.argmax())])
        raise DataError(f"'labels' must be the same within a group of more than two classes, got several in {name!r}")
    hit = np.bincount(places, weights=predictions.has(predictions.positive_index)) > 0
    return np.where(hit, predictions.positive_index, 1 - predictions.positive_index)
