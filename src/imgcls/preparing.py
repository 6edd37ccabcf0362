"""From a Trainer to what all folds of its run share: folds, images, runtime, model."""

from __future__ import annotations

import contextlib
import contextvars
import copy
import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from imgcls.core import config
from imgcls.core.dumping import dump, spec_of
from imgcls.core.errors import ConfigError, SplitError
from imgcls.data.dataset import Dataset
from imgcls.data.folds import Fold, Folds
from imgcls.data.spec import ImageSpec
from imgcls.evaluation.thresholds import MIN_POSITIVES, Rule
from imgcls.inference.saved import SavedModel
from imgcls.inference.starting import Start
from imgcls.models.base import Classifier
from imgcls.models.freezing import trained
from imgcls.runtime.batches import Batches
from imgcls.runtime.device import Runtime, choose_runtime, measured_once, pick_device
from imgcls.runtime.ranks import Ranks
from imgcls.runtime.sources import Source, open_source, resolved
from imgcls.splitting.kfold import StratifiedGroupKFold, StratifiedKFold
from imgcls.splitting.plan import plan_readable
from imgcls.training.losses import num_outputs
from imgcls.training.planning import Recipe

if TYPE_CHECKING:
    from imgcls.trainer import Trainer

__all__ = ["build", "divide", "kept_models", "prepare"]

#: Metrics that are defined where a class has no record.
_OF_ALL_RECORDS = frozenset({"loss", "accuracy"})

#: How many images the measurement of device and precision uses.
_PROBE = 8

#: Steps that pay for compiling.
_LONG = 2000

#: Bytes of new models that are kept at most.
_KEPT = 2**30


def divide(trainer: Trainer, bad: Collection[int] = ()) -> Folds:
    """Divide the set of a Trainer.

    Args:
        trainer: The Trainer.
        bad: Positions of records that cannot be read.

    Returns:
        The folds.

    Raises:
        SplitError: if the set cannot be divided so, or a class has no record to validate though
            thresholds or the monitored metric need it, or `init_from` knows records that a fold holds back.
        WeightsError: if `init_from` has no weights for the set.
    """
    data = trainer.data
    splitter = trainer.splitter or (StratifiedKFold() if data.groups is None else StratifiedGroupKFold())
    folds = plan_readable(data, bad, splitter, test=trainer.test, seed=trainer.seed)
    if trainer.fold_seeds is not None and len(trainer.fold_seeds) != len(folds):
        raise ConfigError(f"'fold_seeds' must be {len(folds)}, one a fold, got {len(trainer.fold_seeds)}")
    if data.multilabel:
        _refuse_unlike(folds, data)
    elif data.positive is not None or trainer.monitored not in _OF_ALL_RECORDS:
        _refuse_blind(folds, data)
    if trainer.rule is not None and not data.multilabel:
        _refuse_few(folds, data, trainer.rule)
    if trainer.init_from is not None:
        Start.over(Path(trainer.init_from)).check(data, folds)
    return folds


# A threshold that rests on a handful of records would decide by chance.
def _refuse_few(folds: Folds, data: Dataset, rule: Rule) -> None:
    validated = np.unique(np.concatenate([fold.val for fold in folds]))
    counts = np.bincount(data.labels[validated], minlength=len(data.classes))
    if rule.kind != "fixed" and not rule.force and counts.min() < MIN_POSITIVES:
        other = "leave 'decision' out" if data.positive is None else "decide by a number, such as decision=0.5"
        raise SplitError(
            f"all folds together must validate on at least {MIN_POSITIVES} records of each class to fit the threshold "
            f"of {rule.name!r}, got {counts.min()} of {data.classes[int(counts.argmin())]!r}; {other}, or force it by "
            "{'name': ..., 'force': True}"
        )


# Checkpoint and thresholds are chosen on validation records; without both classes that would fail after the training.
def _refuse_blind(folds: Folds, data: Dataset) -> None:
    for number, fold in enumerate(folds):
        missing = set(range(len(data.classes))) - set(data.labels[fold.val].tolist())
        if missing:
            raise SplitError(
                f"fold {number} must validate on every class, got none of {data.classes[missing.pop()]!r}; use fewer "
                "folds, a larger 'val', another seed, or name other validation records"
            )


# Rare labels may be absent from some validation records, but not all labels.
def _refuse_unlike(folds: Folds, data: Dataset) -> None:
    for number, fold in enumerate(folds):
        shares = data.labels[fold.val].mean(axis=0)
        if not ((shares > 0) & (shares < 1)).any():
            raise SplitError(
                f"fold {number} must validate on records with and without some label, got none for which there are "
                "both; use fewer folds, a larger 'val', another seed, or name other validation records"
            )


def prepare(trainer: Trainer, *, num_folds: int, ranks: Ranks, runtime: Runtime | None) -> tuple[Recipe, SavedModel]:
    """Do everything that can fail for want of weights, memory or readable images.

    Args:
        trainer: The Trainer.
        num_folds: How many folds will train.
        ranks: Which process this is.
        runtime: Where training runs, if that is known; None measures.

    Returns:
        What the folds share, and the description of their models.
    """
    probe = build(trainer, trainer.seed)
    for number, stage in enumerate(trainer.stages):
        with config.at(f"stages.{number}"):
            trained(probe, stage.train)  # blocks and patterns are those of the network
    _refuse_single(trainer, probe)
    own = attrs.evolve(trainer.image, mean=probe.facts.mean, std=probe.facts.std)
    spec = trainer.image if trainer.image.mean is not None else own
    source = _open(trainer, trainer.data, spec)
    if runtime is None:
        runtime = ranks.told(_measured(trainer, probe, source, spec))
    runtime = attrs.evolve(runtime, device=pick_device(trainer.device))  # each process and each machine has its own
    recipe = _recipe(trainer, source, spec, runtime=runtime, ranks=ranks, num_folds=num_folds)
    return attrs.evolve(recipe, unmatched=probe.facts.unmatched, start=_start(trainer)), _model(trainer, spec)


def _refuse_single(trainer: Trainer, probe: Classifier) -> None:
    norms = [name for name, module in probe.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if trainer.batch_size == 1 and norms and any(stage.train != "head" for stage in trainer.stages):
        raise ConfigError(
            f"'batch_size' must be at least 2 for a network with batch norm, such as in {norms[0]!r}, got 1; a single "
            "record has no deviation"
        )


def _start(trainer: Trainer) -> Callable[[Classifier, Fold, int], None]:
    if trainer.init_from is None:
        return lambda _model, _fold, _number: None
    start = Start.over(Path(trainer.init_from))
    return lambda model, fold, number: start.load(model, trainer.data, fold, number)


def build(trainer: Trainer, seed: int) -> Classifier:
    """Make a model.

    Args:
        trainer: The Trainer.
        seed: The seed of its random weights.

    Returns:
        The model, on the CPU.
    """
    models = _models.get()
    if models is None:
        return _built(trainer, seed)
    image = trainer.image
    facts = [dump(trainer.backbone), dump(trainer.head), _num_outputs(trainer), image.channels, image.size, seed]
    key = json.dumps(facts)
    if "opaque" in key:  # what no file describes may be another one each time
        return _built(trainer, seed)
    if key not in models:
        models.keep(key, _built(trainer, seed))
    return copy.deepcopy(models[key])


def _built(trainer: Trainer, seed: int) -> Classifier:
    return trainer.backbone.build(
        _num_outputs(trainer),
        in_channels=trainer.image.channels,
        image_size=trainer.image.size,
        head=trainer.head,
        seed=seed,
    )


class _Models(dict[str, Classifier]):
    """New models, the latest of them, as many as fit."""

    def keep(self, key: str, model: Classifier) -> None:
        self[key] = model
        while len(self) > 1 and sum(map(_size, self.values())) > _KEPT:
            del self[next(iter(self))]


def _size(model: Classifier) -> int:
    return sum(value.nbytes for value in model.state_dict().values())


#: New models by what they are made of; None where none are kept.
_models: contextvars.ContextVar[_Models | None] = contextvars.ContextVar("_models", default=None)


@contextlib.contextmanager
def kept_models() -> Iterator[None]:
    """Keep the models that the block makes, so that one that is asked for again is copied, which is much faster.

    Yields:
        Nothing; a block inside of another one shares its models.
    """
    token = _models.set(_Models() if (before := _models.get()) is None else before)
    try:
        yield
    finally:
        _models.reset(token)


def _num_outputs(trainer: Trainer) -> int:
    data, loss = trainer.data, trainer.full_stages[-1].balancer.loss
    return num_outputs(loss, len(data.classes), multilabel=data.multilabel)


def _open(trainer: Trainer, data: Dataset, spec: ImageSpec, view: str | None = None) -> Source:
    workers = None if isinstance(trainer.workers, str) else trainer.workers
    return open_source(data, spec, view=view, mode=trainer.store, on_bad=trainer.on_bad, workers=workers)


def _measured(trainer: Trainer, probe: Classifier, source: Source, spec: ImageSpec) -> Runtime:
    steps = sum(stage.epochs for stage in trainer.stages) * len(trainer.data) // trainer.batch_size
    wanted = trainer.compile if trainer.compile != "auto" or steps >= _LONG else False

    def measure() -> Runtime:
        images = _some_images(trainer, source, spec)
        return choose_runtime(probe, images, device=trainer.device, precision=trainer.precision, compiled=wanted)

    kind = torch.device(pick_device(trainer.device)).type
    key = json.dumps([dump(trainer.backbone), spec.channels, spec.size, kind, trainer.precision, wanted])
    if trainer.precision != "auto" or "opaque" in key:  # what no file describes may be another one each time
        return measure()
    return attrs.evolve(measured_once(key, measure), threads=torch.get_num_threads())


def _some_images(trainer: Trainer, source: Source, spec: ImageSpec) -> Tensor:
    seen = np.setdiff1d(np.arange(len(trainer.data)), list(source.bad))[: min(_PROBE, trainer.batch_size)]
    first = Runtime(device=pick_device(trainer.device))
    return Batches.over(source, first, spec=resolved(spec, source, seen)).images(seen).cpu()


def _recipe(
    trainer: Trainer, source: Source, spec: ImageSpec, *, runtime: Runtime, ranks: Ranks, num_folds: int
) -> Recipe:
    source = source.to(runtime.device)
    sizes = {full.stage.size for full in trainer.full_stages}
    return Recipe(
        dataset=trainer.data,
        source=source,
        train_sources={size: _train_source(trainer, source, spec, size) for size in sizes},
        test=_tested(trainer, spec, runtime),
        spec=spec,
        runtime=runtime,
        ranks=ranks,
        build=lambda seed: build(trainer, seed),
        stages=trainer.full_stages,
        monitor=trainer.monitored,
        early_stopping=trainer.early_stopping,
        batch_size=trainer.batch_size,
        parts=trainer.accumulate,
        clip_grad=trainer.clip_grad,
        ema=trainer.ema,
        average=trainer.average,
        nonfinite=trainer.nonfinite,
        validate_every=trainer.validate_every,
        checkpoint_every=trainer.checkpoint_every,
        snapshots=trainer.snapshots,
        limit=2 if trainer.fast_run else trainer.overfit or trainer.limit,
        overfit=trainer.overfit is not None,
        seconds=None if trainer.max_time is None else trainer.max_time / num_folds,
        seed=trainer.seed,
        fold_seeds=trainer.fold_seeds,
        callbacks=trainer.callbacks,
        caches=trainer.cache_features,
        profile=trainer.profile,
    )


def _train_source(trainer: Trainer, source: Source, spec: ImageSpec, size: tuple[int, int] | None) -> Source:
    if size is None and trainer.train_view is None:
        return source
    return _open(trainer, trainer.data, spec if size is None else attrs.evolve(spec, size=size), trainer.train_view)


# Which class is positive is said by the set that trains, not by the numbers of the test set.
def _tested(trainer: Trainer, spec: ImageSpec, runtime: Runtime) -> tuple[Dataset, Source] | None:
    if not isinstance(trainer.test, Dataset):
        return None
    test = attrs.evolve(trainer.test, positive=trainer.data.positive)
    return test, _open(trainer, test, spec).to(runtime.device)


def _model(trainer: Trainer, spec: ImageSpec) -> SavedModel:
    return SavedModel(
        backbone=spec_of(trainer.backbone),
        head=trainer.head,
        image=spec,
        num_outputs=_num_outputs(trainer),
        classes=trainer.data.classes,
        positive=trainer.data.positive,
        decision="" if trainer.rule is None else trainer.rule.name,
        multilabel=trainer.data.multilabel,
    )
