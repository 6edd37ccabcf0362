"""What was done about imbalance in a training, in numbers that a file can hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgcls.balancing.balancer import Balancer
from imgcls.balancing.base import Records
from imgcls.balancing.losses import Bce
from imgcls.balancing.priors import logit_shifts, shares
from imgcls.balancing.weighting import class_sums
from imgcls.core.dumping import dump

__all__ = ["account", "times_drawn"]


def times_drawn(records: Records, draws: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Count how often each record was drawn.

    Args:
        records: The training records.
        draws: The draws of each epoch, positions in `records`.

    Returns:
        Counts (N,) over all epochs.
    """
    return sum((_counted(records, drawn) for drawn in draws), np.zeros(len(records.labels), dtype=np.int64))


def _counted(records: Records, drawn: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.bincount(drawn, minlength=len(records.labels))


def account(
    balancer: Balancer,
    records: Records,
    draws: Iterable[NDArray[np.int64]],
    *,
    record_weights: NDArray[np.float64] | None = None,
) -> dict[str, Any]:
    """Say what was done about imbalance.

    Args:
        balancer: What was to be done.
        records: The training records.
        draws: The draws of each epoch, positions in `records`.
        record_weights: The weight of each record in the loss, (N,), or None.

    Returns:
        Plain values: `balancer`, its options; `records`; `counted_epochs`; `draws`, the mean of an epoch; and
        `classes`, where each class has its `records`, `draws`, `share` of the draws, `repeats` (the share of
        its draws that repeat a record within the epoch), `class_weight` and `pos_weight` or None,
        `pi_data`, `pi_seen`, and `shift`, what is added to its logit, or None.
    """
    every = list(draws)
    times = times_drawn(records, every)
    again = sum((np.maximum(_counted(records, drawn) - 1, 0) for drawn in every), np.zeros_like(times))
    columns = _drawn(records, times, again, len(every)) | _weighted(balancer, records)
    columns |= _priors(balancer, records, times, record_weights)
    plain = {name: _plain(values) for name, values in columns.items()}
    return {
        "balancer": dump(balancer),
        "records": len(records.labels),
        "counted_epochs": len(every),
        "draws": float(times.sum() / len(every)),
        "classes": {
            name: {column: values[number] for column, values in plain.items()}
            for number, name in enumerate(records.names)
        },
    }


def _drawn(
    records: Records, times: NDArray[np.int64], again: NDArray[np.int64], epochs: int
) -> dict[str, NDArray[Any]]:
    drawn, repeated = (class_sums(records.labels, records.num_classes, values) for values in (times, again))
    return {
        "records": records.counts,
        "draws": drawn / epochs,
        "share": drawn / times.sum(),
        "repeats": repeated / np.maximum(drawn, 1),
    }


def _weighted(balancer: Balancer, records: Records) -> dict[str, NDArray[Any]]:
    unknown = np.full(records.num_classes, np.nan)
    class_weights = balancer.weights(records.labels, records.names)
    positives, pos_weights = unknown.copy(), balancer.pos_weights(records.labels, records.names)
    if pos_weights is not None:
        positives[-len(pos_weights) :] = pos_weights
    return {"class_weight": unknown if class_weights is None else class_weights, "pos_weight": positives}


def _priors(
    balancer: Balancer, records: Records, times: NDArray[np.int64], record_weights: NDArray[np.float64] | None
) -> dict[str, NDArray[Any]]:
    data, seen = shares(balancer, records, times, record_weights=record_weights)
    shift = logit_shifts(balancer, data, seen) if balancer.correct_priors else np.full_like(data, np.nan)
    if balancer.loss == Bce() and not records.multilabel:
        shift[0] = np.nan  # the one logit speaks for class 1
    return {"pi_data": data, "pi_seen": seen, "shift": shift}


def _plain(values: NDArray[Any]) -> list[Any]:
    return [None if value != value else value for value in values.tolist()]  # noqa: PLR0124 (NaN)
