"""The sampler for groups of very different size."""

from __future__ import annotations

from typing import ClassVar, final

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.balancing.base import Records, Sampler
from imgcls.balancing.drawing import by_key, repeated, systematic
from imgcls.core import options

__all__ = ["GroupUniform"]


@final
@attrs.frozen(kw_only=True)
class GroupUniform(Sampler):
    """As many draws as records, every group equally often: a patient with 30 images counts once.

    Each group, and each record of it, is drawn the floor or the ceiling of its share.

    Attributes:
        balanced: Whether classes are made equal first, and groups then equal within a class.
    """

    needs_groups: ClassVar[bool] = True
    balanced: bool = attrs.field(default=False, validator=options.instance(bool))

    @property
    def corrects(self) -> bool:  # type: ignore[override]  # an option decides
        """Whether classes are made equal."""
        return self.balanced

    @property
    def takes_multilabel(self) -> bool:  # type: ignore[override]  # an option decides
        """Whether it can draw records that have several labels."""
        return not self.balanced

    def _draw(self, records: Records, *, batch_size: int, rng: np.random.Generator) -> NDArray[np.int64]:  # noqa: ARG002
        groups = records.group_codes
        num_groups = int(groups.max()) + 1
        keys = rng.permutation(num_groups)[groups]  # which groups are neighbours changes each epoch
        if self.balanced:
            keys = records.labels * num_groups + keys
        order, _ = by_key(keys, rng)
        weights = _weights(keys[order], num_groups)
        return repeated(order, systematic(weights, len(order), rng), rng)


# Of each record one over the units of its class and the records of its unit; keys are sorted.
def _weights(keys: NDArray[np.int64], num_groups: int) -> NDArray[np.float64]:
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    sizes = np.diff(starts, append=len(keys))
    owner = keys[starts] // num_groups  # the class of a unit; 0 for all where classes are not looked at
    units = np.bincount(owner)
    return np.repeat(1.0 / (units[owner] * sizes), sizes)
