"""Reliability: how often what is promised with a probability comes true, as numbers for a curve."""

from __future__ import annotations

import attrs
import numpy as np

from imgcls.core import options
from imgcls.evaluation.arrays import Bools, Floats, Ints
from imgcls.evaluation.intervals import interval
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.weighted import ratio

__all__ = ["Reliability", "reliability"]


@attrs.frozen(kw_only=True, eq=False)
class Reliability:
    """Records in bins of their probability of a class; empty bins are left out.

    Attributes:
        class_name: The class that is promised; empty where it is whichever class is most probable.
        edges: (M + 1,) the ends of all M bins.
        counts: (B,) records in each bin that has any.
        promised: (B,) their mean probability.
        kept: (B,) the share of them for which the promise came true.
        low: (B,) the lower end of its 95 % interval, resampled by group.
        high: (B,) the upper end.
    """

    class_name: str
    edges: Floats
    counts: Ints
    promised: Floats
    kept: Floats
    low: Floats
    high: Floats

    @property
    def error(self) -> float:
        """The mean distance of what is kept from what was promised, over records (ECE of these bins)."""
        return float(np.average(np.abs(self.kept - self.promised), weights=self.counts))


def reliability(
    predictions: Predictions,
    class_name: str | None = None,
    *,
    bins: int = 10,
    quantile: bool = True,
    resamples: int = 1000,
    seed: int = 0,
) -> Reliability:
    """Compute a reliability curve (DeGroot and Fienberg 1983).

    Args:
        predictions: N records.
        class_name: The class that is promised; None takes the positive one of two, and of more the most probable
            class of each record.
        bins: How many.
        quantile: Whether each bin has as many records, as far as their probabilities differ; else bins are as wide.
        resamples: How often groups are drawn for the intervals.
        seed: Of the draws.

    Returns:
        The curve.

    Raises:
        ConfigError: if there is no such class, or a class must be named since records have several labels.
    """
    if bins < 1:
        raise options.rejected("bins", "be a whole number of at least 1", bins)
    name, scores, hits = _promises(predictions, class_name)
    edges = np.quantile(scores, np.linspace(0, 1, bins + 1)) if quantile else np.linspace(0, 1, bins + 1)
    edges = np.unique(edges)
    places = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, max(len(edges) - 2, 0))
    used, places, counts = np.unique(places, return_inverse=True, return_counts=True)
    inside = places[:, None] == np.arange(len(used))
    marks, kept = inside.astype(np.float64), (inside & hits[:, None]).astype(np.float64)
    low, high = interval(
        lambda weights: ratio(weights @ kept, weights @ marks),
        num_records=len(predictions),
        groups=predictions.groups,
        counted=inside,
        resamples=resamples,
        seed=seed,
    )
    promised = (scores @ marks) / counts
    return Reliability(
        class_name=name,
        edges=edges,
        counts=counts,
        promised=promised,
        kept=kept.sum(axis=0) / counts,
        low=low,
        high=high,
    )


def _promises(predictions: Predictions, class_name: str | None) -> tuple[str, Floats, Bools]:
    name = predictions.positive if class_name is None else class_name
    if name is None:
        if predictions.multilabel:
            raise options.rejected("class_name", "be given where records may have several labels", None)
        hits: Bools = predictions.probs.argmax(axis=1) == predictions.labels
        return "", predictions.probs.max(axis=1), hits
    if name not in predictions.classes:
        raise options.rejected("class_name", f"be one of {predictions.classes}", name)
    index = predictions.classes.index(name)
    return name, predictions.probs[:, index], predictions.has(index)
