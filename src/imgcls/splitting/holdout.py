"""One fold: a test part and a validation part held out."""

from __future__ import annotations

from typing import final

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core import options
from imgcls.core.randomness import generator
from imgcls.data.dataset import Dataset
from imgcls.data.folds import TEST, TRAIN, VAL
from imgcls.splitting.allocation import allocate, class_counts, refuse_few, unit_codes
from imgcls.splitting.base import Splitter

__all__ = ["Holdout"]


@final
@attrs.frozen(kw_only=True)
class Holdout(Splitter):
    """One stratified division with whole groups.

    Attributes:
        val: The share of the records that validates.
        test: The share that tests; not used where the test set is fixed.
    """

    val: float = attrs.field(default=0.2, validator=options.fraction())
    test: float = attrs.field(default=0.2, validator=options.fraction())

    def __attrs_post_init__(self) -> None:
        if self.val + self.test >= 1:
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
        units = unit_codes(dataset, grouped=True)
        counts = class_counts(units, dataset.labels, len(dataset.classes))
        refuse_few(counts, dataset, parts=1 + len(held), grouped=True, remedy="collect more or merge classes")
        shares = np.array([1 - sum(held.values()), *held.values()])
        parts = allocate(counts, shares, generator(seed, "holdout"))
        return np.array([TRAIN, *held], dtype=np.int8)[parts][units][None]
