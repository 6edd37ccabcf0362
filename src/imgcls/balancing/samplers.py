"""The samplers that imgcls brings."""

from __future__ import annotations

from typing import final

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.balancing.base import Records, Sampler

__all__ = ["Uniform", "Weighted"]


@final
@attrs.frozen(kw_only=True)
class Uniform(Sampler):
    """Every record once an epoch, in random order."""

    def _draw(self, records: Records, *, batch_size: int, rng: np.random.Generator) -> NDArray[np.int64]:  # noqa: ARG002
        return rng.permutation(len(records.labels))


@final
@attrs.frozen(kw_only=True)
class Weighted(Sampler):
    """As many draws as records, with replacement, each class equally likely.

    A record's weight is one over the count of its class among the training records.
    """

    def _draw(self, records: Records, *, batch_size: int, rng: np.random.Generator) -> NDArray[np.int64]:  # noqa: ARG002
        counts = np.bincount(records.labels, minlength=records.num_classes)
        weights = 1.0 / counts[records.labels]
        return rng.choice(len(weights), size=len(weights), p=weights / weights.sum())
