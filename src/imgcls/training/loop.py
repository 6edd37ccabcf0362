"""The training loop: epochs of steps, the best checkpoint kept on disk and put back at the end."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import torch
from torch import Tensor

from imgcls.core.errors import TrainingError
from imgcls.core.progress import say
from imgcls.models.base import Classifier
from imgcls.models.freezing import freeze
from imgcls.runtime.batches import chunks
from imgcls.runtime.checkpoints import has_checkpoint, load_checkpoint
from imgcls.runtime.interruption import Interrupted, at_once, deferred, wanted
from imgcls.training.averaging import greedy_soup
from imgcls.training.events import EpochEnd, StepEnd
from imgcls.training.feeding import Fed, Feed
from imgcls.training.job import Job, Phase
from imgcls.training.monitor import epoch_metrics
from imgcls.training.rates import found_rate
from imgcls.training.selection import keep, rank, snapshot, write
from imgcls.training.stages import FIND
from imgcls.training.state import Seen, State, restore, save
from imgcls.training.step import Stepped, train_step

__all__ = ["Listeners", "fit"]

#: Batches of a validation between which nobody asks whether to stop.
_UNASKED = 8


@attrs.frozen(kw_only=True)
class Listeners:
    """Who is told what happens.

    Attributes:
        begin: Called once with what happened before, where training goes on, and the steps done.
        step: Called after each optimizer step.
        epoch: Called after each epoch, and after each validation within one.
    """

    begin: Callable[[list[EpochEnd], int], None] = lambda _, __: None
    step: Callable[[StepEnd], None] = lambda _: None
    epoch: Callable[[EpochEnd], None] = lambda _: None


def fit(model: Classifier, job: Job, listeners: Listeners) -> list[EpochEnd]:
    """Train a model through its stages and leave it with its best weights.

    Where the folder has a checkpoint to go on from, training goes on there and ends with the
    same weights as if it had never stopped.

    Args:
        model: The model, placed on the device; it is changed.
        job: What to train it with.
        listeners: Who is told what happens.

    Returns:
        What happened, epoch by epoch.

    Raises:
        TrainingError: if loss or logits are not finite; the last checkpoint stays on disk.
        Interrupted: if a signal came; the checkpoint to go on from is written.
    """
    state = State(
        model=model, feed=job.phases[0].feed, parts=job.parts, averaged=None if job.ema is None else job.ema.over(model)
    )
    with _own_chance(job), deferred():
        rest = restore(state, job) if has_checkpoint(job.folder / "last") else None
        if rest is None and job.nonfinite.policy == "rollback":
            save(state, job)  # where to go back to in the first epoch
        listeners.begin(list(state.history), state.steps)
        while state.phase < len(job.phases):
            phase = job.phases[state.phase]
            _enter(state, phase, job, rest)
            rest = None
            while state.epoch < state.first + phase.stage.epochs and not _is_enough(state, job):
                _epoch_or_back(state, phase, job, listeners)
            _leave(state, job)
        _conclude(state, job)
    return state.history


# Dropout draws from torch's global state, which is given back as it was.
def _own_chance(job: Job) -> Any:
    device = job.runtime.device
    return torch.random.fork_rng(devices=[device] if device.startswith("cuda") else [])


def _enter(state: State, phase: Phase, job: Job, rest: dict[str, Any] | None) -> None:
    freeze(state.model, phase.stage.train)
    _shift(state, phase)
    with at_once():  # which may take long, and what came before is on disk
        state.feed = phase.feed.prepared(state.model, phase.train, job.val)
        lr = found_rate(state, phase, job) if phase.stage.lr == FIND else float(phase.stage.lr)
    state.optimizer = phase.optimizer_over(state.model, lr=lr * 0.5**state.rolled)
    state.course = phase.course_over(state.optimizer, state.first)
    if rest is not None and rest["optimizer"] is not None:
        state.optimizer.load_state_dict(rest["optimizer"])
        state.course.load_state_dict(rest["course"])


# Which shift belongs to the weights depends on what the stage does about imbalance, so it goes with them.
def _shift(state: State, phase: Phase) -> None:
    shift = torch.zeros_like(state.model.prior_shift) if phase.shift is None else phase.shift
    state.model.prior_shift.copy_(shift)
    if state.averaged is not None:
        state.averaged.average["prior_shift"].copy_(shift)


def _is_enough(state: State, job: Job) -> bool:
    stopping = job.early_stopping
    if job.final is not None:
        return state.epoch >= job.final
    return _is_late(state, job) or (stopping is not None and state.waited >= stopping.patience)


def _is_late(state: State, job: Job) -> bool:
    return bool(job.ranks.told(job.seconds is not None and state.spent >= job.seconds))


# The next stage starts with a patience of its own; after the last one there is nothing left to do.
def _leave(state: State, job: Job) -> None:
    late, done = _is_late(state, job), job.final is not None and state.epoch >= job.final
    state.phase = len(job.phases) if late or done else state.phase + 1
    state.first, state.waited = state.epoch, 0
    state.optimizer = state.course = None
    if late:
        say(f"Fold {job.fold}: the time for training is over after {len(state.history)} epochs")
    save(state, job)


class _BackError(Exception):
    """Unwinds an epoch whose loss is not finite."""


def _epoch_or_back(state: State, phase: Phase, job: Job, listeners: Listeners) -> None:
    try:
        _epoch(state, phase, job, listeners)
    except _BackError:
        rolled = state.rolled + 1
        rest = restore(state, job)
        state.rolled = rolled
        _enter(state, phase, job, rest)
        say(f"Back to step {state.steps} of fold {job.fold}, and on with half of the learning rate")


def _epoch(state: State, phase: Phase, job: Job, listeners: Listeners) -> None:
    started = time.perf_counter() - state.total
    draws = phase.draws(state.epoch)
    state.to_train()
    if 0 < state.step < len(draws) and _is_due(state, job):
        _pause(state, job, listeners)
    for fed in state.feed.each(draws, state.epoch, skip=state.step):
        _step(state, phase, job, fed, listeners)
        state.total = time.perf_counter() - started
        if state.step < len(draws):
            _pause(state, job, listeners)
    values = _validated(state, job, listeners)
    assert state.course is not None
    state.course.epoch(rank(job.monitor, values)[0])
    snapshot(state, job, values)
    state.spent += time.perf_counter() - started
    state.total, state.step, state.seen = 0.0, 0, Seen()
    state.epoch += 1
    save(state, job)
    _stop_if(job.ranks.any(wanted(), job.runtime.device))


def _step(state: State, phase: Phase, job: Job, fed: Fed, listeners: Listeners) -> None:
    stepped = train_step(state, phase, job, fed)
    if stepped.finite:
        state.seen.loss += stepped.loss * stepped.records
        state.seen.records += stepped.records
        state.seen.logits.append(stepped.logits)
        state.seen.positions.append(torch.from_numpy(fed.positions))
    else:
        _refuse(state, job, fed, stepped)
    state.step += 1
    listeners.step(
        StepEnd(
            fold=job.fold,
            stage=state.phase,
            epoch=state.epoch,
            step=state.steps,
            loss=stepped.loss,
            lr=state.lr,
            grad_norm=stepped.grad_norm,
            records=len(fed.positions),
        )
    )
    state.steps += 1


# What happens between two steps of an epoch.
def _pause(state: State, job: Job, listeners: Listeners) -> None:
    due = _is_due(state, job)
    if due:
        _validated(state, job, listeners)
        state.to_train()
    stop = job.ranks.any(wanted(), job.runtime.device)
    # Rolling back never goes behind a validation, whose weights are on disk already.
    behind = due and job.nonfinite.policy == "rollback"
    if stop or behind or (job.checkpoint_every is not None and state.step % job.checkpoint_every == 0):
        save(state, job)
    _stop_if(stop)


# A validation that was interrupted is done when training goes on; one that is done is not repeated.
def _is_due(state: State, job: Job) -> bool:
    done = bool(state.history) and state.history[-1].step == state.steps
    return job.validate_every is not None and state.step % job.validate_every == 0 and not done


def _stop_if(stop: bool) -> None:
    if stop:
        raise Interrupted


def _refuse(state: State, job: Job, fed: Fed, stepped: Stepped) -> None:
    error = _not_finite(state, job, fed, stepped)
    policy, done = job.nonfinite.policy, {"skip": state.skipped, "rollback": state.rolled}
    if policy == "raise" or done[policy] >= job.nonfinite.limit:
        raise error
    say(f"{str(error).partition(';')[0]}: {'left out' if policy == 'skip' else 'going back'}")
    if policy == "rollback":
        raise _BackError
    state.skipped += 1


def _not_finite(state: State, job: Job, fed: Fed, stepped: Stepped) -> TrainingError:
    ids = job.ids[fed.positions][:5].tolist()
    what, value = ("gradient", stepped.grad_norm) if math.isfinite(stepped.loss) else ("loss", stepped.loss)
    return TrainingError(
        f"the {what} must be finite, got {value} in epoch {state.epoch}, step {state.step}, lr {state.lr:.2g}, on "
        f"{ids} ...; lower 'lr' or use precision 'fp32'"
    )


def _validated(state: State, job: Job, listeners: Listeners) -> dict[str, float]:
    started = time.perf_counter()
    try:
        with _weights_of(state):
            values = _values(state.model, state.feed, job)
    except Interrupted:  # nothing is lost: the validation is done when training goes on
        save(state, job)
        raise
    event = EpochEnd(
        fold=job.fold,
        stage=state.phase,
        epoch=state.epoch,
        step=state.steps,
        lr=state.lr,
        train_loss=state.seen.loss / state.seen.records if state.seen.records else math.nan,
        train=state.seen.metrics(job),
        val=values,
        seconds=state.total + time.perf_counter() - started,
        best=keep(state, job, values),
    )
    state.history.append(event)
    listeners.epoch(event)
    return values


def _values(model: Classifier, feed: Feed, job: Job) -> dict[str, float]:
    logits = torch.cat([*_predicted(model, feed, job)])
    if not logits.isfinite().all():
        raise TrainingError(
            f"the logits of the validation records must be finite, got others in fold {job.fold}; lower 'lr' or use "
            "precision 'fp32'"
        )
    targets = torch.from_numpy(job.targets[job.val]).to(logits.device)
    return epoch_metrics(logits, targets, positive=job.positive)


def _predicted(model: Classifier, feed: Feed, job: Job) -> Iterator[Tensor]:
    size = 2 * job.phases[0].batch_size
    for part in chunks(job.val, _UNASKED * size):
        _stop_if(job.ranks.any(wanted(), job.runtime.device))
        yield feed.predict(model, part, batch_size=size)


def _weights_of(state: State) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if state.averaged is None else state.averaged.swapped(state.model)


# The weights that are kept: the best ones, or the average of the few best that is no worse.
def _conclude(state: State, job: Job) -> None:
    if job.average > 1:
        _average_best(state, job)
    job.ranks.wait()
    state.model.load_state_dict(load_checkpoint(job.folder / "best").weights)


def _average_best(state: State, job: Job) -> None:
    candidates = (load_checkpoint(job.folder / "top" / f"{steps:08d}").weights for _, steps in state.top)
    found = greedy_soup(candidates, lambda weights: rank(job.monitor, _metrics(state, job, weights)))
    steps = [state.top[member][1] for member in found.members]
    if len(steps) == 1:
        return  # the best one, which is kept already
    write(job, "best", found.weights, state, _metrics(state, job, found.weights), averaged=steps)
    say(f"Fold {job.fold}: the average of {len(steps)} of the {len(state.top)} best checkpoints is kept")


def _metrics(state: State, job: Job, weights: Mapping[str, Tensor]) -> dict[str, float]:
    state.model.load_state_dict(weights)
    return _values(state.model, job.phases[-1].feed, job)
