"""Everything that the training of one fold needs beside the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imgcls.balancing.base import Records, Sampler
from imgcls.models.base import Classifier
from imgcls.models.blocks import param_depths
from imgcls.runtime.batches import Batches, chunks
from imgcls.runtime.device import Runtime
from imgcls.runtime.ranks import Ranks
from imgcls.training.averaging import Ema
from imgcls.training.criterion import Criterion
from imgcls.training.feeding import Feed
from imgcls.training.optimizers import Optimizer
from imgcls.training.schedules import Course, Schedule
from imgcls.training.stages import EarlyStopping, NonFinite, Snapshots, Stage

__all__ = ["Job", "Phase"]


@attrs.frozen(kw_only=True, eq=False)
class Phase:
    """A stage with everything decided for one fold.

    Attributes:
        stage: The stage.
        feed: Its images.
        train: Positions that train, (N,).
        records: What the sampler may know of them.
        sampler: Draws the records of an epoch.
        criterion: What is minimised.
        optimizer: Its optimizer.
        schedule: Its learning rates.
        batch_size: Records a step.
        limit: Steps an epoch at most, or None.
        repeats: Whether each epoch has the batches of the first.
        seed: The seed of the fold.
        shift: What is added to the logits outside of training, (K,), or None.
        account: What is done about imbalance, as plain values.
    """

    stage: Stage
    feed: Feed
    train: NDArray[np.int64]
    records: Records
    sampler: Sampler
    criterion: Criterion
    optimizer: Optimizer
    schedule: Schedule
    batch_size: int
    limit: int | None
    repeats: bool
    seed: int
    shift: Tensor | None
    account: dict[str, Any]

    def draws(self, epoch: int) -> list[NDArray[np.int64]]:
        """Draw the batches of an epoch.

        Args:
            epoch: Which epoch, from 0 over all stages.

        Returns:
            Positions in the set, an array a step.
        """
        source = 0 if self.repeats else epoch
        drawn = self.sampler.draw(self.records, batch_size=self.batch_size, epoch=source, seed=self.seed)
        return list(chunks(self.train[drawn], self.batch_size))[: self.limit]

    def steps(self, first: int) -> int:
        """Count the steps of the whole stage.

        Args:
            first: Its first epoch, from 0 over all stages.

        Returns:
            The optimizer steps.
        """
        return sum(len(self.draws(first + number)) for number in range(self.stage.epochs))

    def optimizer_over(self, model: Classifier, *, lr: float) -> torch.optim.Optimizer:
        """Make the optimizer of the stage.

        Args:
            model: The model, of which some parameters train.
            lr: The highest learning rate.

        Returns:
            The optimizer.
        """
        return self.optimizer.over(
            model,
            lr=lr,
            weight_decay=self.stage.weight_decay,
            layer_decay=self.stage.layer_decay,
            lr_scale=self.stage.lr_scale,
            depths=None if self.stage.layer_decay is None else param_depths(model),
        )

    def course_over(self, optimizer: torch.optim.Optimizer, first: int) -> Course:
        """Make the learning rates of the stage.

        Args:
            optimizer: Its optimizer.
            first: The first epoch of the stage.

        Returns:
            The course, at its beginning.
        """
        steps = self.steps(first)
        each = max(steps // self.stage.epochs, 1)
        return self.schedule.over(optimizer, steps=steps, steps_per_epoch=each, warmup=self.stage.warmup or 0)


@attrs.frozen(kw_only=True, eq=False)
class Job:
    """The training of one fold.

    Attributes:
        fold: Which fold, from 0.
        batches: The images of validation and test.
        phases: The stages, one after the other.
        val: Positions that validate.
        targets: Class index of each record of the set, (N,).
        ids: What names each record, for messages, (N,).
        runtime: Where it runs.
        ranks: Which process this is.
        monitor: The metric that chooses the checkpoint.
        positive: The positive class of two, or None.
        early_stopping: When a stage ends early, or None.
        validate_every: Steps between validations within an epoch, or None.
        parts: In how many parts a batch goes through the network.
        clip_grad: The largest norm of the gradient, or None.
        ema: The average of weights that is validated and kept, or None.
        average: How many of the best checkpoints are averaged at most; 1 keeps the best alone.
        nonfinite: What is done about a loss that is not finite.
        checkpoint_every: Steps between checkpoints within an epoch, or None.
        snapshots: Which epochs' weights are kept beside best and last, or None.
        seconds: How long training may take, or None.
        final: After how many epochs training ends and keeps what it has, or None where validation chooses.
        seed: The seed of the fold.
        folder: Where the checkpoints go.
        facts: What else a checkpoint says of the model, such as how images are normalised.
    """

    fold: int
    batches: Batches
    phases: tuple[Phase, ...]
    val: NDArray[np.int64]
    targets: NDArray[np.int64]
    ids: NDArray[np.str_]
    runtime: Runtime
    ranks: Ranks
    monitor: str
    positive: int | None
    early_stopping: EarlyStopping | None
    validate_every: int | None
    parts: int
    clip_grad: float | None
    ema: Ema | None
    average: int
    nonfinite: NonFinite
    checkpoint_every: int | None
    snapshots: Snapshots | None
    seconds: float | None
    final: int | None
    seed: int
    folder: Path
    facts: dict[str, Any]
