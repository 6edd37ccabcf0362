"""k folds: one part after the other is held out."""

from __future__ import annotations

import abc
from typing import final

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core import options
from imgcls.core.randomness import generator
from imgcls.data.dataset import Dataset
from imgcls.splitting.allocation import allocate
from imgcls.splitting.base import Splitter
from imgcls.splitting.rotation import REPORTS, VAL_SHARE, refuse_unused, rotate
from imgcls.splitting.units import Units, refuse_divided, refuse_few, refuse_missing, refuse_ungrouped

__all__ = ["GroupKFold", "KFold", "KFolds", "StratifiedGroupKFold", "StratifiedKFold"]


@attrs.frozen(kw_only=True)
class KFolds(Splitter):
    """What the splitters into k folds have in common.

    Every record is tested in exactly one fold, and validation is a part of what is left, so
    that no reported number was used to choose anything. With `report="val"` the part that
    rotates validates, and no fold has a test part: numbers then come from records that chose
    checkpoint and thresholds. So it is too where the test set is fixed, which then reports.

    Attributes:
        k: How many folds.
        val: The share of the records outside of test that validates.
        report: Whether the part that rotates is `test` or `val`.
    """

    k: int = attrs.field(default=5, validator=options.count(2))
    val: float = attrs.field(default=VAL_SHARE, validator=options.fraction())
    report: str = attrs.field(default="test", validator=options.choice(*REPORTS))

    def __attrs_post_init__(self) -> None:
        refuse_unused(self.val, self.report)

    @final
    def assign(self, dataset: Dataset, *, seed: int, test: bool) -> NDArray[np.int8]:
        """Give each record its part in each fold.

        Args:
            dataset: The set.
            seed: The seed of all chance.
            test: Whether the part that rotates may test; else it validates.

        Returns:
            Codes (k, N).
        """
        units, stratified = self._units(dataset)
        remedy = f"use fewer folds than {self.k} or collect more"
        refuse_few(units, parts=self.k, remedy=remedy, stratified=stratified)
        counts = units.columns(stratified=stratified)
        parts = allocate(counts, np.full(self.k, 1 / self.k), generator(seed, "folds"))
        if stratified:
            refuse_missing(parts, units, [f"fold {fold}" for fold in range(self.k)], remedy=remedy)
        tests = test and self.report == "test"
        for fold in range(self.k if tests else 0):
            rest = units.chosen(parts != fold)
            refuse_few(rest, parts=2, remedy="use fewer folds or collect more", stratified=stratified)
        return rotate(parts, units, counts, val=self.val if tests else None, seed=seed)

    @abc.abstractmethod
    def _units(self, dataset: Dataset) -> tuple[Units, bool]:
        """Find what stays together, or refuse the set.

        Args:
            dataset: The set.

        Returns:
            The units, and whether each class is divided in proportion.
        """


@final
@attrs.frozen(kw_only=True)
class KFold(KFolds):
    """k folds drawn at random, for sets without groups; classes are not looked at.

    The options are those of `KFolds`.
    """

    def _units(self, dataset: Dataset) -> tuple[Units, bool]:
        refuse_divided(dataset, instead="group-kfold")
        return Units.over(dataset, grouped=False), False


@final
@attrs.frozen(kw_only=True)
class StratifiedKFold(KFolds):
    """k folds with classes in proportion, for sets without groups.

    A set with groups is refused, since they would be divided; use `stratified-group-kfold`
    there. The options are those of `KFolds`.
    """

    def _units(self, dataset: Dataset) -> tuple[Units, bool]:
        refuse_divided(dataset, instead="stratified-group-kfold")
        return Units.over(dataset, grouped=False), True


@final
@attrs.frozen(kw_only=True)
class GroupKFold(KFolds):
    """k folds with whole groups, as equal in records as can be; classes are not looked at.

    The options are those of `KFolds`.
    """

    def _units(self, dataset: Dataset) -> tuple[Units, bool]:
        refuse_ungrouped(dataset, instead="kfold")
        return Units.over(dataset, grouped=True), False


@final
@attrs.frozen(kw_only=True)
class StratifiedGroupKFold(KFolds):
    """k folds with whole groups and classes in proportion.

    Without groups it is `stratified-kfold`. The options are those of `KFolds`.
    """

    def _units(self, dataset: Dataset) -> tuple[Units, bool]:
        return Units.over(dataset, grouped=True), True
