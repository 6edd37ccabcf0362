"""One fold: a test part and a validation part held out."""

from __future__ import annotations

from typing import Any, final

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core import options
from imgcls.core.errors import ConfigError, SplitError
from imgcls.core.randomness import generator
from imgcls.data.dataset import Dataset
from imgcls.data.folds import TEST, TRAIN, VAL
from imgcls.splitting.allocation import allocate, settle
from imgcls.splitting.base import Splitter
from imgcls.splitting.units import Units, refuse_few, refuse_missing

__all__ = ["Holdout"]

_fraction = options.fraction()


# 1 could be one record or all of them, so it is refused.
def _amount(owner: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 2:
        try:
            _fraction(owner, field, value)
        except ConfigError as error:
            raise ConfigError(f"{error}; or a number of records, a whole one of at least 2") from None


@final
@attrs.frozen(kw_only=True)
class Holdout(Splitter):
    """One stratified division with whole groups.

    Attributes:
        val: What validates: a share of the records below 1, or a number of records, which is met
            as nearly as whole groups allow.
        test: What tests, likewise; not used where the test set is fixed.
    """

    val: float = attrs.field(default=0.2, validator=_amount)
    test: float = attrs.field(default=0.2, validator=_amount)

    def __attrs_post_init__(self) -> None:
        if self.val < 1 and self.test < 1 and self.val + self.test >= 1:
            raise options.rejected("val", f"leave something to train beside 'test' of {self.test}", self.val)

    def assign(self, dataset: Dataset, *, seed: int, test: bool) -> NDArray[np.int8]:
        """Give each record its part.

        Args:
            dataset: The set.
            seed: The seed of all chance.
            test: Whether a test part is wanted.

        Returns:
            Codes (1, N).
        """
        held = {VAL: self.val, TEST: self.test} if test else {VAL: self.val}
        units = Units.over(dataset, grouped=True)
        refuse_few(units, parts=1 + len(held), remedy="collect more or merge classes")
        shares = _shares(list(held.values()), len(dataset))
        counts = units.columns(stratified=True)
        parts = allocate(counts, shares, generator(seed, "holdout"))
        for part, amount in enumerate(held.values(), start=1):
            if amount > 1:
                parts = settle(parts, counts, units.sizes, part=part, wanted=int(amount))
        names = ["train", "val", "test"][: len(shares)]
        refuse_missing(parts, units, names, remedy="hold out more, or use another seed")
        return np.array([TRAIN, *held], dtype=np.int8)[parts][units.code][None]


# The share of each part, that of training first.
def _shares(amounts: list[float], size: int) -> NDArray[np.float64]:
    held = [amount / size if amount > 1 else amount for amount in amounts]
    if sum(held) >= 1:
        raise SplitError(f"'val' and 'test' must leave some of {size} records to train, got {amounts}; hold out fewer")
    return np.array([1 - sum(held), *held])
