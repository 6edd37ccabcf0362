"""Which weights are kept: the best of all validations, those of the few best, and those of past epochs."""

from __future__ import annotations

import math
import shutil
from typing import Any

from torch import Tensor

from imgcls.runtime.checkpoints import Checkpoint, save_checkpoint
from imgcls.training.job import Job
from imgcls.training.monitor import monitor_direction
from imgcls.training.state import State

__all__ = ["keep", "rank", "snapshot"]

Rank = tuple[float, ...]


def rank(monitor: str, values: dict[str, float]) -> Rank:
    """Order validations: by the metric, then the lower loss, then the higher accuracy. NaN never wins.

    Args:
        monitor: The metric.
        values: The metrics of a validation.

    Returns:
        Numbers of which greater is better.
    """
    sign = 1 if monitor_direction(monitor) == "max" else -1
    parts = (sign * values[monitor], -values["loss"], values["accuracy"])
    return tuple(-math.inf if math.isnan(part) else part for part in parts)


def keep(state: State, job: Job, values: dict[str, float]) -> bool:
    """Keep the weights of a validation if they are the best so far.

    Args:
        state: The state; best rank, the value that counted last and waiting time change.
        job: The training.
        values: The metrics.

    Returns:
        Whether they are the best.
    """
    found = rank(job.monitor, values) if job.final is None else (float(state.steps),)
    least = job.early_stopping.min_delta if job.early_stopping else 0.0
    if state.counted is None or found[0] > state.counted + least:
        state.counted, state.waited = found[0], 0
    else:
        state.waited += 1
    best = state.best is None or found > state.best
    if job.average > 1:
        _keep_among_best(state, job, values, found)
    if best:
        state.best = found
        write(job, "best", weights(state), state, values)
    return best


def weights(state: State) -> dict[str, Tensor]:
    """Name the weights that are validated and kept: the average where there is one.

    Args:
        state: The state.

    Returns:
        The model's state.
    """
    return state.model.state_dict() if state.averaged is None else state.averaged.average


def write(job: Job, name: str, kept: dict[str, Tensor], state: State, values: dict[str, float], **more: Any) -> None:
    """Write weights with what is known of them, in the first process.

    Args:
        job: The training.
        name: The folder of the checkpoint.
        kept: The weights.
        state: The state.
        values: The metrics of their validation.
        **more: What else is known.
    """
    if not job.ranks.first:
        return
    plain = {key: value if math.isfinite(value) else None for key, value in values.items()}
    facts = {"step": state.steps, "epoch": state.epoch, "monitor": job.monitor, "values": plain, **job.facts, **more}
    save_checkpoint(job.folder / name, Checkpoint(weights=kept, facts=facts))


def _keep_among_best(state: State, job: Job, values: dict[str, float], found: Rank) -> None:
    state.top = sorted([*state.top, (found, state.steps)], reverse=True)
    chosen = state.top[: job.average]
    if (found, state.steps) in chosen:
        write(job, f"top/{state.steps:08d}", weights(state), state, values)
    for _, steps in state.top[job.average :]:
        shutil.rmtree(job.folder / "top" / f"{steps:08d}", ignore_errors=True)
    state.top = chosen


def snapshot(state: State, job: Job, values: dict[str, float]) -> None:
    """Keep the weights of an epoch that is over, if such are wanted.

    Args:
        state: The state, still of that epoch.
        job: The training.
        values: The metrics of its validation.
    """
    wanted = job.snapshots
    if wanted is None or (state.epoch + 1) % wanted.every:
        return
    write(job, f"epochs/{state.epoch:04d}", weights(state), state, values)
    if job.ranks.first:
        for old in sorted((job.folder / "epochs").iterdir())[: -wanted.keep]:
            shutil.rmtree(old)
