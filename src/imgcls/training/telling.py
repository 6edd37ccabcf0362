"""Who hears of a training: the progress display, the history of the fold, callbacks, the profiler."""

from __future__ import annotations

import math
import time

from imgcls.core.folders import write_text
from imgcls.core.progress import progress, say, warn
from imgcls.models.base import Classifier
from imgcls.training.events import EpochEnd, StepEnd
from imgcls.training.job import Job
from imgcls.training.loop import Listeners, fit
from imgcls.training.planning import Recipe
from imgcls.training.profiling import profiled

__all__ = ["fit_told"]


def fit_told(model: Classifier, job: Job, recipe: Recipe, label: str) -> list[EpochEnd]:
    """Train a model and tell everyone.

    Args:
        model: The model, on the device; it is changed.
        job: Its training.
        recipe: What all folds share.
        label: What the progress display says.

    Returns:
        What happened, epoch by epoch.
    """
    teller = _Teller(job, recipe)
    total, first = 0, 0
    for phase in job.phases:
        total, first = total + phase.steps(first), first + phase.stage.epochs
    with progress(label, total) as advance, profiled(job.folder.parent, wanted=recipe.profile and not job.fold) as mark:

        def begin(past: list[EpochEnd], steps: int) -> None:
            teller.history.extend(past)
            advance(steps)

        def step(event: StepEnd) -> None:
            mark()
            teller.step(event)
            advance(1, teller.note)

        def epoch(event: EpochEnd) -> None:
            teller.epoch(event)
            advance(0, teller.note)

        history = fit(model, job, Listeners(begin=begin, step=step, epoch=epoch))
    if recipe.overfit and recipe.ranks.first and history:
        _judge(history[-1])
    return history


# What the records of the last epoch, which are those of every epoch, were taken for while they trained.
def _judge(last: EpochEnd) -> None:
    accuracy, told = last.train.get("accuracy", math.nan), f"fold {last.fold} after {last.epoch + 1} epochs"
    figures = f"training accuracy {accuracy:.3f}, loss {last.train_loss:.4f}"
    if accuracy == 1:
        say(f"Overfit check: {told} knows its few records by heart ({figures})")
    else:
        warn(
            f"Overfit check: {told} does not know its few records by heart ({figures}); train longer, with another "
            "learning rate or without dropout, and look at images and labels"
        )


class _Teller:
    """Remembers what the display and the history need."""

    def __init__(self, job: Job, recipe: Recipe) -> None:
        self.history: list[EpochEnd] = []
        self.note = ""
        self._job = job
        self._callbacks = (*(recipe.callbacks if recipe.ranks.first else ()), recipe.watch)
        self._first = recipe.ranks.first
        self._last = ""
        self._rate = _Rate(recipe.ranks.world)

    def step(self, event: StepEnd) -> None:
        self.note = f"{self._last} {self._rate.after(event.records):.0f} images/s".strip()
        for callback in self._callbacks:
            callback(event)

    def epoch(self, event: EpochEnd) -> None:
        self.history.append(event)
        if self._first:
            write_text(self._job.folder.parent / "history.csv", _table(self.history))
        name = self._job.monitor
        self._last = self.note = f"{name} {event.val[name]:.4f}{' (best)' if event.best else ''}"
        self._rate.pause()
        for callback in self._callbacks:
            callback(event)


class _Rate:
    """Images a second, of late."""

    def __init__(self, world: int) -> None:
        self._world = world
        self._since = time.perf_counter()
        self._mean = 0.0

    def after(self, records: int) -> float:
        now = time.perf_counter()
        latest = records * self._world / max(now - self._since, 1e-9)
        self._mean = latest if not self._mean else 0.9 * self._mean + 0.1 * latest
        self._since = now
        return self._mean

    def pause(self) -> None:
        self._since = time.perf_counter()


def _table(history: list[EpochEnd]) -> str:
    names = history[0].val
    metrics = [*(f"train_{name}" for name in names if name != "loss"), *(f"val_{name}" for name in names)]
    header = ["epoch", "stage", "step", "lr", "train_loss", *metrics, "seconds", "best"]
    return "\n".join([",".join(header), *(",".join(map(_cell, _values(event))) for event in history)]) + "\n"


def _values(event: EpochEnd) -> list[float]:
    train = [event.train.get(name, math.nan) for name in event.val if name != "loss"]
    measured = [event.lr, event.train_loss, *train, *event.val.values()]
    return [event.epoch, event.stage, event.step, *measured, round(event.seconds, 3), int(event.best)]


def _cell(value: float) -> str:
    return "" if math.isnan(value) else str(value)
