"""Which records train, validate and test: disjoint, complete, no group on two sides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import SplitError, listing
from imgcls.core.folders import read_json, write_json
from imgcls.data.dataset import Dataset

__all__ = ["TEST", "TRAIN", "UNUSED", "VAL", "Fold", "Folds"]

#: The parts of a fold, as the codes that splitters write.
TRAIN, VAL, TEST, UNUSED = range(4)
_PARTS = ("train", "val", "test", "unused")


@attrs.frozen(kw_only=True, eq=False)
class Fold:
    """The positions of the records of each part, in rising order.

    Attributes:
        train: Records that train.
        val: Records that choose checkpoint and thresholds.
        test: Records that only report; may be empty.
        unused: Records left out of this fold.
    """

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    unused: NDArray[np.int64]

    @classmethod
    def from_codes(cls, codes: NDArray[np.int8]) -> Fold:
        """Read the parts from one code per record.

        Args:
            codes: `TRAIN`, `VAL`, `TEST` or `UNUSED` of each record (N,).

        Returns:
            The fold; since each record has one code, its parts are disjoint and complete.
        """
        return cls(**{name: np.flatnonzero(codes == code) for code, name in enumerate(_PARTS)})

    def part(self, name: str) -> NDArray[np.int64]:
        """Take one part by name.

        Args:
            name: `train`, `val`, `test` or `unused`.

        Returns:
            Its positions.
        """
        parts: dict[str, NDArray[np.int64]] = attrs.asdict(self)
        return parts[name]


@attrs.frozen(kw_only=True, eq=False)
class Folds:
    """The folds of a run, bound to the set they were made for.

    Attributes:
        folds: One or more.
        fingerprint: That of the set.
        repeats: The number of the repeat that each fold belongs to, from 0. All repeats have the
            same number of folds; what they test overlaps, so it is pooled within one only.
        report: The part that is reported: `test`, or `val` where folds have no test part and
            none is fixed outside of them. Numbers of `val` come from records that were used for
            selection.
        prior: The share of each class among the records outside of test, where validation
            is to count as if its classes were as frequent; else None.
    """

    folds: tuple[Fold, ...]
    fingerprint: str
    repeats: tuple[int, ...]
    report: str
    prior: Mapping[str, float] | None = None

    @classmethod
    def from_codes(
        cls,
        codes: NDArray[np.int8],
        dataset: Dataset,
        *,
        keeps_groups: bool = True,
        report: str | None = None,
        reweight: bool = False,
    ) -> Folds:
        """Make folds from codes and check them.

        Args:
            codes: The part of each record in each fold, (folds, N) or (repeats, folds, N).
            dataset: The set.
            keeps_groups: Whether a group on two sides is refused.
            report: The part that is reported; None for `test` where every fold has one.
            reweight: Whether validation is to count by the class shares outside of test.

        Returns:
            The folds.

        Raises:
            SplitError: if a shape or code is wrong, a fold has nothing to train or validate
                with, a group is divided, or test parts of folds of one repeat overlap without
                being one.
        """
        codes = np.asarray(codes)
        if codes.ndim not in {2, 3} or codes.shape[-1] != len(dataset) or not codes.size:
            raise SplitError(f"codes must have shape (folds, {len(dataset)}), got {codes.shape}")
        if codes.dtype.kind not in "iu" or codes.min() < TRAIN or codes.max() > UNUSED:
            got = f"{codes.dtype} from {codes.min()} to {codes.max()}"
            raise SplitError(f"codes must be whole numbers from {TRAIN} to {UNUSED}, got {got}")
        rows = codes.reshape(-1, len(dataset))
        for number, row in enumerate(rows):
            _check_fold(row, number, dataset, keeps_groups=keeps_groups)
        per_repeat = codes.shape[-2]
        for start in range(0, len(rows), per_repeat):
            _refuse_overlap(rows[start : start + per_repeat] == TEST)
        return cls(
            folds=tuple(map(Fold.from_codes, rows)),
            fingerprint=dataset.fingerprint,
            repeats=tuple(number // per_repeat for number in range(len(rows))),
            report=report or ("test" if np.all(np.any(rows == TEST, axis=1)) else "val"),
            prior=_prior(rows, dataset) if reweight else None,
        )

    @property
    def num_repeats(self) -> int:
        """How many repeats there are; 1 unless a splitter was repeated."""
        return self.repeats[-1] + 1

    def __len__(self) -> int:
        return len(self.folds)

    def __iter__(self) -> Iterator[Fold]:
        return iter(self.folds)

    def __getitem__(self, number: int) -> Fold:
        return self.folds[number]

    def save(self, path: str | Path, dataset: Dataset) -> None:
        """Write the folds as ids, which outlive the order of records.

        Args:
            path: The JSON file.
            dataset: The set.
        """
        parts = [{name: dataset.ids[fold.part(name)].tolist() for name in _PARTS} for fold in self.folds]
        facts = {name: getattr(self, name) for name in ("fingerprint", "report", "repeats", "prior")}
        write_json(Path(path), {**facts, "folds": parts, "balance": self.balance(dataset)})

    @classmethod
    def load(cls, path: str | Path, dataset: Dataset) -> Folds:
        """Read folds that were saved for the same set.

        Args:
            path: The JSON file.
            dataset: The set.

        Returns:
            The folds.

        Raises:
            SplitError: if the set has changed since.
        """
        saved = read_json(Path(path))
        if saved["fingerprint"] != dataset.fingerprint:
            raise SplitError(
                f"the set must be the one that {str(path)!r} was made for, got other records, labels, groups or "
                "file sizes; split anew"
            )
        positions = {name: position for position, name in enumerate(dataset.ids.tolist())}
        folds = [
            Fold(**{part: np.array([positions[i] for i in ids], dtype=np.int64) for part, ids in fold.items()})
            for fold in saved["folds"]
        ]
        # Folds of the first version were not repeated and had no word for what is reported.
        repeats = tuple(saved.get("repeats", [0] * len(folds)))
        reported = saved.get("report", "test" if all(len(fold.test) for fold in folds) else "val")
        return cls(
            folds=tuple(folds),
            fingerprint=dataset.fingerprint,
            repeats=repeats,
            report=reported,
            prior=saved.get("prior"),
        )

    def balance(self, dataset: Dataset) -> list[dict[str, Any]]:
        """Count classes and groups of each part of each fold, and how far classes are off.

        Args:
            dataset: The set.

        Returns:
            One row a fold and part that has records: `repeat`, `fold`, `split`, `records`, `groups`,
            `classes` (records of each), `deviation` (of each class its share of the part's records
            minus its share of all records, from -1 to 1) and `largest_deviation`, without its sign.
        """
        whole = _class_counts(dataset, np.arange(len(dataset))) / len(dataset)
        return [
            {"repeat": repeat, "fold": number, "split": name, **_row(dataset, positions, whole)}
            for number, (repeat, fold) in enumerate(zip(self.repeats, self.folds, strict=True))
            for name in _PARTS
            if len(positions := fold.part(name))
        ]


def _row(dataset: Dataset, positions: NDArray[np.int64], whole: NDArray[np.float64]) -> dict[str, Any]:
    counts = _class_counts(dataset, positions)
    off = counts / len(positions) - whole
    return {
        "records": len(positions),
        "groups": None if dataset.group_codes is None else len(np.unique(dataset.group_codes[positions])),
        "classes": dict(zip(dataset.classes, counts.tolist(), strict=True)),
        "deviation": dict(zip(dataset.classes, off.tolist(), strict=True)),
        "largest_deviation": float(np.abs(off).max()),
    }


def _class_counts(dataset: Dataset, positions: NDArray[np.int64] | NDArray[np.bool_]) -> NDArray[np.int64]:
    labels = dataset.labels[positions]
    return labels.sum(axis=0) if dataset.multilabel else np.bincount(labels, minlength=len(dataset.classes))


def _prior(codes: NDArray[np.int8], dataset: Dataset) -> dict[str, float]:
    outside = np.any((codes == TRAIN) | (codes == VAL), axis=0)
    shares = _class_counts(dataset, outside) / outside.sum()
    return dict(zip(dataset.classes, shares.tolist(), strict=True))


def _check_fold(codes: NDArray[np.int8], number: int, dataset: Dataset, *, keeps_groups: bool) -> None:
    for code in (TRAIN, VAL):
        if not np.any(codes == code):
            raise SplitError(f"fold {number} must have records to {_PARTS[code]}, got none; use fewer or larger parts")
    trained = _class_counts(dataset, codes == TRAIN)
    if not trained.all():
        missing = [name for name, count in zip(dataset.classes, trained, strict=True) if not count]
        raise SplitError(f"fold {number} must train on every class, got none of {listing(missing)}; use fewer folds")
    if keeps_groups and dataset.group_codes is not None:
        _refuse_divided(codes, number, dataset, dataset.group_codes)


# A record that some folds test more than once would count more often than others in what is pooled.
def _refuse_overlap(tested: NDArray[np.bool_]) -> None:
    several = int((tested.sum(axis=0) > 1).sum())
    if several and not np.all(tested == tested[0]):
        raise SplitError(
            f"each record must be tested by one fold, or the same records by all, got {several} in several; let the "
            "test parts be disjoint, or fix one test set with 'test'"
        )


def _refuse_divided(codes: NDArray[np.int8], number: int, dataset: Dataset, groups: NDArray[np.int64]) -> None:
    sides = np.zeros((groups.max() + 1, len(_PARTS)), dtype=bool)
    sides[groups, codes] = True
    sides[:, UNUSED] = False
    divided = np.flatnonzero(sides.sum(axis=1) > 1)
    if len(divided):
        both = [name for name, found in zip(_PARTS, sides[divided[0]], strict=True) if found]
        names = [str(dataset.frame["group"].iloc[np.flatnonzero(groups == code)[0]]) for code in divided[:4]]
        more = f" and {len(divided) - 3} more" if len(divided) > 3 else ""
        raise SplitError(
            f"groups must stand on one side of a split, got {listing(names[:3])}{more} on both "
            f"{' and '.join(both)} of "
            f"fold {number}; move their records to one side, or leave 'group' out if they are no groups"
        )
