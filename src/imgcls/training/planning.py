"""From what all folds share to the training of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imgcls.balancing.account import account, times_drawn
from imgcls.balancing.balancer import Balancer
from imgcls.balancing.base import Records
from imgcls.balancing.priors import prior_shift
from imgcls.core.errors import ConfigError
from imgcls.core.randomness import derive_seed
from imgcls.data.dataset import Dataset
from imgcls.data.folds import Fold
from imgcls.data.spec import ImageSpec
from imgcls.models.base import Classifier
from imgcls.runtime.batches import Batches
from imgcls.runtime.device import Runtime
from imgcls.runtime.ranks import Ranks
from imgcls.runtime.sources import Source, resolved
from imgcls.training.averaging import Ema
from imgcls.training.criterion import Criterion
from imgcls.training.events import EpochEnd, StepEnd
from imgcls.training.image_feed import ImageFeed
from imgcls.training.job import Job, Phase
from imgcls.training.losses import num_outputs
from imgcls.training.stages import EarlyStopping, FullStage, NonFinite, Snapshots

__all__ = ["Recipe", "plan_job", "records_of"]

#: So many epochs tell what share of the draws each class has.
_COUNTED = 10


@attrs.frozen(kw_only=True, eq=False)
class Recipe:
    """What all folds of a run share.

    Attributes:
        dataset: The set.
        source: Its images.
        train_sources: The images of training steps by the size that a stage names: those, another
            view of the records, or smaller ones.
        test: A test set outside of it with its images, or None.
        spec: The form of the images.
        runtime: Where they go.
        ranks: Which process this is.
        build: Makes the model of a fold from a seed.
        stages: The stages, with everything that the Trainer gives them.
        monitor: The metric that chooses the checkpoint.
        early_stopping: When a stage ends early, or None.
        batch_size: Records a step.
        parts: In how many parts a batch goes through the network.
        clip_grad: The largest norm of the gradient, or None.
        ema: The average of weights that is kept, or None.
        average: How many of the best checkpoints are averaged at most.
        nonfinite: What is done about a loss that is not finite.
        validate_every: Steps between validations within an epoch, or None.
        checkpoint_every: Steps between checkpoints within an epoch, or None.
        snapshots: Which epochs' weights are kept, or None.
        limit: Steps an epoch at most, or None.
        overfit: Whether each epoch trains on the records of the first, to learn them by heart.
        seconds: How long the training of a fold may take, or None.
        seed: The seed of the run.
        fold_seeds: The seed of each fold instead, or None.
        callbacks: Called with each event.
        watch: Called with each event too, in all processes that train together; an error ends training in all of them.
        caches: Whether features of frozen layers are computed once.
        start: Gives a new model the weights of an earlier run, for a fold with its number.
        unmatched: What of given weights did not fit.
        profile: Whether some steps of the first fold are measured.
        final: After how many epochs training ends and keeps what it has, or None where validation chooses.
    """

    dataset: Dataset
    source: Source
    train_sources: Mapping[tuple[int, int] | None, Source]
    test: tuple[Dataset, Source] | None
    spec: ImageSpec
    runtime: Runtime
    ranks: Ranks
    build: Callable[[int], Classifier]
    stages: tuple[FullStage, ...]
    monitor: str
    early_stopping: EarlyStopping | None
    batch_size: int
    parts: int
    clip_grad: float | None
    ema: Ema | None
    average: int
    nonfinite: NonFinite
    validate_every: int | None
    checkpoint_every: int | None
    snapshots: Snapshots | None
    limit: int | None
    seconds: float | None
    seed: int
    fold_seeds: tuple[int, ...] | None
    callbacks: tuple[Callable[[StepEnd | EpochEnd], Any], ...]
    watch: Callable[[StepEnd | EpochEnd], Any] = lambda _: None
    caches: bool = True
    start: Callable[[Classifier, Fold, int], None] = lambda _, __, ___: None
    unmatched: Any = None
    profile: bool = False
    final: int | None = None
    overfit: bool = False

    @property
    def bad(self) -> Mapping[int, str]:
        """Why records of the set cannot be read, by position."""
        found: dict[int, str] = {}
        for source in self.train_sources.values():
            found |= source.bad
        return {**found, **self.source.bad}

    def seed_of(self, fold: int) -> int:
        """Give the seed of a fold.

        Args:
            fold: Its number.

        Returns:
            The seed.
        """
        return derive_seed(self.seed, "fold", fold) if self.fold_seeds is None else self.fold_seeds[fold]


def plan_job(recipe: Recipe, fold: Fold, number: int, folder: Path) -> Job:
    """Decide everything about the training of a fold.

    Args:
        recipe: What all folds share.
        fold: Its records.
        number: Which fold, from 0.
        folder: The fold's folder.

    Returns:
        The job.
    """
    data = recipe.dataset
    seen = resolved(recipe.spec, recipe.train_sources[recipe.stages[-1].stage.size], fold.train)
    batches = Batches.over(recipe.source, recipe.runtime, spec=seen)
    seed = recipe.seed_of(number)
    mean, std = seen.statistics or ((), ())
    return Job(
        fold=number,
        batches=batches,
        phases=tuple(_phase(recipe, index, fold, batches, seed) for index in range(len(recipe.stages))),
        val=fold.val,
        targets=data.labels,
        ids=data.ids,
        runtime=recipe.runtime,
        ranks=recipe.ranks,
        monitor=recipe.monitor,
        positive=None if data.positive is None else data.classes.index(data.positive),
        early_stopping=recipe.early_stopping,
        validate_every=recipe.validate_every,
        parts=recipe.parts,
        clip_grad=recipe.clip_grad,
        ema=recipe.ema,
        average=recipe.average,
        nonfinite=recipe.nonfinite,
        checkpoint_every=recipe.checkpoint_every,
        snapshots=recipe.snapshots,
        seconds=recipe.seconds,
        final=recipe.final,
        seed=seed,
        folder=folder / "checkpoints",
        facts={"mean": list(mean), "std": list(std)},
    )


def _phase(recipe: Recipe, index: int, fold: Fold, seen: Batches, seed: int) -> Phase:
    data, full = recipe.dataset, recipe.stages[index]
    records = records_of(data, fold.train)
    draws = _draws(recipe, index, records, seed)
    done, shift = _account(recipe, full.balancer, records, draws, fold)
    return Phase(
        stage=full.stage,
        feed=_feed(recipe, full, seen, seed),
        train=fold.train,
        records=records,
        sampler=full.balancer.sampler,
        criterion=_criterion(recipe, full.balancer, records, fold, times_drawn(records, draws)),
        optimizer=full.optimizer,
        schedule=full.schedule,
        batch_size=recipe.batch_size,
        limit=recipe.limit,
        repeats=recipe.overfit,
        seed=seed,
        shift=None if shift is None else torch.tensor(shift, dtype=torch.float32),
        account=done,
    )


def _draws(recipe: Recipe, index: int, records: Records, seed: int) -> list[NDArray[np.int64]]:
    first = sum(full.stage.epochs for full in recipe.stages[:index])
    full = recipe.stages[index]
    return [
        full.balancer.sampler.draw(records, batch_size=recipe.batch_size, epoch=first + number, seed=seed)
        for number in range(min(full.stage.epochs, _COUNTED))
    ]


# What the balancer does to the shares of the classes, by the draws that its epochs are planned to have.
def _account(
    recipe: Recipe, balancer: Balancer, records: Records, draws: Sequence[NDArray[np.int64]], fold: Fold
) -> tuple[dict[str, Any], NDArray[np.float64] | None]:
    weights = recipe.dataset.weights
    own = None if weights is None else weights[fold.train]
    done = account(balancer, records, draws, record_weights=own)
    if not balancer.correct_priors:
        return done, None
    return done, prior_shift(balancer, records, times_drawn(records, draws), record_weights=own)


def records_of(data: Dataset, positions: NDArray[np.int64]) -> Records:
    """Say what samplers may know of records.

    Args:
        data: The set.
        positions: Which records, (N,).

    Returns:
        The records.
    """
    groups = None if data.groups is None else data.groups[positions]
    return Records(labels=data.labels[positions], groups=groups, num_classes=len(data.classes), classes=data.classes)


def _feed(recipe: Recipe, full: FullStage, seen: Batches, seed: int) -> ImageFeed:
    data, source = recipe.dataset, recipe.train_sources[full.stage.size]
    spec = attrs.evolve(source.spec, mean=seen.spec.mean, std=seen.spec.std)
    return ImageFeed(
        batches=Batches.over(source, recipe.runtime, spec=spec),
        seen=seen,
        targets=data.labels,
        num_classes=len(data.classes),
        augmenter=full.augmenter(data.classes, multilabel=data.multilabel),
        ranks=recipe.ranks,
        seed=seed,
        view_seed=derive_seed(recipe.seed, "views"),
        views=full.stage.views,
        caches=recipe.caches,
    )


def _criterion(recipe: Recipe, balancer: Balancer, records: Records, fold: Fold, times: NDArray[np.int64]) -> Criterion:
    data, device = recipe.dataset, recipe.runtime.device

    def moved(values: NDArray[np.float64] | None) -> Tensor | None:
        return None if values is None else torch.tensor(values, dtype=torch.float32, device=device)

    found = Criterion(
        loss=balancer.loss,
        class_weights=moved(balancer.weights(records.labels, data.classes)),
        record_weights=moved(data.weights),
        log_priors=moved(balancer.log_priors(records.labels, data.classes)),
        pos_weight=moved(balancer.pos_weights(records.labels, data.classes)),
    )
    if found.class_weights is None and found.record_weights is None:
        return found
    outputs = num_outputs(balancer.loss, len(data.classes), multilabel=data.multilabel)
    logits = torch.zeros(len(fold.train), outputs, device=device)
    _, weights = found.terms(logits, torch.from_numpy(records.labels).to(device), fold.train)
    mean = float(np.average(weights.double().cpu().numpy(), weights=times))
    if not mean:
        raise ConfigError(
            "'class_weights' must be above 0 for some training record of each fold, got 0 for all of them"
        )
    return attrs.evolve(found, mean_weight=mean)
