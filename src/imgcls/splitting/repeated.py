"""The folds of another splitter, several times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core import options
from imgcls.core.errors import SplitError
from imgcls.core.randomness import derive_seed
from imgcls.data.dataset import Dataset
from imgcls.splitting.base import Splitter, splitters
from imgcls.splitting.kfold import StratifiedGroupKFold

__all__ = ["Repeated"]

#: How many repeats there are where neither `times` nor `seeds` says so.
_TIMES = 5


def _splitter(value: Any) -> Any:
    return splitters.create(value)


def _seeds(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, tuple) or len(value) < 2 or len(set(value)) < len(value):
        raise options.rejected(field.name, "be a list of at least two different seeds", value)
    for one in value:
        options.seed()(_, field, one)


@final
@attrs.frozen(kw_only=True)
class Repeated(Splitter):
    """The folds of a splitter for several seeds, all in one run.

    Each repeat tests a record at most once, and `Folds.repeats` says which fold belongs to which.
    A run pools the folds of each repeat and reports the mean over repeats (`evaluate`).

    Attributes:
        splitter: The spec of the splitter.
        times: How many repeats; the first one is what the splitter gives alone. Default 5.
        seeds: The seed of each repeat instead, whatever the seed of the run is.
    """

    splitter: Splitter = attrs.field(factory=StratifiedGroupKFold, converter=_splitter)
    times: int | None = attrs.field(default=None, validator=options.optional(options.count(2)))
    seeds: Sequence[int] | None = attrs.field(default=None, converter=options.texts, validator=options.optional(_seeds))

    def __attrs_post_init__(self) -> None:
        if isinstance(self.splitter, Repeated):
            raise options.rejected("splitter", "not be 'repeated' itself", self.splitter, "multiply the repeats")
        if self.times is not None and self.seeds is not None:
            raise options.rejected("times", "be left out beside 'seeds'", self.times)

    @property
    def keeps_groups(self) -> bool:  # type: ignore[override]  # follows the splitter that is repeated
        """Whether the splitter keeps groups whole."""
        return self.splitter.keeps_groups

    @property
    def reweight(self) -> bool:  # type: ignore[override]  # follows the splitter that is repeated
        """Whether the splitter reweights validation."""
        return self.splitter.reweight

    def assign(self, dataset: Dataset, *, seed: int, test: bool) -> NDArray[np.int8]:
        """Give each record its part in each fold of each repeat.

        Args:
            dataset: The set.
            seed: The seed of the first repeat, from which those of the others follow.
            test: Whether test records are wanted.

        Returns:
            Codes (repeats, folds, N).

        Raises:
            SplitError: if the repeats are all the same, or differ in their number of folds.
        """
        codes = [self.splitter.assign(dataset, seed=each, test=test) for each in self._each(seed)]
        if len({len(one) for one in codes}) > 1:
            raise SplitError(f"repeats must have equal numbers of folds, got {[len(one) for one in codes]}")
        if all(np.array_equal(codes[0], one) for one in codes[1:]):
            name = type(self.splitter).__name__
            raise SplitError(f"repeats must differ, got the same folds from {name} for every seed; use it alone")
        return np.stack(codes)

    def _each(self, seed: int) -> list[int]:
        if self.seeds is not None:
            return list(self.seeds)
        times = _TIMES if self.times is None else self.times
        return [seed, *(derive_seed(seed, "repeat", number) for number in range(1, times))]
