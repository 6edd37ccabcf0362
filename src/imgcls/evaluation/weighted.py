"""Records under many sets of weights at once, with the sums that metrics are made of.

A resample is a row of weights: how often each record was drawn. So the plain value of a
metric is the one with all weights 1, and a bootstrap is a matrix product and a cumulated
sum instead of a loop; records are sorted by score once, whatever the number of resamples.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import attrs
import numpy as np

from imgcls.evaluation.arrays import Bools, Floats, Ints

__all__ = ["Cases", "Ranking", "Weighted", "marked", "ratio", "restoring"]

#: Probabilities are clipped here before the logarithm of the loss, so that none is infinite.
_CLIP = 1e-12


@attrs.frozen(eq=False)
class Ranking:
    """Records in the order of falling score.

    Attributes:
        order: (N,) positions of the records.
        hits: (N,) whether they are of the class, in that order.
        ends: (U,) where each run of equal scores ends.
    """

    order: Ints
    hits: Bools
    ends: Ints

    @classmethod
    def of(cls, scores: Floats, hits: Bools) -> Ranking:
        """Sort records.

        Args:
            scores: (N,), high for the class.
            hits: (N,) whether a record is of the class.

        Returns:
            The ranking.
        """
        order = np.argsort(-scores, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
        return cls(order, hits[order], ends)


@attrs.frozen(kw_only=True, eq=False)
class Cases:
    """Labels and predictions of N records, with what metrics need of them whatever the weights.

    Attributes:
        labels: (N,) true classes; of several labels 1 for each class that a record has, (N, K).
        probs: (N, K).
        preds: Predicted classes, as the labels are written; the default is the most probable class, and of several
            labels each whose probability is at least 0.5.
        positive: The index of the positive class; looked at with two classes only.
    """

    labels: Ints
    probs: Floats
    preds: Ints = attrs.field(default=attrs.Factory(lambda self: self._likely, takes_self=True))
    positive: int = attrs.field(default=1)

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

    @functools.cached_property
    def hits(self) -> Floats:
        """(N,) whether a record is predicted right; of several labels the share of them that are."""
        right = (self.preds == self.labels).astype(np.float64)
        return right.mean(axis=1) if self.multilabel else right

    @functools.cached_property
    def indicators(self) -> Floats:
        """(N, 3 K) of 0 and 1: is of class k, is predicted k, and both."""
        classes = range(self.num_classes)
        actual, predicted = (np.stack([of(k) for k in classes], axis=1) for of in (self.actual, self.called))
        return np.hstack([actual, predicted, actual & predicted]).astype(np.float64)

    @functools.cached_property
    def rankings(self) -> tuple[Ranking, ...]:
        """One ranking per class against the rest; only the positive one's where a record has one of two classes."""
        binary = self.num_classes == 2 and not self.multilabel
        columns = [self.positive] if binary else range(self.num_classes)
        return tuple(Ranking.of(self.probs[:, column], self.actual(column)) for column in columns)


@attrs.frozen(kw_only=True, eq=False)
class Weighted:
    """Cases under B sets of weights; each sum that several metrics share is computed once.

    Attributes:
        cases: N records.
        weights: (B, N) of non-negative numbers.
    """

    cases: Cases
    weights: Floats

    @functools.cached_property
    def total(self) -> Floats:
        """(B,) sum of the weights."""
        return self.weights.sum(axis=1)

    @functools.cached_property
    def counts(self) -> tuple[Floats, Floats, Floats]:
        """Three of (B, K): how many are of class k, are predicted k, and both."""
        actual, predicted, both = np.split(self.weights @ self.cases.indicators, 3, axis=1)
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
    def label_losses(self) -> Floats:
        """(B, K) mean binary cross-entropy of each of several labels."""
        return ratio(self.weights @ self.cases.label_losses, self.total[:, None])

    @functools.cached_property
    def briers(self) -> Floats:
        """(B, K) mean squared error of the probability of each of several labels (Brier 1950)."""
        return ratio(self.weights @ (self.cases.probs - self.cases.labels) ** 2, self.total[:, None])

    @functools.cached_property
    def areas(self) -> tuple[Floats, Floats]:
        """Two of (B, R): area under the ROC curve and average precision of each ranking."""
        pairs = [_areas(ranking, self.weights) for ranking in self.cases.rankings]
        return np.stack([roc for roc, _ in pairs], axis=1), np.stack([precision for _, precision in pairs], axis=1)


def marked(codes: Ints, of: int) -> Bools:
    """Find the records of a class.

    Args:
        codes: (N,) classes, or of several labels 1 for each class of a record, (N, K).
        of: The index of the class.

    Returns:
        (N,) whether they are of it.
    """
    return codes[:, of] == 1 if codes.ndim == 2 else codes == of


def ratio(part: Floats, whole: Floats) -> Floats:
    """Divide, with NaN for the share of nothing.

    Args:
        part: Any shape.
        whole: The same shape, or one that fits to it.

    Returns:
        part / whole, NaN where whole is 0.
    """
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


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


def _areas(ranking: Ranking, weights: Floats) -> tuple[Floats, Floats]:
    # Two cumulated sums down the ranking, read where runs of equal scores end. The area is the
    # trapezoidal one: a tie of a positive and a negative counts one half (Hanley and McNeil
    # 1982). Average precision sums precision times the step of recall, not interpolated.
    ranked = np.take(weights, ranking.order, axis=1)
    called = np.cumsum(ranked, axis=1)
    true = np.cumsum(np.multiply(ranked, ranking.hits, out=ranked), axis=1)
    if len(ranking.ends) < ranked.shape[1]:
        called, true = called[:, ranking.ends], true[:, ranking.ends]
    false, steps = called - true, np.diff(true, axis=1, prepend=0.0)
    positives, negatives = true[:, -1], false[:, -1]
    above = (np.einsum("bu,bu->b", steps, false) + np.einsum("bu,bu->b", steps[:, 1:], false[:, :-1])) / 2
    share = np.divide(true, called, out=np.zeros_like(true), where=called > 0)
    roc = 1 - ratio(above, positives * negatives)
    return roc, ratio(np.einsum("bu,bu->b", steps, share), positives)
