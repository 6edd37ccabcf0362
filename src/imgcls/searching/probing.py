"""How far each of several backbones comes as it is: linear models of its features, judged out of fold."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import SplitError
from imgcls.core.randomness import derive_seed
from imgcls.core.spacing import evenly
from imgcls.data.dataset import Dataset
from imgcls.data.folds import Folds
from imgcls.evaluation.baselines import linear_probe
from imgcls.evaluation.intervals import percentiles, resampled
from imgcls.evaluation.metrics import METRICS, measure
from imgcls.evaluation.resampling import units
from imgcls.evaluation.weighted import Cases
from imgcls.models.base import Classifier
from imgcls.preparing import divide, prepare
from imgcls.runtime.batches import Batches, forward
from imgcls.runtime.features import features_of
from imgcls.runtime.ranks import Ranks
from imgcls.runtime.sources import resolved
from imgcls.splitting.kfold import StratifiedGroupKFold
from imgcls.splitting.plan import plan_folds
from imgcls.trainer import Trainer
from imgcls.training.planning import Recipe

__all__ = ["Candidate", "Probe", "Score", "opened", "probed", "scored"]

#: Records at a time, those that are timed, and those that warm up.
_BATCH, _TIMED, _WARM = 64, 64, 8

#: Records that a linear model is fitted to at most, evenly spaced.
_FITTED = 10_000

#: Folds that are tried, one number after the other.
_NUMBERS = (5, 3, 2)

_RESAMPLES = 1000


@attrs.frozen(kw_only=True, eq=False)
class Candidate:
    """A backbone that is ready to look at images.

    Attributes:
        trainer: The Trainer with it.
        recipe: What its training would share.
        records: Positions of the records outside of test, (N,).
        model: The model, on the device.
        batches: The images.
        image_seconds: How long one image takes through the network, without gradients.
    """

    trainer: Trainer
    recipe: Recipe
    records: NDArray[np.int64]
    model: Classifier
    batches: Batches
    image_seconds: float

    @property
    def seconds(self) -> float:
        """How long the features of all records should take."""
        return self.image_seconds * len(self.records)


@attrs.frozen(kw_only=True, eq=False)
class Probe:
    """What linear models of a backbone's features say of records that they were not fitted to.

    Attributes:
        records: Positions of the records outside of test, (N,).
        probs: (N, K) of them.
        cached: Whether the features are kept, so that a head trains without the network.
        precision: In which the network computed.
        image_seconds: How long one image took.
        seconds: How long everything took.
    """

    records: NDArray[np.int64]
    probs: NDArray[np.float64]
    cached: bool
    precision: str
    image_seconds: float
    seconds: float


@attrs.frozen(kw_only=True)
class Score:
    """A number with the ends of its 95 % interval, and its distance to the best one.

    Attributes:
        value: The number.
        low: The low end.
        high: The high end.
        behind: How much better the best one is, on the same resamples.
        behind_low: The low end of that.
        behind_high: The high end.
    """

    value: float
    low: float
    high: float
    behind: float
    behind_low: float
    behind_high: float


def opened(trainer: Trainer) -> Candidate:
    """Make everything ready and time some images.

    Args:
        trainer: The Trainer.

    Returns:
        The candidate.
    """
    recipe, _ = prepare(trainer, num_folds=1, ranks=Ranks(), runtime=None)
    folds = divide(trainer, recipe.bad)
    records = np.unique(np.concatenate([part for fold in folds for part in (fold.train, fold.val)]))
    # As in the training of the first fold, whose head then finds the same features.
    model: Any = recipe.runtime.place(recipe.build(derive_seed(recipe.seed_of(0), "weights")))
    spec = resolved(recipe.spec, recipe.source, folds[0].train)
    batches = Batches.over(recipe.source, recipe.runtime, spec=spec)
    forward(model.body, batches, records[:_WARM], batch_size=_WARM)
    started, some = time.perf_counter(), records[:_TIMED]
    forward(model.body, batches, some, batch_size=_BATCH).cpu()
    each = (time.perf_counter() - started) / len(some)
    return Candidate(trainer=trainer, recipe=recipe, records=records, model=model, batches=batches, image_seconds=each)


def probed(candidate: Candidate) -> Probe:
    """Fit linear models to the features of the records outside of test, in folds with whole groups.

    Args:
        candidate: The backbone.

    Returns:
        What each record was given by the model that it had no part in.
    """
    started = time.perf_counter()
    body, batches, records = candidate.model.body, candidate.batches, candidate.records
    kept = features_of(body, batches, records) if candidate.trainer.cache_features else None
    found = forward(body, batches, records, batch_size=_BATCH) if kept is None else kept.of(records)
    each = (time.perf_counter() - started) / len(records)
    features = found.cpu().numpy().astype(np.float64)
    return Probe(
        records=records,
        probs=_out_of_fold(candidate.trainer, candidate.trainer.data.subset(records), features),
        cached=kept is not None,
        precision=candidate.recipe.runtime.precision,
        image_seconds=max(each, candidate.image_seconds),  # features that were there already took no time
        seconds=time.perf_counter() - started,
    )


def _out_of_fold(trainer: Trainer, data: Dataset, features: NDArray[np.float64]) -> NDArray[np.float64]:
    probs = np.zeros((len(data), len(data.classes)))
    for fold in _folds(data, trainer.seed):
        train = fold.train[evenly(len(fold.train), _FITTED)]
        said = linear_probe(features[train], data.labels[train], features[fold.val], num_classes=len(data.classes))
        probs[fold.val] = said
    return probs


# As many as the rarest class has groups for.
def _folds(data: Dataset, seed: int) -> Folds:
    for number in _NUMBERS:
        splitter = StratifiedGroupKFold(k=number, report="val")
        try:
            return plan_folds(data, splitter, test=None, seed=seed)
        except SplitError:
            if number == _NUMBERS[-1]:
                raise
    raise AssertionError


def scored(trainer: Trainer, probes: Sequence[Probe]) -> tuple[str, list[Score]]:
    """Compare probes on the same resamples of groups.

    Args:
        trainer: Has the set, and names the metric.
        probes: What was said of the same records.

    Returns:
        The metric, and the score of each probe.
    """
    # `hter` and `f1` at the best threshold of each resample would flatter.
    data = trainer.data.subset(probes[0].records)
    metric = trainer.monitored if trainer.monitored in METRICS else "roc_auc"
    positive = 1 if data.positive is None else data.classes.index(data.positive)
    cases = [Cases(labels=data.labels, probs=probe.probs, positive=positive) for probe in probes]

    def values(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack([measure(metric, one, weights=weights) for one in cases], axis=1)

    found, sign = values(np.ones((1, len(data))))[0], 1.0 if METRICS[metric].direction == "max" else -1.0
    best = int(np.argmax(sign * found))
    drawn = resampled(values, units(data.groups, len(data)), resamples=_RESAMPLES, seed=trainer.seed)
    low, high = percentiles(drawn)
    behind, ends = sign * (found[best] - found), percentiles(sign * (drawn[:, [best]] - drawn))
    columns = [column.tolist() for column in (found, low, high, behind, *ends)]
    names = [field.name for field in attrs.fields(Score)]
    return metric, [Score(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]
