"""What stays together when a set is divided: its groups, or its records one by one."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import SplitError
from imgcls.data.dataset import Dataset

__all__ = ["Units", "class_counts", "refuse_divided", "refuse_few", "refuse_missing", "refuse_ungrouped"]


@attrs.frozen(kw_only=True, eq=False)
class Units:
    """The G units of a set of N records and K classes.

    They are numbered in alphabetical order of groups or ids, so that what becomes of them does
    not depend on the order of the records.

    Attributes:
        code: The unit of each record, (N,), from 0.
        counts: How many records of each class a unit has, (G, K).
        sizes: How many records a unit has, (G,); of several labels not the sum of its counts.
        classes: The names of the classes.
        word: What the units are, for messages: `groups` or `records`.
    """

    code: NDArray[np.int64]
    counts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    classes: tuple[str, ...]
    word: str

    @classmethod
    def over(cls, dataset: Dataset, *, grouped: bool) -> Units:
        """Find the units of a set.

        Args:
            dataset: The set.
            grouped: Whether groups stay together where there are some; else each record is a
                unit of its own.

        Returns:
            The units.
        """
        groups = dataset.group_codes if grouped else None
        code = _ranks(dataset.ids) if groups is None else groups
        counts = class_counts(code, dataset.labels, len(dataset.classes))
        word = "records" if groups is None else "groups"
        return cls(code=code, counts=counts, sizes=np.bincount(code), classes=dataset.classes, word=word)

    def __len__(self) -> int:
        return len(self.sizes)

    def chosen(self, units: NDArray[np.bool_] | NDArray[np.int64]) -> Units:
        """Look at some units alone.

        Args:
            units: Which, a mask (G,) or numbers.

        Returns:
            These units; their `code` is that of all.
        """
        return attrs.evolve(self, counts=self.counts[units], sizes=self.sizes[units])

    def columns(self, *, stratified: bool) -> NDArray[np.int64]:
        """Count what is to be divided in proportion.

        Args:
            stratified: Whether that is every class; else it is the records.

        Returns:
            Counts (G, C): of each class, and of the records where they do not follow from those.
        """
        size = self.sizes[:, None]
        if not stratified:
            return size
        follows = np.array_equal(self.counts.sum(axis=1), self.sizes)
        return self.counts if follows else np.hstack([self.counts, size])


def _ranks(ids: NDArray[np.str_]) -> NDArray[np.int64]:
    order = np.argsort(ids, kind="stable")
    ranks = np.empty(len(ids), dtype=np.int64)
    ranks[order] = np.arange(len(ids))
    return ranks


def class_counts(units: NDArray[np.int64], labels: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """Count the classes in each unit.

    Args:
        units: The unit of each record, (N,).
        labels: The class of each record, (N,), or 1 for each class that it has, (N, K).
        num_classes: How many classes there are, K.

    Returns:
        Counts (G, K).
    """
    record, label = np.nonzero(labels) if labels.ndim == 2 else (slice(None), labels)
    flat = np.bincount(units[record] * num_classes + label, minlength=(units.max() + 1) * num_classes)
    return flat.reshape(-1, num_classes)


def refuse_few(units: Units, *, parts: int, remedy: str, stratified: bool = True) -> None:
    """Refuse a set, or a class of it, that has fewer units than there are parts.

    Args:
        units: The units.
        parts: How many parts want some.
        remedy: What to do.
        stratified: Whether each part wants every class.

    Raises:
        SplitError: if there are too few.
    """
    if len(units) < parts:
        raise SplitError(f"the set must have at least {parts} {units.word}, got {len(units)}; {remedy}")
    have = (units.counts > 0).sum(axis=0).tolist()
    for name, number in zip(units.classes, have, strict=True):
        if stratified and number < parts:
            raise SplitError(f"class {name!r} must have at least {parts} {units.word}, got {number}; {remedy}")


def refuse_missing(
    parts: NDArray[np.int64] | NDArray[np.int8], units: Units, names: Sequence[str], *, remedy: str
) -> None:
    """Refuse parts that lack a class, which happens where groups have several classes.

    Args:
        parts: The part of each unit, (G,).
        units: The units.
        names: What the parts from 0 on are, those that need every class.
        remedy: What to do.

    Raises:
        SplitError: if a part lacks a class.
    """
    for part, name in enumerate(names):
        lacks = np.flatnonzero(units.counts[parts == part].sum(axis=0) == 0)
        if len(lacks):
            raise SplitError(f"{name} must have every class, got none of {units.classes[lacks[0]]!r}; {remedy}")


def refuse_divided(dataset: Dataset, *, instead: str) -> None:
    """Refuse a set whose groups a splitter of single records would divide.

    Args:
        dataset: The set; groups of one record each are no hindrance.
        instead: The splitter that keeps groups whole.

    Raises:
        SplitError: if a group has several records.
    """
    if dataset.group_codes is not None and np.bincount(dataset.group_codes).max() > 1:
        raise SplitError(
            "groups must stand on one side of a split, got groups of several records, which would stand on both; "
            f"use {instead!r}, or leave 'group' out if they are no groups"
        )


def refuse_ungrouped(dataset: Dataset, *, instead: str) -> None:
    """Refuse a set without groups.

    Args:
        dataset: The set.
        instead: The splitter for such sets.

    Raises:
        SplitError: if it has no groups.
    """
    if dataset.group_codes is None:
        raise SplitError(f"the set must have groups, got none; give 'group', or use {instead!r}")
