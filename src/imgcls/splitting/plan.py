"""The folds of a run: what a splitter makes of the records outside of a fixed test set."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import ConfigError, SplitError, listing
from imgcls.core.randomness import generator
from imgcls.data.dataset import Dataset
from imgcls.data.folds import TEST, TRAIN, UNUSED, VAL, Folds
from imgcls.data.memory import Pixels
from imgcls.splitting.allocation import cut, settle
from imgcls.splitting.base import Splitter
from imgcls.splitting.predefined import Predefined
from imgcls.splitting.units import Units, refuse_few

__all__ = ["plan_folds", "plan_readable"]

#: What a fixed test set can be.
Test = str | float | Dataset | None


def plan_folds(dataset: Dataset, splitter: Splitter, *, test: Test, seed: int) -> Folds:
    """Divide a set into folds, with a fixed test set where one is wanted.

    Args:
        dataset: The set.
        splitter: Divides the records outside of the fixed test set.
        test: None leaves testing to the splitter; `predefined` takes the set's own test
            records; `auto` does so where there are some; a share below 1 or a number of
            records is cut, stratified, groups whole; another set is the test set itself, which may share no
            group (where both sets have groups), file or image in memory.
        seed: The seed of all chance.

    Returns:
        The folds of `dataset`; with another set as test set they have no test records.

    Raises:
        SplitError: if the test set is empty or shares groups, files or pixels with the rest.
        ConfigError: if a part is to be cut beside the splitter `predefined`, which has its own.
    """
    if isinstance(test, Dataset):
        _refuse_shared(dataset, test)
        return splitter.split(dataset, seed=seed, test=False)
    if isinstance(splitter, Predefined) and not isinstance(test, str | None):
        raise ConfigError(f"'test' must be left out beside the splitter 'predefined', got {test!r}")
    if test is None or isinstance(splitter, Predefined):
        return splitter.split(dataset, seed=seed)
    fixed = _fixed(dataset, test, seed)
    if not fixed.any():
        return splitter.split(dataset, seed=seed)
    rest = np.flatnonzero(~fixed)
    _refuse_divided(dataset, fixed)
    inner = splitter.split(dataset.subset(rest), seed=seed, test=False)
    return _spread(inner, rest, dataset, others=TEST, keeps_groups=splitter.keeps_groups)


def plan_readable(dataset: Dataset, bad: Collection[int], splitter: Splitter, *, test: Test, seed: int) -> Folds:
    """Divide the readable records of a set into folds.

    Args:
        dataset: The set.
        bad: Positions of records that cannot be read; they are unused in every fold.
        splitter: As for `plan_folds`.
        test: As for `plan_folds`.
        seed: As for `plan_folds`.

    Returns:
        The folds of `dataset`.
    """
    if not bad:
        return plan_folds(dataset, splitter, test=test, seed=seed)
    good = np.setdiff1d(np.arange(len(dataset)), list(bad))
    inner = plan_folds(dataset.subset(good), splitter, test=test, seed=seed)
    return _spread(inner, good, dataset, others=UNUSED, keeps_groups=splitter.keeps_groups)


def _spread(inner: Folds, places: NDArray[np.int64], dataset: Dataset, *, others: int, keeps_groups: bool) -> Folds:
    codes = np.full((len(inner), len(dataset)), others, dtype=np.int8)
    for row, fold in zip(codes, inner, strict=True):
        for code, part in ((TRAIN, fold.train), (VAL, fold.val), (TEST, fold.test), (UNUSED, fold.unused)):
            row[places[part]] = code
    repeats = codes.reshape(inner.num_repeats, -1, len(dataset))
    found = Folds.from_codes(repeats, dataset, keeps_groups=keeps_groups, report=inner.report)
    return attrs.evolve(found, prior=inner.prior)


def _fixed(dataset: Dataset, test: str | float, seed: int) -> NDArray[np.bool_]:
    if not isinstance(test, str):
        return _cut(dataset, test, seed)
    if test not in {"auto", "predefined"}:
        raise ConfigError(f"'test' must be 'auto', 'predefined', None, a share or a Dataset, got {test!r}")
    named = np.zeros(len(dataset), dtype=bool) if dataset.splits is None else dataset.splits == "test"
    if test == "predefined" and not named.any():
        raise SplitError("'test' must not be 'predefined' for a set without test records; give a share or None")
    return named


# A share below 1, or a number of records, which is met as nearly as whole groups allow.
def _cut(dataset: Dataset, amount: float, seed: int) -> NDArray[np.bool_]:
    units = Units.over(dataset, grouped=True)
    refuse_few(units, parts=3, remedy="collect more or leave 'test' to the folds")
    if amount >= len(dataset):
        raise SplitError(f"'test' must leave some of {len(dataset)} records to train, got {amount}; hold out fewer")
    counts = units.columns(stratified=True)
    held = cut(counts, amount if amount < 1 else amount / len(dataset), generator(seed, "test"))
    if amount > 1:
        held = settle(held.astype(np.int64), counts, units.sizes, part=1, wanted=int(amount)) == 1
    return held[units.code]


def _refuse_divided(dataset: Dataset, fixed: NDArray[np.bool_]) -> None:
    if dataset.groups is not None:
        both = np.intersect1d(dataset.groups[fixed], dataset.groups[~fixed])
        if len(both):
            raise SplitError(
                f"groups must stand on one side of the test split, got {listing(both, limit=3)} on both sides; "
                "move their records to one side, or let 'test' be a share"
            )


def _refuse_shared(dataset: Dataset, test: Dataset) -> None:
    if dataset.classes != test.classes:
        raise SplitError(f"'test' must have the classes {list(dataset.classes)}, got {list(test.classes)}")
    for name, ours, theirs in (("groups", dataset.groups, test.groups), ("files", _files(dataset), _files(test))):
        if ours is not None and theirs is not None and len(both := np.intersect1d(ours, theirs)):
            raise SplitError(f"'test' must share no {name} with the set, got {listing(both, limit=3)} in both")

    _refuse_same_pixels(dataset, test)


def _refuse_same_pixels(dataset: Dataset, test: Dataset) -> None:
    if dataset.arrays is None or test.arrays is None:
        return
    known = set(_hashes(dataset.arrays))
    same = sum(found in known for found in _hashes(test.arrays))
    if same:
        got = f"got {same} of {len(test)} with the same pixels as one of the set"
        raise SplitError(f"'test' must share no images with the set, {got}; take them out of one of the two")


# Grey images are the same with and without an axis of one channel.
def _hashes(arrays: Pixels) -> Iterator[bytes]:
    for image in arrays:
        flat = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
        yield hashlib.sha256(repr(flat.shape).encode() + flat.tobytes()).digest()


def _files(dataset: Dataset) -> NDArray[np.str_] | None:
    if dataset.root is None:
        return None
    root = dataset.root.resolve().as_posix()
    return np.char.add(f"{root}/", dataset.ids)
