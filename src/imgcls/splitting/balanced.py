"""One fold whose validation part has as many records of each class."""

from __future__ import annotations

from typing import final

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core import options
from imgcls.core.errors import SplitError
from imgcls.core.progress import say
from imgcls.core.randomness import generator
from imgcls.data.dataset import Dataset
from imgcls.data.folds import TEST, TRAIN, VAL
from imgcls.splitting.allocation import cut
from imgcls.splitting.base import Splitter
from imgcls.splitting.units import Units, refuse_few, refuse_missing

__all__ = ["BalancedHoldout"]


@final
@attrs.frozen(kw_only=True)
class BalancedHoldout(Splitter):
    """Validation has the same number of records of each class, drawn at random.

    Groups stay whole, so that the number is met as nearly as they allow. The classes of such a
    validation part are not as frequent as in the population: precision, average precision,
    accuracy and F1 of it, and thresholds chosen on it, are not those of the population. The recall
    of each class, and the AUC of two, are. With `reweight` all of them are as far as so few records
    tell; the monitored metric, which chooses the checkpoint, stays that of the records as they are.

    Attributes:
        per_class: How many records of each class validate.
        test: The share of the records that tests, in proportion; None for no test part. Not used
            where the test set is fixed.
        reweight: Whether metrics and thresholds of validation records count each class as often as
            there are records of it outside of test.
    """

    per_class: int = attrs.field(default=20, validator=options.count(1))
    test: float | None = attrs.field(default=None, validator=options.optional(options.fraction()))
    reweight: bool = attrs.field(default=False, validator=options.instance(bool))  # type: ignore[misc]  # an option here

    def assign(self, dataset: Dataset, *, seed: int, test: bool) -> NDArray[np.int8]:
        """Give each record its part, and say what validation is not good for.

        Args:
            dataset: The set.
            seed: The seed of all chance.
            test: Whether a test part is wanted.

        Returns:
            Codes (1, N).

        Raises:
            ConfigError: if records with several labels are to be reweighted.
        """
        if self.reweight and dataset.multilabel:
            raise options.rejected("reweight", "be left out where records have several labels", self.reweight)
        units = Units.over(dataset, grouped=True)
        share = self.test if test else None
        refuse_few(units, parts=2 if share is None else 3, remedy="collect more or merge classes")
        codes = np.full(len(units), TRAIN, dtype=np.int8)
        if share is not None:
            codes[cut(units.columns(stratified=True), share, generator(seed, "test"))] = TEST
        rest = np.flatnonzero(codes == TRAIN)
        self._refuse_rare(units.chosen(rest))
        drawn = rest[_draw(units.counts[rest], self.per_class, generator(seed, "balanced"))]
        codes[drawn] = VAL
        refuse_missing(codes, units, ["train", "val"], remedy="raise 'per_class', since groups are larger than that")
        _tell(units.chosen(drawn), reweight=self.reweight)
        return codes[units.code][None]

    def _refuse_rare(self, rest: Units) -> None:
        for name, number in zip(rest.classes, rest.counts.sum(axis=0).tolist(), strict=True):
            if number <= self.per_class:
                raise SplitError(
                    f"class {name!r} must have more than 'per_class' of {self.per_class} records outside of test, got "
                    f"{number}; lower 'per_class' or collect more"
                )


# Class by class, the rarest first; a unit is taken if it brings the counts of all classes nearer.
def _draw(counts: NDArray[np.int64], wanted: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    chosen, held = np.zeros(len(counts), dtype=bool), np.zeros(counts.shape[1], dtype=np.int64)
    left, has = (counts > 0).sum(axis=0), counts > 0
    for name in np.argsort(counts.sum(axis=0), kind="stable"):
        for unit in rng.permutation(np.flatnonzero(has[:, name] & ~chosen)).tolist():
            if held[name] >= wanted:
                break
            nearer = np.abs(held + counts[unit] - wanted).sum() < np.abs(held - wanted).sum()
            if nearer and np.all(left > has[unit]):
                chosen[unit] = True
                held += counts[unit]
                left -= has[unit]
    return _polished(chosen, counts, wanted)


# One unit in or out at a time, as long as that brings the counts nearer.
def _polished(chosen: NDArray[np.bool_], counts: NDArray[np.int64], wanted: int) -> NDArray[np.bool_]:
    while True:
        held = counts[chosen].sum(axis=0)
        last = (counts[~chosen] > 0).sum(axis=0) == 1
        fixed = ~chosen & (counts[:, last] > 0).any(axis=1)
        off = np.abs(held + np.where(chosen, -1, 1)[:, None] * counts - wanted).sum(axis=1)
        best = np.where(fixed, np.iinfo(np.int64).max, off).argmin()
        if off[best] >= np.abs(held - wanted).sum():
            return chosen
        chosen[best] = ~chosen[best]


def _tell(val: Units, *, reweight: bool) -> None:
    got = ", ".join(f"{name} {number}" for name, number in zip(val.classes, val.counts.sum(axis=0), strict=True))
    numbers = "precision, average precision, accuracy and thresholds"
    meaning = (
        f"{numbers} count each class as often as outside of test, but the monitored metric does not"
        if reweight
        else f"{numbers} from it are not those of the population"
    )
    say(f"balanced-holdout: validation has {got}; {meaning}")
