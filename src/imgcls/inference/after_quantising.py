"""What is fitted anew to what a quantised model says: thresholds, prediction sets, abstention, the limit of a guard."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from imgcls.core import options
from imgcls.evaluation.conformal import Conformal
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.rejecting import Rejection
from imgcls.evaluation.results import thresholds_of
from imgcls.evaluation.thresholds import Threshold
from imgcls.inference.caution import Promises
from imgcls.inference.explaining import Subject
from imgcls.inference.guarding import Guard
from imgcls.inference.quantising import Pair

__all__ = ["Refit", "Refitted", "limited", "refitted"]


@attrs.frozen(kw_only=True, eq=False)
class Refit:
    """How a quantised model is fitted and judged.

    Attributes:
        trials: Records of splits that no model trained on; the first are validation records, to which all is fitted.
        prior: (K,) how frequent the classes are in the population, where the run knows, or None.
        crossed: Whether the thresholds of folds are fitted to the other folds, as in a run that reports validation.
        promises: Prediction sets and abstention as they were asked for.
    """

    trials: Sequence[Subject]
    prior: Sequence[float] | None = None
    crossed: bool = False
    promises: Promises = attrs.field(factory=Promises)

    def __attrs_post_init__(self) -> None:
        if self.promises.fitted:
            rule = "be left out with fitted 'sets' or 'reject', which know other probabilities"
            raise options.rejected("int8", rule, True, "give numbers, such as sets=0.1 and reject={'coverage': 0.9}")


@attrs.frozen(kw_only=True, eq=False)
class Refitted:
    """What was fitted.

    Attributes:
        thresholds: Of each fold and of their mean.
        sets: How prediction sets are made, or None.
        reject: When the model abstains, or None.
    """

    thresholds: Sequence[Threshold]
    sets: Conformal | None
    reject: Rejection | None


def refitted(val: Predictions, refit: Refit, known: Sequence[Threshold]) -> Refitted:
    """Fit to what a quantised model says of validation records.

    Args:
        val: It says it.
        refit: How.
        known: The thresholds before, whose rules are fitted.

    Returns:
        What was fitted.
    """
    parts = [val.take(val.fold == number) for number in np.unique(val.fold)]
    rules = list(dict.fromkeys(one.rule for one in known))
    thresholds = thresholds_of(parts, rules, prior=refit.prior, crossed=refit.crossed)
    single = known and known[0].model != "mean"
    found = refit.promises.fit(
        lambda: val if single else val.mean_of_repeats(), thresholds, refit.trials[0].saved.decision
    )
    return Refitted(thresholds=thresholds, sets=found.sets, reject=found.reject)


def limited(guard: Guard, pair: Pair, folds: Sequence[int]) -> Guard:
    """Fit the limit of a guard anew.

    Args:
        guard: What the models of the folds know.
        pair: The embeddings of validation records after quantisation.
        folds: The folds whose models these are.

    Returns:
        The guard of the quantised model.
    """
    pairs = zip(guard.folds, folds, strict=True)
    return attrs.evolve(guard, folds=[one.limited(pair.features[pair.after.fold == number]) for one, number in pairs])
