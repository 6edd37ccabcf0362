"""The learning rate of a stage that looks for one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from imgcls.core.folders import write_text
from imgcls.core.progress import say
from imgcls.training.feeding import Fed
from imgcls.training.job import Job, Phase
from imgcls.training.lr_range import lr_range, plot, rising, suggest
from imgcls.training.state import State
from imgcls.training.step import gradients

__all__ = ["found_rate"]

#: Steps of a range test.
_STEPS = 100


def found_rate(state: State, phase: Phase, job: Job) -> float:
    """Look for the learning rate of a stage; once, since the state remembers it.

    The curve goes into the fold's folder as `lr_range_<stage>.csv` and `.png`.

    Args:
        state: The state at the beginning of the stage; all but the found rate stays as it is.
        phase: The stage.
        job: The training.

    Returns:
        The learning rate.

    Raises:
        TrainingError: if the loss falls at none.
    """
    if state.phase not in state.rates:
        state.rates[state.phase] = _look(state, phase, job)
    return state.rates[state.phase]


def _look(state: State, phase: Phase, job: Job) -> float:
    batches = _endless(state, phase)
    optimizer = state.optimizer = phase.optimizer_over(state.model, lr=1.0)
    state.to_train()

    def step(_number: int) -> float:
        loss, _ = gradients(state, phase, job, next(batches), before=state.kept())
        optimizer.step()
        return float(loss)

    curve = lr_range(state.model, optimizer, step, rising(num=_STEPS))
    chosen = suggest(curve)
    if job.ranks.first:
        path = job.folder.parent / f"lr_range_{state.phase}.csv"
        write_text(path, curve.csv())
        plot(curve, path.with_suffix(".png"), chosen=chosen)
    say(f"Stage {state.phase} of fold {job.fold}: learning rate {chosen:.2g} (lr_range_{state.phase}.png)")
    return chosen


def _endless(state: State, phase: Phase) -> Iterator[Fed]:
    for epoch in itertools.count(state.first):
        yield from state.feed.each(phase.draws(epoch), epoch, skip=0)
