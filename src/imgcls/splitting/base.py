"""What a splitter is, and the registry of splitters."""

from __future__ import annotations

import abc
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import PluginContractError
from imgcls.core.plugins import Plugin, Registry
from imgcls.data.dataset import Dataset
from imgcls.data.folds import TEST, Folds

__all__ = ["Splitter", "splitters"]


class Splitter(Plugin):
    """A way to divide a set into folds.

    A subclass is a frozen attrs class that writes `assign`; what it returns is checked, so
    that no splitter can lose a record, use one twice or divide a group. Those of imgcls give a
    record its part by the names of groups or ids, whatever the order of the records.

    Attributes:
        keeps_groups: Whether a group that stands on two sides is an error. A splitter that
            sets it to False says in its name or docs that it does not honour groups.
        reweight: Whether metrics and thresholds of validation records are to count each class as
            often as there are records of it outside of test.
    """

    keeps_groups: ClassVar[bool] = True
    reweight: ClassVar[bool] = False

    @final
    def split(self, dataset: Dataset, *, seed: int = 0, test: bool = True) -> Folds:
        """Divide a set.

        Args:
            dataset: The set.
            seed: The seed of all chance in it.
            test: Whether folds shall have test records; False where the test set is fixed
                and lies outside of `dataset`.

        Returns:
            The folds.

        Raises:
            SplitError: if the set cannot be divided so.
            PluginContractError: if the splitter makes test records though none are wanted.
        """
        codes = self.assign(dataset, seed=seed, test=test)
        if not test and np.any(np.asarray(codes) == TEST):
            raise PluginContractError(f"{type(self).__name__}.assign must give no test records when 'test' is False")
        report = None if test else "test"
        return Folds.from_codes(codes, dataset, keeps_groups=self.keeps_groups, report=report, reweight=self.reweight)

    @abc.abstractmethod
    def assign(self, dataset: Dataset, *, seed: int, test: bool) -> NDArray[np.int8]:
        """Give each record its part in each fold.

        Args:
            dataset: The set, with `labels` (N,), or (N, K) where it is `multilabel`, and `groups`
                (N,) or None.
            seed: The seed of all chance.
            test: Whether test records are wanted.

        Returns:
            Codes (folds, N), or (repeats, folds, N): `TRAIN`, `VAL`, `TEST` or `UNUSED` of
            `imgcls.data.folds`.
        """


#: The registry of splitters.
splitters: Registry[Splitter] = Registry("imgcls.splitters", Splitter)
