"""What a sampler is, and the registry of samplers."""

from __future__ import annotations

import abc
from typing import Any, final

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import PluginContractError
from imgcls.core.plugins import Plugin, Registry
from imgcls.core.randomness import generator

__all__ = ["Records", "Sampler", "samplers"]


@attrs.frozen(kw_only=True, eq=False)
class Records:
    """What a sampler may know of the training records.

    Attributes:
        labels: Class indices (N,).
        groups: Groups (N,), or None.
        num_classes: How many classes the set has.
    """

    labels: NDArray[np.int64]
    groups: NDArray[np.str_] | None
    num_classes: int


class Sampler(Plugin):
    """A way to draw the records of an epoch; a subclass writes `_draw`."""

    @final
    def draw(self, records: Records, *, batch_size: int, epoch: int, seed: int) -> NDArray[np.int64]:
        """Draw the records of one epoch, in order.

        Args:
            records: The training records.
            batch_size: How many records make a step.
            epoch: Which epoch, from 0; each draws anew.
            seed: The seed of the run.

        Returns:
            Positions (M,) in `records`; a record may appear often or not at all.

        Raises:
            PluginContractError: if the plugin draws nothing or what is not there.
        """
        drawn = np.asarray(self._draw(records, batch_size=batch_size, rng=generator(seed, "sampler", epoch)))
        size = len(records.labels)
        if drawn.ndim != 1 or drawn.dtype.kind not in "iu" or not len(drawn) or drawn.min() < 0 or drawn.max() >= size:
            shape: Any = (drawn.shape, str(drawn.dtype))
            raise PluginContractError(
                f"{type(self).__name__}._draw must return positions (M,) from 0 to {size - 1}, got {shape}"
            )
        return drawn.astype(np.int64)

    @abc.abstractmethod
    def _draw(self, records: Records, *, batch_size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw positions (M,) of one epoch with the chance of `rng` alone."""


#: The registry of samplers.
samplers: Registry[Sampler] = Registry("imgcls.samplers", Sampler)
