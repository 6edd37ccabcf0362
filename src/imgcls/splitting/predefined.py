"""The split that a set comes with."""

from __future__ import annotations

from typing import final

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core import options
from imgcls.core.errors import SplitError
from imgcls.core.randomness import generator
from imgcls.data.dataset import Dataset
from imgcls.data.folds import TEST, TRAIN, UNUSED, VAL
from imgcls.splitting.allocation import cut
from imgcls.splitting.base import Splitter
from imgcls.splitting.units import Units, refuse_few

__all__ = ["Predefined"]


@final
@attrs.frozen(kw_only=True)
class Predefined(Splitter):
    """The split of the folders or of the `split` column.

    Where it has no validation records, a stratified part with whole groups is cut from the
    training records.

    Attributes:
        val: The share of the training records to cut for validation where there is none.
    """

    val: float = attrs.field(default=0.2, validator=options.fraction())

    def assign(self, dataset: Dataset, *, seed: int, test: bool) -> NDArray[np.int8]:
        """Give each record the part that the set names.

        Args:
            dataset: The set.
            seed: The seed of the validation cut.
            test: Whether the set's test records test; else they are left out.

        Returns:
            Codes (1, N).

        Raises:
            SplitError: if the set names no splits.
        """
        if dataset.splits is None:
            raise SplitError("the set must name its splits, got none; give 'split' or use another splitter")
        codes = np.select(
            [dataset.splits == "val", dataset.splits == "test"], [VAL, TEST if test else UNUSED], TRAIN
        ).astype(np.int8)
        if not np.any(codes == VAL):
            train = np.flatnonzero(codes == TRAIN)
            codes[train[self._cut(dataset.subset(train), seed)]] = VAL
        return codes[None]

    def _cut(self, train: Dataset, seed: int) -> NDArray[np.bool_]:
        units = Units.over(train, grouped=True)
        refuse_few(units, parts=2, remedy="collect more or name validation records")
        return cut(units.columns(stratified=True), self.val, generator(seed, "val"))[units.code]
