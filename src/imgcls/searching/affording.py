"""How many epochs a time is enough for, by steps that are measured."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from pathlib import Path

import attrs

from imgcls.fitting import folds_of_run
from imgcls.searching.probing import Probe
from imgcls.trainer import Trainer
from imgcls.training.events import EpochEnd, StepEnd
from imgcls.training.fold import train_fold
from imgcls.training.planning import plan_job
from imgcls.training.stages import Stage

__all__ = ["Cost", "cost_of"]

#: Steps that are timed at most, after the first one.
_STEPS = 10

#: Numbers that are reported are computed in full precision, which takes so much longer than mixed precision at most.
_FULL = 3.0

#: Seconds of a step of a head alone, on features that are kept.
_HEAD_STEP = 0.003

#: What an epoch takes beside its steps and its validation, such as checkpoints.
_MARGIN = 1.1


@attrs.frozen(kw_only=True)
class Cost:
    """What the parts of a training should take, in seconds, over all folds.

    Attributes:
        head_epoch: An epoch of the head alone.
        epoch: An epoch of the whole network.
        finish: The predictions of validation and test records at the end.
    """

    head_epoch: float
    epoch: float
    finish: float


class _EnoughError(Exception):
    """Unwinds a training that was only to be timed."""


@attrs.define(kw_only=True)
class _Clock:
    patience: float
    times: list[float] = attrs.field(factory=list)

    def __call__(self, event: StepEnd | EpochEnd) -> None:
        self.times.append(time.perf_counter())
        late = len(self.times) > 1 and self.times[-1] - self.times[0] > self.patience
        if late or len(self.times) > _STEPS or isinstance(event, EpochEnd):
            raise _EnoughError

    # Of a set with a single step an epoch there is the step and its validation.
    @property
    def step(self) -> float:
        return statistics.median(after - before for before, after in zip(self.times, self.times[1:], strict=False))


def cost_of(trainer: Trainer, probe: Probe, stage: Stage, *, patience: float) -> Cost:
    """Train some steps, which are thrown away, and reckon what a training takes.

    Args:
        trainer: The Trainer.
        probe: What is known of its backbone.
        stage: What is to be timed: a stage that trains the whole network.
        patience: Seconds after which fewer steps must do, two at least.

    Returns:
        The cost.
    """
    clock = _Clock(patience=patience)
    with tempfile.TemporaryDirectory() as folder:
        timed = attrs.evolve(trainer, stages=[stage], out=str(Path(folder) / "run"), trackers=(), callbacks=(clock,))
        with folds_of_run(timed) as (folds, recipe):
            steps = sum(len(plan_job(recipe, fold, 0, Path(folder)).phases[0].draws(0)) for fold in folds)
            with contextlib.suppress(_EnoughError):
                train_fold(recipe, folds[0], 0, Path(folder) / "run" / "fold_0", label="Measuring")
    other = 0 if recipe.test is None else len(recipe.test[0])
    val, test = sum(len(fold.val) for fold in folds), sum(len(fold.test) + other for fold in folds)
    head = 0.0 if probe.cached else probe.image_seconds * sum(len(fold.train) + len(fold.val) for fold in folds)
    slower = _FULL if probe.precision != "fp32" else 1.0
    return Cost(
        head_epoch=steps * _HEAD_STEP + head,
        epoch=_MARGIN * (steps * clock.step + probe.image_seconds * val),
        finish=slower * probe.image_seconds * (val + test),
    )
