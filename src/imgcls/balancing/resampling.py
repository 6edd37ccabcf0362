"""The samplers that make classes equally frequent, exactly."""

from __future__ import annotations

from typing import ClassVar, final

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.balancing.base import Records, Sampler
from imgcls.balancing.drawing import by_key, passes, repeated
from imgcls.core.errors import ConfigError

__all__ = ["BalancedBatch", "Oversample", "Undersample"]


@final
@attrs.frozen(kw_only=True)
class Undersample(Sampler):
    """As many records of every class as the rarest has; of the others other ones each epoch.

    An epoch is short: the number of classes times the size of the rarest. No record is repeated.
    """

    repeats: ClassVar[bool] = False

    def _draw(self, records: Records, *, batch_size: int, rng: np.random.Generator) -> NDArray[np.int64]:  # noqa: ARG002
        order, place = by_key(records.labels, rng)
        rarest = records.counts[records.counts > 0].min()
        return rng.permutation(order[place < rarest])


@final
@attrs.frozen(kw_only=True)
class Oversample(Sampler):
    """As many draws of every class as the largest has records.

    Every record of a class of n is drawn the floor or the ceiling of largest / n times, and every
    record at least once.
    """

    def _draw(self, records: Records, *, batch_size: int, rng: np.random.Generator) -> NDArray[np.int64]:  # noqa: ARG002
        order, place = by_key(records.labels, rng)
        size, largest = records.counts[records.labels[order]], records.counts.max()
        return repeated(order, largest // size + (place < largest % size), rng)


@final
@attrs.frozen(kw_only=True)
class BalancedBatch(Sampler):
    """Every batch has every class, as evenly as its size allows.

    An epoch has as many full batches as it takes for as many draws as records. Slots that do not
    divide by the classes go round, so that over the epoch the draws of two classes differ by one at
    most. The records of a class are drawn in shuffled passes: none again before all others.
    """

    def _draw(self, records: Records, *, batch_size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        present = np.flatnonzero(records.counts)
        if batch_size < len(present):
            raise ConfigError(
                f"'sampler' must not be 'balanced-batch' where a batch is smaller than the {len(present)} classes, got "
                f"a 'batch_size' of {batch_size}; raise that or take the sampler 'oversample'"
            )
        slots = _slots(len(present), batch_size, -(-len(records.labels) // batch_size), rng)
        order, _ = by_key(records.labels, rng)
        of_class = np.split(order, np.cumsum(records.counts[present])[:-1])
        numbers = np.bincount(slots.ravel(), minlength=len(present))
        drawn = np.empty(slots.size, dtype=np.int64)
        queues = [passes(own, number, rng) for own, number in zip(of_class, numbers, strict=True)]
        drawn[np.argsort(slots.ravel(), kind="stable")] = np.concatenate(queues)
        return drawn


# Which class stands in each place of each batch, (batches, batch_size).
def _slots(num_classes: int, batch_size: int, batches: int, rng: np.random.Generator) -> NDArray[np.int64]:
    each, rest = divmod(batch_size, num_classes)
    even = np.tile(np.repeat(np.arange(num_classes), each), (batches, 1))
    extra = np.resize(rng.permutation(num_classes), (batches, rest))
    return rng.permuted(np.hstack([even, extra]), axis=1)
