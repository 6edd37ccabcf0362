"""Folds side by side: each is trained by a process of its own, which leaves it in its folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch

from imgcls.core import options
from imgcls.core.progress import Advance, progress, say
from imgcls.execution.base import Listener, Result, Task
from imgcls.execution.processes import Processes
from imgcls.runtime.interruption import Interrupted
from imgcls.training.events import EpochEnd, StepEnd

__all__ = ["fewer_threads", "is_parallel", "train_side_by_side", "visible_gpus"]


def train_side_by_side(
    shared: Any,
    train: Callable[..., None],
    *,
    folder: Path,
    num_folds: int,
    epochs: int,
    parallel: int,
    device: str,
    callbacks: Sequence[Callable[[StepEnd | EpochEnd], Any]],
) -> None:
    """Train the folds of a run that are not finished, several at a time.

    A fold that fails ends the others, which keep a checkpoint; a signal does as well.

    Args:
        shared: The first argument of `train`, sent to each process.
        train: Trains a fold: `train(shared, tell, folder=..., number=...)`; it tells the events and
            leaves everything else in the folder.
        folder: The run's folder.
        num_folds: How many folds there are.
        epochs: The epochs of each.
        parallel: How many train at a time; each has the threads of this process.
        device: As for `pick_device`; of several GPUs each process has one, unless this names one.
        callbacks: Called in this process with the events of all folds.

    Raises:
        Interrupted: if one of the processes was asked to end.
    """
    numbers = [number for number in range(num_folds) if not (folder / f"fold_{number}" / "fold.json").exists()]
    tasks = [
        Task(name=f"fold_{number}", function=train, arguments={"folder": folder, "number": number})
        for number in numbers
    ]
    executor = Processes(
        parallel=parallel,
        scratch=folder / ".processes",
        threads=torch.get_num_threads(),
        gpus=visible_gpus(device),
        logs=folder / "logs",
    )
    with progress(f"{len(numbers)} folds, {parallel} at a time", epochs * len(numbers)) as advance:
        executor.run(tasks, shared=shared, listener=_listener(folder, epochs, callbacks, advance))


def _listener(
    folder: Path, epochs: int, callbacks: Sequence[Callable[[StepEnd | EpochEnd], Any]], advance: Advance
) -> Listener:
    seen: dict[str, int] = {}

    def at(task: Task, epoch: int, note: str) -> None:
        advance(epoch - seen.get(task.name, 0), note)
        seen[task.name] = epoch

    def heard(task: Task, event: StepEnd | EpochEnd) -> None:
        if isinstance(event, EpochEnd):
            at(task, event.epoch + 1, f"{task.name}: epoch {event.epoch + 1}")
        for callback in callbacks:
            callback(event)

    def done(task: Task, result: Result) -> None:
        if result.state == "interrupted":
            raise Interrupted
        result.get()
        at(task, epochs, f"{task.name}: done")
        warnings = folder / "logs" / task.name / "warning.jsonl"
        if warnings.exists() and warnings.stat().st_size:
            say(f"Warnings of {task.name} are in {warnings}")

    return Listener(heard=heard, done=done)


def is_parallel(trainer: Any, field: attrs.Attribute[Any], given: Any) -> None:
    """Check how many processes train at a time."""
    options.count(1)(trainer, field, given)
    if trainer.executor == "local" and given > 1:
        raise options.rejected(field.name, "be 1 in one process", given, "choose executor 'processes'")


@contextlib.contextmanager
def fewer_threads(parallel: int) -> Iterator[None]:
    """Have torch use a share of its threads, as many as each of several processes will.

    Args:
        parallel: How many processes share the threads.

    Yields:
        Nothing; afterwards there are as many threads as before.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // parallel))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def visible_gpus(device: str) -> tuple[str, ...] | None:
    """Say what processes may put into `CUDA_VISIBLE_DEVICES` to have one GPU each.

    Args:
        device: As for `pick_device`.

    Returns:
        The GPUs that this process sees; None where there are not several, or `device` is one of them.
    """
    count = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    if count < 2:
        return None
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return tuple(name.strip() for name in named[:count]) if len(named) >= count else tuple(map(str, range(count)))
