"""Records under many sets of weights at once, with the sums that metrics are made of.

A resample is a row of weights: how often each group of records was drawn. So the plain value of a metric is the one
with all weights 1. What is a sum over records is summed within groups once; a bootstrap is then a product of matrices
over groups. Rankings take one cumulated sum a resample (`ranking.curves`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import attrs
import numpy as np

from imgcls.evaluation.arrays import Bools, Floats, Ints, ratio
from imgcls.evaluation.ranking import Ranking, curves

__all__ = ["BINS", "Cases", "Ranking", "Weighted", "binned", "marked", "ratio", "restoring"]

#: Probabilities are clipped here before the logarithm of the loss, so that none is infinite.
_CLIP = 1e-12

#: Bins of the calibration error, of equal width (Guo et al. 2017).
BINS = 15


@attrs.frozen(kw_only=True, eq=False)
class Cases:
    """Labels and predictions of N records, with what metrics need of them whatever the weights.

    Attributes:
        labels: (N,) true classes; of several labels 1 for each class that a record has, (N, K).
        probs: (N, K).
        preds: Predicted classes, as the labels are written; the default is the most probable class, and of several
            labels each whose probability is at least 0.5.
        positive: The index of the positive class; looked at with two classes only.
        owners: (N,) the group of each record, as a column of the weights; the default is a group of its own.
        num_groups: G, how many groups there are; the default is those that own records.
        scale: (N,) what each record counts besides; None for 1.
    """

    labels: Ints
    probs: Floats
    preds: Ints = attrs.field(default=attrs.Factory(lambda self: self._likely, takes_self=True))
    positive: int = attrs.field(default=1)
    owners: Ints = attrs.field(default=attrs.Factory(lambda self: np.arange(len(self.labels)), takes_self=True))
    num_groups: int = attrs.field(default=attrs.Factory(lambda self: int(self.owners.max()) + 1, takes_self=True))
    scale: Floats | None = attrs.field(default=None)
    _sums: dict[str, Floats] = attrs.field(factory=dict, init=False)

    @property
    def multilabel(self) -> bool:
        """Whether a record may have several labels, or none."""
        return self.labels.ndim == 2

    @property
    def _likely(self) -> Ints:
        return (self.probs >= 0.5).astype(np.int64) if self.multilabel else self.probs.argmax(axis=1)

    def actual(self, of: int) -> Bools:
        """Find the records of a class.

        Args:
            of: Its index.

        Returns:
            (N,) whether they are.
        """
        return marked(self.labels, of)

    def called(self, of: int) -> Bools:
        """Find the records that are predicted to be of a class.

        Args:
            of: Its index.

        Returns:
            (N,) whether they are.
        """
        return marked(self.preds, of)

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return self.probs.shape[1]

    def summed(self, name: str) -> Floats:
        """Sum one of the values below over the records of each group, once.

        Args:
            name: The attribute, (N,) or (N, C).

        Returns:
            (G,) or (G, C).
        """
        if name not in self._sums:
            values = getattr(self, name)
            columns = values.reshape(len(values), -1).T
            sums = np.stack([self._grouped(column, 0, 1) for column in columns], axis=1)
            self._sums[name] = sums.reshape(self.num_groups, *values.shape[1:])
        return self._sums[name]

    # (G, width): of each group, the values whose code is the column.
    def _grouped(self, values: Floats | None, codes: Ints | int, width: int) -> Floats:
        weights = self.scale if values is None or self.scale is None else values * self.scale
        weights = values if weights is None else weights
        places = self.owners * width + codes
        found = np.bincount(places, weights=weights, minlength=self.num_groups * width)
        return found.astype(np.float64).reshape(self.num_groups, width)

    @property
    def ones(self) -> Floats:
        """(N,) 1 for each record."""
        return np.ones(len(self.labels))

    @functools.cached_property
    def losses(self) -> Floats:
        """(N,) cross-entropy in nats, probabilities clipped at 1e-12; of several labels the mean over them."""
        if self.multilabel:
            return self.label_losses.mean(axis=1)
        return -np.log(np.maximum(self.probs[np.arange(len(self.labels)), self.labels], _CLIP))

    @functools.cached_property
    def label_losses(self) -> Floats:
        """(N, K) binary cross-entropy of each of several labels, probabilities clipped as well."""
        return -np.log(np.maximum(np.where(self.labels == 1, self.probs, 1 - self.probs), _CLIP))

    @property
    def label_briers(self) -> Floats:
        """(N, K) squared error of the probability of each of several labels (Brier 1950)."""
        return (self.probs - self.labels) ** 2

    @property
    def briers(self) -> Floats:
        """(N,) squared error, summed over classes, with two classes of the positive one; of several labels the mean."""
        if self.multilabel:
            return self.label_briers.mean(axis=1)
        if self.num_classes == 2:
            return (self.probs[:, self.positive] - self.actual(self.positive)) ** 2
        own = self.probs[np.arange(len(self.labels)), self.labels]
        return (self.probs**2).sum(axis=1) + 1 - 2 * own

    @functools.cached_property
    def hits(self) -> Floats:
        """(N,) whether a record is predicted right; of several labels the share of them that are."""
        right = (self.preds == self.labels).astype(np.float64)
        return right.mean(axis=1) if self.multilabel else right

    @property
    def whole_hits(self) -> Floats:
        """(N,) whether every label of a record is right."""
        return (self.hits == 1).astype(np.float64)

    @property
    def distances(self) -> Floats:
        """(N,) squared number of places between the predicted class and the true one, in the order of the classes."""
        return ((self.preds - self.labels) ** 2).astype(np.float64)

    @functools.cached_property
    def ranks(self) -> Ints:
        """(N,) how many classes are more probable than the true one, of equal ones those before it."""
        own = np.take_along_axis(self.probs, self.labels[:, None], axis=1)
        before = np.arange(self.num_classes) < self.labels[:, None]
        return ((self.probs > own) | ((self.probs == own) & before)).sum(axis=1)

    @property
    def top_2(self) -> Floats:
        """(N,) whether the true class is among the two most probable."""
        return (self.ranks < 2).astype(np.float64)

    @property
    def top_3(self) -> Floats:
        """(N,) whether the true class is among the three most probable."""
        return (self.ranks < 3).astype(np.float64)

    @property
    def top_5(self) -> Floats:
        """(N,) whether the true class is among the five most probable."""
        return (self.ranks < 5).astype(np.float64)

    @functools.cached_property
    def counts(self) -> tuple[Floats, Floats, Floats]:
        """Three of (G, K): how many are of class k, are predicted k, and both."""
        if self.multilabel:
            pairs = (self.labels, self.preds, self.labels * self.preds)
            columns = [[self._grouped(one.astype(np.float64), 0, 1) for one in table.T] for table in pairs]
            actual, predicted, both = (np.concatenate(each, axis=1) for each in columns)
            return actual, predicted, both
        classes = self.num_classes
        actual, predicted = (self._grouped(None, codes, classes) for codes in (self.labels, self.preds))
        return actual, predicted, self._grouped(self.hits, self.labels, classes)

    def gaps(self, of: int | None = None) -> Floats:
        """Sum promised minus kept, for the calibration error.

        Args:
            of: A class, whose probability is a promise; None for the most probable class of each record.

        Returns:
            (G, BINS + 1) by group and bin.
        """
        name = f"gaps {of}"
        if name not in self._sums:
            promised = self.probs.max(axis=1) if of is None else self.probs[:, of]
            kept = self.probs.argmax(axis=1) == self.labels if of is None else self.actual(of)
            self._sums[name] = self._grouped(promised - kept, binned(promised), BINS + 1)
        return self._sums[name]

    @functools.cached_property
    def rankings(self) -> tuple[Ranking, ...]:
        """One ranking per class against the rest; only the positive one's where a record has one of two classes."""
        binary = self.num_classes == 2 and not self.multilabel
        columns = [self.positive] if binary else range(self.num_classes)
        return tuple(Ranking.of(self.probs[:, column], self.actual(column)) for column in columns)

    @functools.cached_property
    def pooled_ranking(self) -> tuple[Ranking, Ints, Floats | None]:
        """Every pair of record and label in one ranking, with the owner and the scale of each."""
        owners = np.repeat(self.owners, self.num_classes)
        scale = None if self.scale is None else np.repeat(self.scale, self.num_classes)
        return Ranking.of(self.probs.ravel(), self.labels.ravel() == 1), owners, scale


@attrs.frozen(kw_only=True, eq=False)
class Weighted:
    """Cases under B sets of weights; each sum that several metrics share is computed once.

    Attributes:
        cases: N records of G groups.
        weights: (B, G) of non-negative numbers.
    """

    cases: Cases
    weights: Floats

    def mean(self, name: str) -> Floats:
        """Average what each record has.

        Args:
            name: An attribute of the cases, (N,) or (N, C).

        Returns:
            (B,) or (B, C).
        """
        sums = self.weights @ self.cases.summed(name)
        return ratio(sums, self.total.reshape(-1, *[1] * (sums.ndim - 1)))

    @functools.cached_property
    def total(self) -> Floats:
        """(B,) sum of what the records count."""
        return self.weights @ self.cases.summed("ones")

    @functools.cached_property
    def counts(self) -> tuple[Floats, Floats, Floats]:
        """Three of (B, K): how many are of class k, are predicted k, and both."""
        actual, predicted, both = (self.weights @ table for table in self.cases.counts)
        return actual, predicted, both

    @functools.cached_property
    def recall(self) -> Floats:
        """(B, K) the share of class k that is predicted so."""
        actual, _, both = self.counts
        return ratio(both, actual)

    @functools.cached_property
    def spared(self) -> Floats:
        """(B, K) the share of those not of class k that are not predicted so."""
        actual, predicted, both = self.counts
        others = self.total[:, None] - actual
        return ratio(others - predicted + both, others)

    @functools.cached_property
    def negative_precision(self) -> Floats:
        """(B, K) the share of those not predicted k that are not."""
        actual, predicted, both = self.counts
        rest = self.total[:, None] - predicted
        return ratio(rest - actual + both, rest)

    @functools.cached_property
    def precision(self) -> Floats:
        """(B, K) the share of those predicted k that are."""
        _, predicted, both = self.counts
        return ratio(both, predicted)

    @functools.cached_property
    def f1(self) -> Floats:
        """(B, K) harmonic mean of precision and recall, NaN for an absent class."""
        actual, predicted, both = self.counts
        return np.where(actual > 0, ratio(2 * both, actual + predicted), np.nan)

    @functools.cached_property
    def label_calibration(self) -> Floats:
        """(B, K) expected calibration error of each of several labels."""
        return np.stack([self.calibration(of) for of in range(self.cases.num_classes)], axis=1)

    def calibration(self, of: int | None = None) -> Floats:
        """Compute the expected calibration error (Naeini et al. 2015; Guo et al. 2017).

        Args:
            of: As in `Cases.gaps`.

        Returns:
            (B,) the mean distance between promise and what was kept, over bins by their records.
        """
        return ratio(np.abs(self.weights @ self.cases.gaps(of)).sum(axis=1), self.total)

    @functools.cached_property
    def areas(self) -> tuple[Floats, Floats, Floats]:
        """Three of (B, R): area under the ROC curve, average precision and equal error rate of each ranking."""
        owners, scale = self.cases.owners, self.cases.scale
        found = [curves(ranking, self.weights, owners, scale) for ranking in self.cases.rankings]
        roc, precision, error = np.stack(found, axis=2)
        return roc, precision, error

    @functools.cached_property
    def pooled_areas(self) -> tuple[Floats, Floats]:
        """Two of (B,): area and average precision of all pairs of record and label."""
        ranking, owners, scale = self.cases.pooled_ranking
        roc, precision, _ = curves(ranking, self.weights, owners, scale)
        return roc, precision


def marked(codes: Ints, of: int) -> Bools:
    """Find the records of a class.

    Args:
        codes: (N,) classes, or of several labels 1 for each class of a record, (N, K).
        of: The index of the class.

    Returns:
        (N,) whether they are of it.
    """
    return codes[:, of] == 1 if codes.ndim == 2 else codes == of


def binned(probs: Floats) -> Ints:
    """Sort probabilities into the bins of the calibration error.

    Args:
        probs: (N,) from 0 to 1.

    Returns:
        (N,) from 0 to BINS: a bin holds its lower edge and not its upper one, and 1 has a bin of its own, as in
        torchmetrics.

    Examples:
        >>> binned(np.array([0.0, 0.5, 1.0]))
        array([ 0,  7, 15])
    """
    return np.searchsorted(np.linspace(0, 1, BINS + 1), probs, side="right") - 1


def restoring(labels: Ints, prior: Sequence[float] | None) -> Floats:
    """Weigh records so that their classes are as frequent as in the population.

    Args:
        labels: (N,) true classes.
        prior: (K,) the share of each class in the population; None leaves the records as they are.

    Returns:
        (N,) the share of the record's class in the population over that in the records.

    Examples:
        >>> restoring(np.array([0, 0, 1, 1]), [0.9, 0.1])
        array([1.8, 1.8, 0.2, 0.2])
    """
    if prior is None:
        return np.ones(len(labels))
    shares = np.bincount(labels, minlength=len(prior)) / len(labels)
    return np.asarray(prior, dtype=np.float64)[labels] / shares[labels]
