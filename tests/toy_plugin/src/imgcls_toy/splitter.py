"""A splitter without chance."""

from __future__ import annotations

from typing import final

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.data.dataset import Dataset
from imgcls.data.folds import TEST, TRAIN, VAL
from imgcls.splitting.base import Splitter

__all__ = ["ToyLastGroup"]


@final
@attrs.frozen(kw_only=True)
class ToyLastGroup(Splitter):
    """The last group validates, the one before it tests, the others train."""

    def assign(self, dataset: Dataset, *, seed: int, test: bool) -> NDArray[np.int8]:
        """Give each record its part.

        Args:
            dataset: The set.
            seed: Not used.
            test: Whether a test part is wanted.

        Returns:
            Codes (1, N).
        """
        groups = dataset.ids if dataset.groups is None else dataset.groups
        number = np.unique(groups, return_inverse=True)[1]
        codes = np.full(len(dataset), TRAIN, dtype=np.int8)
        codes[number == number.max()] = VAL
        codes[number == number.max() - 1] = TEST if test else TRAIN
        return codes[None]
