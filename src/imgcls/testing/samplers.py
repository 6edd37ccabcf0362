"""The conformance kit of samplers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgcls.balancing.base import Records, Sampler, samplers
from imgcls.testing.values import chance_untouched, check_value, require

__all__ = ["check_sampler"]

#: How many epochs may pass before every class must have been drawn.
_EPOCHS = 20


def check_sampler(sampler: Sampler) -> None:
    """Check that a sampler keeps its contract.

    It is tried on records with and without groups, with a class that has none, and with several
    labels, as far as it says that it takes them.

    Args:
        sampler: The sampler.

    Raises:
        AssertionError: with what is broken.
    """
    check_value(sampler, samplers)
    for records in _cases():
        if _refused(sampler, records):
            continue
        _check_records_alone(sampler, records)
        with chance_untouched(sampler):
            _check_draws(sampler, records)
        _check_same_again(sampler, records)


def _cases() -> list[Records]:
    labels = np.repeat([0, 1, 2], [30, 7, 3])
    groups = np.array([f"g{number // 3}" for number in range(len(labels))])
    absent = np.repeat([0, 2], [9, 4])  # class 1 has no record here
    several = np.stack([np.arange(40) % 2, np.arange(40) % 3 == 0, np.arange(40) > 34], axis=1).astype(np.int64)
    return [
        Records(labels=labels, groups=groups, num_classes=3, classes=("a", "b", "c")),
        Records(labels=labels, groups=None, num_classes=3, classes=("a", "b", "c")),
        Records(labels=absent, groups=None, num_classes=3, classes=("a", "b", "c")),
        Records(labels=several, groups=groups, num_classes=3, classes=("a", "b", "c")),
    ]


def _refused(sampler: Sampler, records: Records) -> bool:
    ungrouped = sampler.needs_groups and records.groups is None
    return ungrouped or (records.multilabel and not sampler.takes_multilabel)


def _draw(sampler: Sampler, records: Records, *, epoch: int = 0, seed: int = 7) -> NDArray[np.int64]:
    return sampler.draw(records, batch_size=8, epoch=epoch, seed=seed)


def _check_draws(sampler: Sampler, records: Records) -> None:
    epochs = [_draw(sampler, records, epoch=epoch) for epoch in range(_EPOCHS)]
    once = all(len(np.unique(drawn)) == len(drawn) for drawn in epochs)
    require(sampler.repeats or once, sampler, "draw no record twice in an epoch, or say that it 'repeats'")
    every = np.array_equal(_classes(records, np.concatenate(epochs)), _classes(records, np.arange(len(records.labels))))
    require(every, sampler, f"draw every class that has records within {_EPOCHS} epochs")


def _classes(records: Records, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    labels = records.labels[positions]
    return np.flatnonzero(labels.any(axis=0)) if records.multilabel else np.unique(labels)


def _check_same_again(sampler: Sampler, records: Records) -> None:
    same = np.array_equal(_draw(sampler, records), _draw(sampler, records))
    require(same, sampler, "draw the same for the same seed and epoch")
    _draw(sampler, records, epoch=5)
    again = _draw(sampler, records, epoch=3)
    same = np.array_equal(again, _draw(sampler, records, epoch=3))
    require(same, sampler, "draw an epoch alike whatever was drawn before")


def _check_records_alone(sampler: Sampler, records: Records) -> None:
    labels = records.labels.copy()
    groups = None if records.groups is None else records.groups.copy()
    _draw(sampler, records)
    same = np.array_equal(labels, records.labels)
    same &= groups is None or records.groups is None or np.array_equal(groups, records.groups)
    require(same, sampler, "leave the records as they are")
