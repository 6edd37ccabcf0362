"""One trial: the folds of a Trainer trained one after the other, as far as they are worth it."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import attrs

from imgcls.core.folders import read_json, unflushed
from imgcls.execution.base import Tell
from imgcls.fitting import folds_of_run
from imgcls.preparing import kept_models
from imgcls.runtime.device import kept_runtimes, pick_device
from imgcls.runtime.ranks import Ranks
from imgcls.searching.objectives import measured
from imgcls.searching.variants import variant
from imgcls.trainer import Trainer
from imgcls.training.events import EpochEnd, StepEnd
from imgcls.training.fold import train_fold
from imgcls.training.monitor import monitor_direction

__all__ = ["EpochDone", "FoldDone", "Reached", "Shared", "run_trial"]


@final
@attrs.frozen(kw_only=True, eq=False)
class Shared:
    """What all trials share.

    Attributes:
        trainer: The Trainer that they vary.
        extras: What is measured of a model beside the metric.
        until: When trials stop, in seconds since the epoch; None for never.
    """

    trainer: Trainer
    extras: tuple[str, ...] = ()
    until: float | None = None


@final
@attrs.frozen(kw_only=True)
class EpochDone:
    """The only fold of a trial finished an epoch.

    Attributes:
        epoch: Which one, from 0.
        value: The best value of the metric so far, which is that of the weights that are kept.
    """

    epoch: int
    value: float


@final
@attrs.frozen(kw_only=True)
class FoldDone:
    """A trial finished a fold, and others are left.

    Attributes:
        fold: Which one, from 0.
        value: The metric of the weights that are kept.
    """

    fold: int
    value: float


@final
@attrs.frozen(kw_only=True)
class Reached:
    """How far a trial came.

    Attributes:
        values: The metric of the weights that are kept, of each fold that was trained; None where it is not finite.
        metrics: All metrics of these weights, for each fold by name.
        extras: What was measured of the model.
        stopped: Why it did not come to its end: `pruned`, `paused` or `time`; empty where it did.
        epochs: Epochs that were trained in all folds, earlier runs included.
        seconds: How long it took this time.
    """

    values: list[float | None]
    metrics: list[dict[str, float | None]]
    extras: dict[str, float]
    stopped: str
    epochs: int
    seconds: float


class _Stopped(Exception):  # noqa: N818 (it is no error)
    """Unwinds a training between two epochs."""


def run_trial(
    shared: Shared, tell: Tell, *, params: dict[str, Any], budget: int | None, folder: Path, parts: int = 1
) -> Reached:
    """Train a variant of the Trainer.

    What was trained before in the folder stays as it is: training goes on from its last checkpoint. The run is left
    unfinished, so that test records are predicted but not judged; `Trainer.fit` finishes it without training.
    Precision, layout and compiling that are measured are kept beside the folder, for all trials of the same network.

    Args:
        shared: What all trials share.
        tell: Asks whether to stop, with `EpochDone` or `FoldDone`.
        params: What is varied.
        budget: The epochs of each fold; None for all.
        folder: The run's folder.
        parts: In how many times more parts each batch goes through the network, where memory was short before.

    Returns:
        How far it came.
    """
    started = time.perf_counter()
    watch = _Watch(tell=tell, budget=budget, until=shared.until)
    trainer = variant(shared.trainer, {**params, "out": str(folder)})
    measured_before = kept_runtimes(folder.parent / "runtime.json")
    with unflushed(), kept_models(), measured_before, folds_of_run(trainer) as (folds, recipe):
        more = min(recipe.parts * parts, max(recipe.batch_size // 2, 1))  # batch norm cannot train on single records
        stopped = _train(folds, attrs.evolve(recipe, parts=max(more, recipe.parts), watch=watch), folder, watch)
        found = {}
        if recipe.ranks.first:  # the others would disturb what is measured
            found = measured(shared.extras, recipe.build(trainer.seed), trainer.image, pick_device(trainer.device))
        recipe.ranks.wait()
    trained = [folder / f"fold_{number}" for number in range(len(folds))]
    trained = [place for place in trained if (place / "history.csv").exists()]
    rows = [_rows(place) for place in trained]
    return Reached(
        values=[_value(place, trainer.monitored) for place in trained],
        metrics=[_metrics(part) for part in rows],
        extras=found,
        stopped=stopped,
        epochs=sum(len({row["epoch"] for row in part}) for part in rows),
        seconds=round(time.perf_counter() - started, 3),
    )


def _train(folds: Any, recipe: Any, folder: Path, watch: _Watch) -> str:
    stopped = ""
    for number, fold in enumerate(folds):
        place = folder / f"fold_{number}"
        watch.begin(place, alone=len(folds) == 1, monitor=recipe.monitor, ranks=recipe.ranks)
        try:
            train_fold(recipe, fold, number, place, label=f"{folder.name}, fold {number + 1}/{len(folds)}")
        except _Stopped as why:
            stopped = str(why)
            if stopped != "paused":
                return stopped
            continue
        value = _value(place, recipe.monitor)
        last = number == len(folds) - 1
        if watch.stop == "time" and not last:
            return "time"
        if not last and not stopped and value is not None and watch.ask(FoldDone(fold=number, value=value)):
            return "pruned"
    return stopped


@attrs.define(kw_only=True, eq=False)
class _Watch:
    """Hears of a training and ends it between two epochs: what is done is saved then.

    Of processes that train together the first asks, and all of them end.
    """

    tell: Tell
    budget: int | None
    until: float | None
    alone: bool = False
    better: Callable[[float, float], float] = max
    monitor: str = ""
    ranks: Ranks = attrs.field(factory=Ranks)
    best: float = math.nan
    stop: str = ""

    def ask(self, message: EpochDone | FoldDone) -> bool:
        return bool(self.ranks.told(self.ranks.first and self.tell.ask(message)))

    # Epochs before an interruption are told again, so that a decision does not depend on it.
    def begin(self, place: Path, *, alone: bool, monitor: str, ranks: Ranks) -> None:
        self.alone, self.monitor, self.best, self.stop, self.ranks = alone, monitor, math.nan, "", ranks
        self.better = max if monitor_direction(monitor) == "max" else min
        begun = (place / "history.csv").exists() and not (place / "fold.json").exists()
        for row in ranks.told(_rows(place) if begun else []):
            self._epoch(int(row["epoch"]), float(row[f"val_{monitor}"] or math.nan))

    def __call__(self, event: StepEnd | EpochEnd) -> None:
        if isinstance(event, EpochEnd):
            self._epoch(event.epoch, event.val[self.monitor])
        elif self.stop:
            raise _Stopped(self.stop)
        elif self.budget is not None and event.epoch >= self.budget:
            raise _Stopped("paused")

    def _epoch(self, epoch: int, value: float) -> None:
        self.best = value if math.isnan(self.best) else self.better(self.best, value)
        if self.alone and not math.isnan(self.best) and self.ask(EpochDone(epoch=epoch, value=self.best)):
            self.stop = "pruned"
        elif self.ranks.told(self.until is not None and time.time() > self.until):
            self.stop = "time"


def _rows(place: Path) -> list[dict[str, str]]:
    with (place / "history.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# What the weights that are kept reached; of an average of several the history knows nothing.
def _value(place: Path, monitor: str) -> float | None:
    if (place / "fold.json").exists():
        found: float | None = read_json(place / "fold.json")["objective"]
        return found
    return _metrics(_rows(place)).get(monitor)


def _metrics(rows: list[dict[str, str]]) -> dict[str, float | None]:
    best = [row for row in rows if row["best"] == "1"]
    if not best:
        return {}
    names = [name for name in best[-1] if name.startswith("val_")]
    return {name.removeprefix("val_"): float(best[-1][name]) if best[-1][name] else None for name in names}
