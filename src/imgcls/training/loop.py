"""The training loop: epochs of steps, the best checkpoint kept on disk and put back at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imgcls.balancing.base import Records, Sampler
from imgcls.core.errors import TrainingError
from imgcls.core.randomness import derive_seed
from imgcls.models.base import Classifier
from imgcls.runtime.batches import Batches, chunks, forward
from imgcls.runtime.checkpoints import load_checkpoint, save_checkpoint
from imgcls.training.losses import training_loss
from imgcls.training.monitor import epoch_metrics, monitor_direction
from imgcls.training.optim import Optimizer, Schedule
from imgcls.training.stages import EarlyStopping, Stage

__all__ = ["EpochEnd", "Job", "fit"]


@attrs.frozen(kw_only=True, eq=False)
class Job:
    """Everything that the training of one fold needs beside the model.

    Attributes:
        batches: The images.
        targets: Class index of each record of the set, (N,).
        train: Positions that train.
        val: Positions that validate.
        records: What the sampler may know of the training records.
        sampler: Draws the records of an epoch.
        loss: The training loss.
        class_weights: Its class weights (K,), or None.
        stages: One after the other.
        optimizer: Where a stage names none.
        schedule: Where a stage names none.
        monitor: The metric that chooses the checkpoint.
        early_stopping: When a stage ends early, or None.
        batch_size: Records a step.
        positive: The positive class of two, or None.
        seed: The seed of the fold.
        folder: Where the checkpoint goes.
        ids: What names each record, for messages, (N,).
        train_batches: The images of training steps, where they are another view.
        weights: Weight of each record in the training loss, (N,), or None.
    """

    batches: Batches
    targets: NDArray[np.int64]
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    records: Records
    sampler: Sampler
    loss: str
    class_weights: Tensor | None
    stages: tuple[Stage, ...]
    optimizer: Optimizer
    schedule: Schedule
    monitor: str
    early_stopping: EarlyStopping | None
    batch_size: int
    positive: int | None
    seed: int
    folder: Path
    ids: NDArray[np.str_]
    train_batches: Batches | None = None
    weights: Tensor | None = None

    def draws(self, epoch: int) -> list[NDArray[np.int64]]:
        """Draw the batches of an epoch.

        Args:
            epoch: Which epoch, from 0 over all stages.

        Returns:
            Positions in the set, an array a step.
        """
        drawn = self.sampler.draw(self.records, batch_size=self.batch_size, epoch=epoch, seed=self.seed)
        return list(chunks(self.train[drawn], self.batch_size))


@attrs.frozen(kw_only=True)
class EpochEnd:
    """What is known after an epoch.

    Attributes:
        epoch: Which one, from 0 over all stages.
        stage: Which stage, from 0.
        lr: The learning rate of its last step.
        train_loss: Mean of the training loss over its records.
        val: The metrics of the validation records.
        seconds: How long it took, validation included.
        best: Whether its weights are the best so far.
    """

    epoch: int
    stage: int
    lr: float
    train_loss: float
    val: dict[str, float]
    seconds: float
    best: bool


@attrs.define
class _State:
    """What changes while a fold trains."""

    model: Classifier
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    epoch: int = 0
    lr: float = 0.0
    best: tuple[float, ...] | None = None
    waited: int = 0


def fit(
    model: Classifier, job: Job, *, on_step: Callable[[], None], on_epoch: Callable[[EpochEnd], None]
) -> list[EpochEnd]:
    """Train a model through its stages and leave it with its best weights.

    Args:
        model: The model, placed on the device; it is changed.
        job: What to train it with.
        on_step: Called after each optimizer step.
        on_epoch: Called after each epoch.

    Returns:
        What happened, epoch by epoch.

    Raises:
        TrainingError: if loss or logits are not finite; the best checkpoint stays on disk.
    """
    history: list[EpochEnd] = []
    best: tuple[float, ...] | None = None
    with torch.random.fork_rng(devices=_cuda(job)):
        _seed(derive_seed(job.seed, "dropout"), _cuda(job))
        for number, stage in enumerate(job.stages):
            state = _begin(model, job, stage, epoch=len(history), best=best)
            for _ in range(stage.epochs):
                event = _epoch(state, job, number, on_step)
                history.append(event)
                on_epoch(event)
                if job.early_stopping is not None and state.waited >= job.early_stopping.patience:
                    break
            best = state.best
    weights, _ = load_checkpoint(job.folder / "best")
    model.load_state_dict(weights)
    return history


def _begin(model: Classifier, job: Job, stage: Stage, *, epoch: int, best: tuple[float, ...] | None) -> _State:
    for parameter in model.body.parameters():
        parameter.requires_grad_(stage.train == "all")
    model.train()
    model.body.train(stage.train == "all")  # frozen layers keep their statistics and drop nothing
    optimizer = (stage.optimizer or job.optimizer).over(model, lr=stage.lr)
    steps = sum(len(job.draws(epoch + number)) for number in range(stage.epochs))
    scheduler = (stage.schedule or job.schedule).over(optimizer, steps=steps)
    return _State(model=model, optimizer=optimizer, scheduler=scheduler, epoch=epoch, best=best)


def _epoch(state: _State, job: Job, stage: int, on_step: Callable[[], None]) -> EpochEnd:
    started = time.perf_counter()
    train_loss = _train_epoch(state, job, on_step)
    values = _validate(state, job)
    best = _keep_if_best(state, job, values)
    event = EpochEnd(
        epoch=state.epoch,
        stage=stage,
        lr=state.lr,
        train_loss=train_loss,
        val=values,
        seconds=time.perf_counter() - started,
        best=best,
    )
    state.epoch += 1
    return event


def _train_epoch(state: _State, job: Job, on_step: Callable[[], None]) -> float:
    total, count = 0.0, 0
    draws = job.draws(state.epoch)
    batches = job.train_batches or job.batches
    for step, (positions, images) in enumerate(zip(draws, batches.each(draws), strict=True)):
        loss = _train_step(state, job, positions, images, step)
        on_step()
        total, count = total + loss * len(positions), count + len(positions)
    return total / count


def _train_step(state: _State, job: Job, positions: NDArray[np.int64], images: Tensor, step: int) -> float:
    targets = torch.from_numpy(job.targets[positions]).to(images.device)
    state.optimizer.zero_grad(set_to_none=True)
    with job.batches.runtime.autocast():
        logits = state.model(images)
    own = None if job.weights is None else job.weights[torch.from_numpy(positions).to(job.weights.device)]
    loss = training_loss(logits, targets, loss=job.loss, weights=job.class_weights, record_weights=own)
    value = loss.item()
    if not np.isfinite(value):
        raise _not_finite(state, job, positions, step, value)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    state.lr = float(state.optimizer.param_groups[0]["lr"])
    state.optimizer.step()
    state.scheduler.step()
    return value


def _not_finite(state: _State, job: Job, positions: NDArray[np.int64], step: int, value: float) -> TrainingError:
    lr, ids = state.optimizer.param_groups[0]["lr"], job.ids[positions][:5].tolist()
    return TrainingError(
        f"the loss must be finite, got {value} in epoch {state.epoch}, step {step}, lr {lr:.2g}, on {ids} ...; "
        "lower 'lr' or use precision 'fp32'"
    )


def _validate(state: _State, job: Job) -> dict[str, float]:
    logits = forward(state.model, job.batches, job.val, batch_size=2 * job.batch_size)
    if not logits.isfinite().all():
        raise TrainingError(
            f"the logits of the validation records must be finite, got others after epoch {state.epoch}; "
            "lower 'lr' or use precision 'fp32'"
        )
    targets = torch.from_numpy(job.targets[job.val]).to(logits.device)
    return epoch_metrics(logits, targets, positive=job.positive)


# Better is by the monitored metric; ties go to the lower loss, then to the higher accuracy. NaN never wins.
def _keep_if_best(state: _State, job: Job, values: dict[str, float]) -> bool:
    sign = 1 if monitor_direction(job.monitor) == "max" else -1
    rank = tuple(
        -np.inf if np.isnan(v) else v for v in (sign * values[job.monitor], -values["loss"], values["accuracy"])
    )
    least = job.early_stopping.min_delta if job.early_stopping else 0.0
    gained = state.best is None or rank[0] > state.best[0] + least
    state.waited = 0 if gained else state.waited + 1
    if state.best is not None and rank <= state.best:
        return False
    state.best = rank
    mean, std = job.batches.spec.statistics or ((), ())
    facts: dict[str, Any] = {"epoch": state.epoch, "monitor": job.monitor, "values": _plain(values)}
    facts |= {"mean": list(mean), "std": list(std)}
    save_checkpoint(job.folder / "best", state.model.state_dict(), facts)
    return True


def _plain(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


# torch.manual_seed would seed every GPU, also those of other runs in this process.
def _seed(seed: int, devices: list[str]) -> None:
    torch.default_generator.manual_seed(seed)
    for device in devices:
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _cuda(job: Job) -> list[str]:
    return [job.batches.runtime.device] if job.batches.runtime.device.startswith("cuda") else []
