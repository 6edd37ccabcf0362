"""Folds in which the test part rotates and validation is cut from the rest."""

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

__all__ = ["StratifiedGroupKFold", "StratifiedKFold"]


@final
@attrs.frozen(kw_only=True)
class StratifiedGroupKFold(Splitter):
    """k folds with whole groups and classes in proportion.

    Every record is tested in exactly one fold. Validation is a grouped, stratified part of
    what is left, so that no reported number was used to choose anything. Where the test set
    is fixed, validation rotates instead.

    Attributes:
        k: How many folds.
        val: The share of the records outside of test that validates.
    """

    k: int = attrs.field(default=5, validator=options.count(2))
    val: float = attrs.field(default=0.2, validator=options.fraction())

    def assign(self, dataset: Dataset, *, seed: int, test: bool) -> NDArray[np.int8]:
        """Give each record its part in each fold.

        Args:
            dataset: The set.
            seed: The seed of all chance.
            test: Whether the rotating part tests; else it validates.

        Returns:
            Codes (k, N).
        """
        return _rotate(dataset, self.k, self.val, seed=seed, test=test, grouped=True)


@final
@attrs.frozen(kw_only=True)
class StratifiedKFold(Splitter):
    """k folds with classes in proportion, for sets without groups.

    On a set with groups it is refused, since they would be divided; use
    `stratified-group-kfold` there.

    Attributes:
        k: How many folds.
        val: The share of the records outside of test that validates.
    """

    k: int = attrs.field(default=5, validator=options.count(2))
    val: float = attrs.field(default=0.2, validator=options.fraction())

    def assign(self, dataset: Dataset, *, seed: int, test: bool) -> NDArray[np.int8]:
        """Give each record its part in each fold.

        Args:
            dataset: The set.
            seed: The seed of all chance.
            test: Whether the rotating part tests; else it validates.

        Returns:
            Codes (k, N).
        """
        return _rotate(dataset, self.k, self.val, seed=seed, test=test, grouped=False)


def _rotate(dataset: Dataset, k: int, val: float, *, seed: int, test: bool, grouped: bool) -> NDArray[np.int8]:
    units = unit_codes(dataset, grouped=grouped)
    counts = class_counts(units, dataset.labels, len(dataset.classes))
    refuse_few(counts, dataset, parts=k, grouped=grouped, remedy=f"use fewer folds than {k} or collect more")
    part = allocate(counts, np.full(k, 1 / k), generator(seed, "folds"))
    codes = np.full((k, len(counts)), TRAIN, dtype=np.int8)
    for fold in range(k):
        codes[fold, part == fold] = TEST if test else VAL
        if test:
            rest = np.flatnonzero(part != fold)
            refuse_few(counts[rest], dataset, parts=2, grouped=grouped, remedy="use fewer folds or collect more")
            inner = allocate(counts[rest], np.array([1 - val, val]), generator(seed, "val", fold))
            codes[fold, rest[inner == 1]] = VAL
    return codes[:, units]
