"""What predictions must be like; each message names the column and the record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from imgcls.core.errors import DataError, nearest

if TYPE_CHECKING:
    from imgcls.evaluation.predictions import Predictions

__all__ = ["check_alike", "check_labels", "check_probs", "check_shapes"]

#: How far a row of probabilities may be from the sum of one.
_SLACK = 1e-4


def check_shapes(found: Predictions) -> None:
    """Refuse columns of unequal lengths.

    Args:
        found: The predictions.

    Raises:
        DataError: if a column has another shape than one row per record, or there are none.
    """
    count, classes = len(found.ids), found.num_classes
    if not count:
        raise DataError("'ids' must name at least one record, got none; the split is empty")
    one: set[tuple[int, ...]] = {(count,)}
    wide: set[tuple[int, ...]] = {(count, classes)}
    wanted = dict.fromkeys(["ids", "fold", "repeat", "groups"], one) | {"probs": wide}
    wanted["labels"] = wide if found.multilabel else one
    wanted["logits"] = wide | {(count, 1)} if classes == 2 and not found.multilabel else wide
    for name, shapes in wanted.items():
        value = getattr(found, name)
        if value is not None and value.shape not in shapes:
            rule = " or ".join(map(str, sorted(shapes)))
            raise DataError(f"'{name}' must have the shape {rule}, got {value.shape}; give one row per record")
    for name, values in found.columns.items():
        if values.shape != (count,):
            raise DataError(f"'columns' must have the shape {(count,)}, got {values.shape} for {name!r}")


def check_labels(found: Predictions) -> None:
    """Refuse labels and a positive class that the classes do not have.

    Args:
        found: The predictions.

    Raises:
        DataError: if there are fewer than two classes, or a label or the positive class is none of them.
    """
    if found.num_classes < 2:
        raise DataError(f"'classes' must be at least two names, got {found.classes!r}")
    largest = 1 if found.multilabel else found.num_classes - 1
    wrong = ((found.labels < 0) | (found.labels > largest)).reshape(len(found), -1).any(axis=1)
    if wrong.any():
        at = int(wrong.argmax())
        label, name = found.labels[at].tolist(), str(found.ids[at])
        raise DataError(f"'labels' must be from 0 to {largest}, got {label} for {name!r}")
    _check_positive(found)


def _check_positive(found: Predictions) -> None:
    binary = found.num_classes == 2 and not found.multilabel
    if (found.positive is not None) != binary:
        several = " and several labels a record" if found.multilabel else ""
        raise DataError(
            f"'positive' must be given with two classes and only then, got {found.positive!r} "
            f"with {found.num_classes} classes{several}"
        )
    if found.positive is not None and found.positive not in found.classes:
        remedy = nearest(found.positive, found.classes)
        raise DataError(f"'positive' must be one of the classes, got {found.positive!r}; {remedy}")


def check_probs(found: Predictions) -> None:
    """Refuse rows that are no probabilities.

    Args:
        found: The predictions.

    Raises:
        DataError: if a value is not finite or not from 0 to 1, or a row does not sum to one within 1e-4 where each
            record has one label.
    """
    rules = {
        "be finite": np.isfinite(found.probs).all(axis=1),
        "be from 0 to 1": ((found.probs >= 0) & (found.probs <= 1)).all(axis=1),
        "sum to one in each row": (np.abs(found.probs.sum(axis=1) - 1) <= _SLACK) | found.multilabel,
    }
    for rule, good in rules.items():
        if not good.all():
            at = int(good.argmin())
            raise DataError(f"'probs' must {rule}, got {found.probs[at].tolist()} for {str(found.ids[at])!r}")


def check_alike(parts: Sequence[Predictions]) -> None:
    """Refuse predictions that cannot be put together.

    Args:
        parts: Predictions.

    Raises:
        DataError: if there are none, or classes, positive class, split, kind of labels, head or presence of groups
            differ.
    """
    if not parts:
        raise DataError("'parts' must be at least one set of predictions, got none")
    kinds = [
        {
            "classes": part.classes,
            "positive": part.positive,
            "split": part.split,
            "labels a record": "several" if part.multilabel else "one",
            "logits per record": part.logits.shape[1],
            "groups": "none" if part.groups is None else "some",
        }
        for part in parts
    ]
    for kind in kinds:
        for name, value in kind.items():
            if value != kinds[0][name]:
                raise DataError(f"'parts' must have the same {name}, got {kinds[0][name]!r} and {value!r}")
