"""Abstention: what is gained when the model may say that it does not know.

Records are ordered by confidence; the risk of the surest ones, over their share, is the risk-coverage curve (El-Yaniv
and Wiener 2010), and the mean of it AURC (Geifman, Uziel and El-Yaniv 2019).
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from imgcls.core import options
from imgcls.core.errors import DataError
from imgcls.core.spacing import evenly
from imgcls.evaluation.arrays import Bools, Floats
from imgcls.evaluation.by_record import record_intervals
from imgcls.evaluation.decisions import decisions
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.thresholds import Threshold, values_for
from imgcls.evaluation.weighted import Ranking, ratio

__all__ = ["Rejection", "RiskCoverage", "confidence", "fit_rejection", "risk_coverage"]


def confidence(predictions: Predictions, thresholds: Sequence[Threshold] = (), rule: str | float = "") -> Floats:
    """Say how sure each decision is.

    Args:
        predictions: N records of one label each.
        thresholds: As in `decisions`.
        rule: As in `decisions`.

    Returns:
        (N,) from 0 to 1: with two classes how far the score is on the way from the threshold (0.5 without a rule) to
        the end of its side; with more the probability of the decided class.

    Raises:
        DataError: if records may have several labels.
    """
    if predictions.multilabel:
        raise DataError(
            "'predictions' must have one label a record to abstain, got several; judge each label by its own threshold"
        )
    if predictions.positive is None:
        return predictions.probs[np.arange(len(predictions)), decisions(predictions, thresholds, rule)]
    cuts = values_for(predictions, thresholds, rule if rule != "" else 0.5)
    return distance(predictions.scores, cuts)


def distance(scores: Floats, cuts: Floats) -> Floats:
    """Measure how far scores of two classes are from their thresholds.

    Args:
        scores: (N,) from 0 to 1.
        cuts: (N,) or one threshold.

    Returns:
        (N,) 0 at the threshold, 1 at the end of each side.

    Examples:
        >>> distance(np.array([0.1, 0.2, 0.6, 1.0]), np.array([0.2])).round(6).tolist()
        [0.5, 0.0, 0.5, 1.0]
    """
    above = scores >= cuts
    room = np.where(above, 1 - cuts, cuts)
    return np.abs(scores - cuts) / np.where(room > 0, room, 1)


@attrs.frozen(kw_only=True, eq=False)
class RiskCoverage:
    """The risk of the surest records, over their share.

    Attributes:
        coverage: (U,) the share of records that are decided, rising to 1; equally sure ones come together.
        risk: (U,) the share of wrong decisions among them.
        low: (U,) the lower end of its 95 % interval, resampled by group.
        high: (U,) the upper end.
        confidence: (U,) how sure a decision must be to be among them.
        area: AURC, the mean risk over coverage, with the ends of its interval.
    """

    coverage: Floats
    risk: Floats
    low: Floats
    high: Floats
    confidence: Floats
    area: tuple[float, float, float]


#: So many points of a curve are kept at most, evenly over coverage.
_POINTS = 200


def risk_coverage(
    predictions: Predictions,
    thresholds: Sequence[Threshold] = (),
    rule: str | float = "",
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> RiskCoverage:
    """Compute the risk-coverage curve.

    Args:
        predictions: N records of one label each.
        thresholds: As in `decisions`.
        rule: As in `decisions`.
        resamples: How often groups are drawn for the intervals.
        seed: Of the draws.

    Returns:
        The curve, at 200 points at most.
    """
    sure = confidence(predictions, thresholds, rule)
    ranking = Ranking.of(sure, decisions(predictions, thresholds, rule) != predictions.labels)
    shown = evenly(len(ranking.ends), _POINTS)

    def curve(weights: Floats) -> Floats:
        covered, risks = _curve(ranking, weights)
        steps = np.diff(covered, axis=1, prepend=0.0)
        area = np.where(steps > 0, risks * steps, 0).sum(axis=1) / covered[:, -1]
        return np.column_stack([risks[:, shown], area])

    count = len(predictions)
    values = curve(np.ones((1, count)))[0]
    low, high = record_intervals(curve, num_records=count, groups=predictions.groups, resamples=resamples, seed=seed)
    return RiskCoverage(
        coverage=(ranking.ends[shown] + 1) / count,
        risk=values[:-1],
        low=low[:-1],
        high=high[:-1],
        confidence=sure[ranking.order[ranking.ends[shown]]],
        area=(float(values[-1]), float(low[-1]), float(high[-1])),
    )


# Where records are equally sure, all of them are decided or none.
def _curve(ranking: Ranking, weights: Floats) -> tuple[Floats, Floats]:
    ranked = np.take(weights, ranking.order, axis=1)
    covered = np.cumsum(ranked, axis=1)[:, ranking.ends]
    wrong = np.cumsum(ranked * ranking.hits, axis=1)[:, ranking.ends]
    return covered, ratio(wrong, covered)


@attrs.frozen(kw_only=True)
class Rejection:
    """When the model abstains.

    Attributes:
        limit: A decision less sure than this is not taken.
        rule: The rule of the decisions; empty takes the most probable class.
        risk: The share of wrong decisions among those taken, on the records it was fitted on.
        coverage: The share of decisions that are taken there.
        num_records: How many records it was fitted on.
    """

    limit: float = attrs.field(validator=options.number(0))
    rule: str
    risk: float
    coverage: float
    num_records: int

    def rejects(self, sure: Floats) -> Bools:
        """Say which decisions are not taken.

        Args:
            sure: (N,) how sure each is, as `confidence` says.

        Returns:
            (N,) whether the model abstains.
        """
        rejected: Bools = sure < self.limit
        return rejected


def fit_rejection(
    predictions: Predictions,
    thresholds: Sequence[Threshold] = (),
    rule: str | float = "",
    *,
    risk: float | None = None,
    coverage: float | None = None,
) -> Rejection:
    """Find how sure decisions must be.

    Args:
        predictions: N validation records of one label each.
        thresholds: As in `decisions`.
        rule: As in `decisions`.
        risk: The share of wrong decisions that is allowed; as many decisions as possible are taken.
        coverage: The share of decisions that are to be taken at least; as few as possible are.

    Returns:
        When the model abstains. On other records risk and coverage come out near those of validation, not exactly.

    Raises:
        ConfigError: if not exactly one of the two is given, or it is not from 0 to 1.
        DataError: if no confidence keeps the risk so low.
    """
    if (risk is None) == (coverage is None):
        raise options.rejected("risk", "be given, or 'coverage', and not both", risk)
    for name, value in (("risk", risk), ("coverage", coverage)):
        if value is not None and not 0 <= value <= 1:
            raise options.rejected(name, "be a share from 0 to 1", value)
    sure = confidence(predictions, thresholds, rule)
    ranking = Ranking.of(sure, decisions(predictions, thresholds, rule) != predictions.labels)
    covered, risks = (column[0] for column in _curve(ranking, np.ones((1, len(sure)))))
    shares = covered / len(sure)
    good = np.flatnonzero(risks <= risk) if risk is not None else np.flatnonzero(shares >= coverage)
    if not len(good):
        raise DataError(f"'risk' must be one that some confidence reaches, got {risk}; the least is {risks.min():.3f}")
    at = good[-1] if risk is not None else good[0]
    return Rejection(
        limit=float(sure[ranking.order[ranking.ends[at]]]),
        rule=str(rule),
        risk=float(risks[at]),
        coverage=float(shares[at]),
        num_records=len(sure),
    )
