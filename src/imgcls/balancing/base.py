"""What a sampler is, and the registry of samplers."""

from __future__ import annotations

import abc
import functools
from typing import Any, ClassVar, final

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.balancing.weighting import class_counts
from imgcls.core.errors import ConfigError, PluginContractError
from imgcls.core.plugins import Plugin, Registry, name_of
from imgcls.core.randomness import generator

__all__ = ["Records", "Sampler", "samplers"]


@attrs.frozen(kw_only=True, eq=False)
class Records:
    """What a sampler may know of the N training records.

    Attributes:
        labels: Class indices (N,), or of several labels 1 for each class that a record has, (N, K).
        groups: Groups (N,), or None.
        num_classes: How many classes the set has, K.
        classes: Their names, (K,); samplers that are told of classes by name need them.
    """

    labels: NDArray[np.int64]
    groups: NDArray[np.str_] | None
    num_classes: int
    classes: tuple[str, ...] = ()

    @property
    def multilabel(self) -> bool:
        """Whether a record may have several labels, or none."""
        return self.labels.ndim == 2

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes, (K,); their numbers where they have none."""
        return self.classes or tuple(map(str, range(self.num_classes)))

    @functools.cached_property
    def counts(self) -> NDArray[np.int64]:
        """How many records each class has, (K,)."""
        return class_counts(self.labels, self.num_classes)

    @functools.cached_property
    def group_codes(self) -> NDArray[np.int64]:
        """The number of each record's group in alphabetical order, (N,)."""
        return np.unique(np.asarray(self.groups), return_inverse=True)[1]


class Sampler(Plugin):
    """A way to draw the records of an epoch; a subclass writes `_draw`.

    Attributes:
        corrects: Whether it draws classes on purpose in other shares than the data has them, so
            that class weights beside it would correct twice.
        repeats: Whether an epoch may draw a record several times.
        needs_groups: Whether it refuses records without groups.
        takes_multilabel: Whether it can draw records that have several labels.
    """

    corrects: ClassVar[bool] = True
    repeats: ClassVar[bool] = True
    needs_groups: ClassVar[bool] = False
    takes_multilabel: ClassVar[bool] = False

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
        self._refuse(records)
        drawn = np.asarray(self._draw(records, batch_size=batch_size, rng=generator(seed, "sampler", epoch)))
        size = len(records.labels)
        if drawn.ndim != 1 or drawn.dtype.kind not in "iu" or not len(drawn) or drawn.min() < 0 or drawn.max() >= size:
            shape: Any = (drawn.shape, str(drawn.dtype))
            raise PluginContractError(
                f"{type(self).__name__}._draw must return positions (M,) from 0 to {size - 1}, got {shape}"
            )
        return drawn.astype(np.int64)

    def _refuse(self, records: Records) -> None:
        name = name_of(type(self)) or type(self).__name__
        if self.needs_groups and records.groups is None:
            raise ConfigError(
                f"'sampler' must be one that needs no groups where records have none, got {name!r}; name their 'group' "
                "or take 'uniform'"
            )
        if records.multilabel and not self.takes_multilabel:
            raise ConfigError(
                f"'sampler' must be one that draws records of several labels, got {name!r}; take 'uniform', 'weighted' "
                "or 'effective-number', or weigh the loss by 'pos_weight'"
            )

    @abc.abstractmethod
    def _draw(self, records: Records, *, batch_size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw positions (M,) of one epoch with the chance of `rng` alone."""


#: The registry of samplers.
samplers: Registry[Sampler] = Registry("imgcls.samplers", Sampler)
