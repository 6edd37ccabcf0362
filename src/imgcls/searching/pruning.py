"""Whether a trial is hopeless after some of its folds: a paired comparison with the best trial."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

import attrs
import numpy as np

from imgcls.core.options import count, number
from imgcls.evaluation.arrays import Floats
from imgcls.evaluation.intervals import weights
from imgcls.evaluation.metrics import METRICS, measure
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.resampling import units
from imgcls.evaluation.weighted import Cases
from imgcls.training.monitor import monitor_direction

__all__ = ["Finished", "FoldPruning"]


@final
@attrs.frozen(kw_only=True)
class Finished:
    """Folds that a trial finished.

    Attributes:
        folders: Where they are.
        values: The metric of each.
    """

    folders: Sequence[Path]
    values: Sequence[float]


@final
@attrs.frozen(kw_only=True)
class FoldPruning:
    """Stops a trial after a fold when it is worse than the best one beyond doubt.

    Both predicted the same validation records, so they are compared on the same resamples of these: in each, groups
    are drawn with replacement (a paired bootstrap; Efron and Tibshirani 1993, chapter 16), and the differences of the
    metric are averaged over the folds so far. A trial is stopped if it is worse in a share of at least 1 - `alpha`;
    with `min_gain` already if it is not better by so much (a region of practical equivalence; Benavoli et al. 2017),
    which spares the folds of trials that are as good as the best one.
    Metrics that are taken at the best threshold of each epoch (`hter`, `f1`) are compared by a paired t-test over
    folds, so from the second fold on. The test knows nothing of the chance in training itself, and it is made at
    every fold of every trial, so `alpha` is no rate of error of the search.

    Attributes:
        alpha: The smaller, the more trials go on.
        min_gain: The smallest gain that would be worth having, in units of the metric.
        folds: After how many folds a trial may be stopped first.
        resamples: Draws of the bootstrap.
    """

    alpha: float = attrs.field(default=0.05, validator=number(0, 0.5, above=True))
    min_gain: float = attrs.field(default=0.0, validator=number(0))
    folds: int = attrs.field(default=1, validator=count(1))
    resamples: int = attrs.field(default=500, validator=count(50))

    def hopeless(self, trial: Finished, best: Finished, *, monitor: str, seed: int) -> bool:
        """Compare a trial with the best one.

        Args:
            trial: The folds that it finished.
            best: The same folds of the best trial.
            monitor: The metric.
            seed: Of the resamples.

        Returns:
            Whether it should stop.
        """
        if len(trial.folders) < self.folds:
            return False
        sign = 1.0 if monitor_direction(monitor) == "max" else -1.0
        if monitor not in METRICS:
            return self._worse_over_folds(sign * (np.array(trial.values) - np.array(best.values)))
        pairs = enumerate(zip(map(_loaded, trial.folders), map(_loaded, best.folders), strict=True))
        gains = [
            sign * (self._drawn(ours, monitor, seed + fold) - self._drawn(theirs, monitor, seed + fold))
            for fold, (ours, theirs) in pairs
        ]
        gain = np.mean(gains, axis=0)
        gain = gain[~np.isnan(gain)]  # a resample may lack a class
        return len(gain) > 0 and bool(np.mean(gain < self.min_gain) >= 1 - self.alpha)

    def _worse_over_folds(self, gains: Floats) -> bool:
        from scipy.stats import ttest_1samp

        if len(gains) < 2 or np.ptp(gains) == 0:
            return False
        return bool(ttest_1samp(gains, self.min_gain, alternative="less").pvalue <= self.alpha)

    def _drawn(self, predictions: Predictions, monitor: str, seed: int) -> Floats:
        positive = predictions.positive_index
        cases = Cases(labels=predictions.labels, probs=predictions.probs, positive=1 if positive is None else positive)
        owners = units(predictions.groups, len(predictions))
        blocks = weights(owners, resamples=self.resamples, seed=seed)
        return np.concatenate([measure(monitor, cases, weights=block) for block in blocks])


def _loaded(folder: Path) -> Predictions:
    return Predictions.load(folder / "predictions_val.npz")
