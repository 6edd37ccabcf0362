"""A study at work: trials are asked, run by an executor, and told."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, final

import attrs
import numpy as np
import torch

from imgcls.core.errors import TrainingError
from imgcls.core.progress import say
from imgcls.execution.base import Executor, Listener, Result, Task
from imgcls.runtime.interruption import Interrupted
from imgcls.search.base import Study
from imgcls.search.table import best
from imgcls.search.trials import Outcome, Trial
from imgcls.searching.pruning import Finished, FoldPruning
from imgcls.searching.trial import EpochDone, FoldDone, Reached, Shared, run_trial

__all__ = ["Conductor", "folder_of"]

#: How trials end that may end otherwise when they are tried again.
_AGAIN = frozenset({"killed", "out_of_memory"})

#: What libraries say when there is no memory.
_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")

#: What training says when a step had too little even for pairs of records, which no other division would change.
_HOPELESS = "must fit into the memory"


def folder_of(out: Path, trial: Trial) -> Path:
    """Name the folder of a trial's run.

    Args:
        out: That of the search.
        trial: The trial.

    Returns:
        The folder.
    """
    return out / f"trial_{trial.number:04d}"


@final
@attrs.define(kw_only=True, eq=False)
class Conductor:
    """Runs the trials of a study.

    Attributes:
        study: The study.
        shared: What all trials share.
        monitor: The metric.
        objectives: What counts beside the metric.
        limits: What a model may cost at most.
        prune: Stops trials after a fold, or None.
        retries: How often a trial is tried again that was killed or ran out of memory; the latter with each batch in
            twice as many parts.
        out: The folder of the search.
        run: What a trial is: a function as `run_trial`.
        own: The values that the Trainer itself has, by path, which trial 0 is noted with.
    """

    study: Study
    shared: Shared
    monitor: str
    objectives: tuple[str, ...]
    limits: dict[str, float]
    prune: FoldPruning | None
    retries: int
    out: Path
    run: Callable[..., Reached] = run_trial
    own: dict[str, Any] = attrs.field(factory=dict)
    _running: dict[str, Trial] = attrs.field(init=False, factory=dict)
    _again: list[Trial] = attrs.field(init=False, factory=list)
    _attempts: dict[tuple[int, int | None], int] = attrs.field(init=False, factory=dict)
    _parts: dict[int, int] = attrs.field(init=False, factory=dict)
    _values: dict[int, dict[int, float]] = attrs.field(init=False, factory=dict)
    _exhausted: bool = attrs.field(init=False, default=False)

    def conduct(self, executor: Executor) -> bool:
        """Run the trials that are missing.

        Args:
            executor: What runs them.

        Returns:
            Whether the study is at its end; False where the time was over before.
        """
        listener = Listener(asked=self._asked, done=self._done)
        executor.run(self._tasks(), shared=self.shared, listener=listener)
        return self._exhausted or self._is_complete()

    def _tasks(self) -> Iterator[Task | None]:
        while not self._is_over():
            trial = self._again.pop(0) if self._again else self.study.ask()
            if trial is not None:
                yield self._task(trial)
            elif self._running:
                yield None
            else:
                self._exhausted = True
                return

    # The time may be over just when the last trial is done.
    def _is_complete(self) -> bool:
        entries, total = self.study.entries, self.study.plan.trials
        ended = all(entry.outcome is not None and entry.outcome.state != "paused" for entry in entries)
        return total is not None and len(entries) >= total and ended

    def _is_over(self) -> bool:
        return self.shared.until is not None and time.time() > self.shared.until

    def _task(self, trial: Trial) -> Task:
        key = (trial.number, trial.budget)
        self._attempts[key] = self._attempts.get(key, 0) + 1
        folder = folder_of(self.out, trial)
        marks = [f"to_{trial.budget}"] * (trial.budget is not None) + [f"again_{self._attempts[key]}"] * (
            self._attempts[key] > 1
        )
        parts = {"parts": self._parts[trial.number]} if trial.number in self._parts else {}
        task = Task(
            name="-".join([folder.name, *marks]),
            function=self.run,
            arguments={"params": trial.params, "budget": trial.budget, "folder": folder, **parts},
        )
        self._running[task.name] = trial
        return task

    # Whether a trial that got so far should stop.
    def _asked(self, task: Task, message: EpochDone | FoldDone) -> bool:
        trial = self._running[task.name]
        if isinstance(message, EpochDone):
            return self.study.report(trial, step=message.epoch, value=message.value)
        values = self._values.setdefault(trial.number, {})
        values[message.fold] = message.value
        stops = self.study.report(trial, step=message.fold, value=message.value)
        return stops or self._is_hopeless(trial, values)

    def _is_hopeless(self, trial: Trial, values: dict[int, float]) -> bool:
        winner = best(self.study.entries, direction=self.study.plan.directions[0])
        if self.prune is None or winner is None or winner.outcome is None:
            return False
        finished = sorted(values)
        return self.prune.hopeless(
            self._finished(trial, finished, list(map(values.__getitem__, finished))),
            self._finished(winner.trial, finished, [winner.outcome.facts["values"][fold] for fold in finished]),
            monitor=self.monitor,
            seed=self.study.plan.seed,
        )

    def _finished(self, trial: Trial, folds: Sequence[int], values: Sequence[float]) -> Finished:
        place = folder_of(self.out, trial)
        return Finished(folders=[place / f"fold_{fold}" for fold in folds], values=values)

    def _done(self, task: Task, result: Result) -> None:
        trial = self._running.pop(task.name)
        if result.state == "interrupted":
            raise Interrupted
        if result.state == "done" and result.value.stopped == "time":
            return  # it goes on in the next run
        outcome = self._outcome(result) if result.state == "done" else _failed(result)
        attempts = self._attempts[trial.number, trial.budget]
        if outcome.state in _AGAIN and attempts <= self.retries and _HOPELESS not in outcome.reason:
            self._try_again(trial, outcome)
            return
        own = {"own": self.own} if trial.number == 0 and self.own else {}
        outcome = attrs.evolve(outcome, facts={**outcome.facts, "attempts": attempts, **own})
        self.study.tell(trial, outcome)
        say(f"Trial {trial.number}: {outcome.state} {_shown(outcome)} {dict(trial.params)}")

    # What killed a process may be gone; where memory was short, it would be short again.
    def _try_again(self, trial: Trial, outcome: Outcome) -> None:
        how = ""
        if outcome.state == "out_of_memory":
            self._parts[trial.number] = 2 * self._parts.get(trial.number, 1)
            how = f" with each batch in {self._parts[trial.number]} times as many parts"
        say(f"Trial {trial.number}: {outcome.state}, once more{how}")
        self._again.append(trial)

    def _outcome(self, result: Result) -> Outcome:
        reached: Reached = result.value
        facts = {name: value for name, value in attrs.asdict(reached).items() if name != "stopped"}
        values = reached.values
        if None in values or not values:
            reason = f"{self.monitor} is not a number in fold {values.index(None) if values else 0}"
            return Outcome("non_finite", reason=reason, facts=facts)
        means = [float(np.mean(np.array(values, dtype=float))), *(reached.extras[name] for name in self.objectives)]
        return Outcome(
            reached.stopped or "complete",
            values=means,
            constraints=[reached.extras[name] - limit for name, limit in self.limits.items()],
            reason=f"after {len(values)} folds" if reached.stopped == "pruned" else "",
            facts=facts,
        )


def _failed(result: Result) -> Outcome:
    error = result.error
    if error is not None:
        error.__traceback__ = None  # its frames hold tensors
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return Outcome(_state(result), reason=result.reason, facts={"seconds": round(result.seconds, 3)})


def _state(result: Result) -> str:
    if result.state != "failed":
        return "killed"
    text = result.reason.lower()
    if isinstance(result.error, MemoryError | torch.OutOfMemoryError) or any(
        word in text for word in (*_MEMORY, _HOPELESS)
    ):
        return "out_of_memory"
    return "non_finite" if isinstance(result.error, TrainingError) else "failed"


def _shown(outcome: Outcome) -> str:
    return ", ".join(f"{value:.4f}" for value in outcome.values) if outcome.valued else outcome.reason
