"""Folds side by side: each is trained by a process of its own, which leaves it in its folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch

from imgcls.core import options
from imgcls.core.progress import Advance, progress, say
from imgcls.execution.base import Executor, Listener, Result, Task
from imgcls.execution.cluster import Cluster, cluster_of, refuse_absent
from imgcls.execution.processes import Processes
from imgcls.execution.ray import Ray
from imgcls.runtime.interruption import Interrupted
from imgcls.training.events import EpochEnd, StepEnd

__all__ = [
    "check_cluster",
    "executor_of",
    "fewer_threads",
    "is_parallel",
    "threads_each",
    "train_side_by_side",
    "visible_gpus",
]


def train_side_by_side(
    shared: Any,
    train: Callable[..., None],
    *,
    folder: Path,
    num_folds: int,
    epochs: int,
    executor: str | Mapping[str, Any],
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
        executor: What runs them, as in the Trainer.
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
    runner = executor_of(
        executor, folder, parallel=min(parallel, max(len(tasks), 1)), threads=torch.get_num_threads(), device=device
    )
    with progress(f"{len(numbers)} folds, {parallel} at a time", epochs * len(numbers)) as advance:
        runner.run(tasks, shared=shared, listener=_listener(folder, epochs, callbacks, advance))


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
        raise options.rejected(field.name, "be 1 in one process", given, "choose executor 'processes' or 'ray'")


def executor_of(
    executor: str | Mapping[str, Any],
    folder: Path,
    *,
    parallel: int,
    threads: int,
    device: str,
    ranks: int = 1,
    reuse: bool = False,
) -> Executor:
    """Make what runs tasks side by side.

    Args:
        executor: `"processes"`, or what the Trainer or Searcher has of a cluster.
        folder: The folder of the run or search.
        parallel: How many run at a time.
        threads: Threads of each process.
        device: As for `pick_device`; of several GPUs each process has one, unless this names one.
        ranks: How many processes train each task together.
        reuse: Whether a process takes one task after the other.

    Returns:
        The executor.
    """
    cluster = cluster_of(executor)
    scratch, logs = folder / ".processes", folder / "logs"
    if cluster is None:
        gpus = _in_groups(visible_gpus(device), ranks)
        return Processes(parallel=parallel, scratch=scratch, threads=threads, gpus=gpus, logs=logs, reuse=reuse)
    given = cluster.gpus if cluster.gpus is not None else float(_sees_gpus(device))
    return Ray(
        parallel=parallel,
        scratch=scratch,
        cluster=cluster,
        threads=threads,
        cpus=threads * ranks,
        gpus=given * ranks,
        logs=logs,
        reuse=reuse,
    )


def _in_groups(gpus: tuple[str, ...] | None, size: int) -> tuple[str, ...] | None:
    if gpus is None:
        return None
    return tuple(",".join(gpus[first : first + size]) for first in range(0, len(gpus) - size + 1, size))


def _sees_gpus(device: str) -> bool:
    return device in {"auto", "cuda"} and torch.cuda.is_available()


def check_cluster(executor: str | Mapping[str, Any], device: str) -> None:
    """Refuse a cluster that cannot run what this process prepares and judges.

    Args:
        executor: As in the Trainer.
        device: As for `pick_device`.

    Raises:
        ConfigError: if the tasks would have a device that this process has not, or none of those it asks for.
        MissingExtraError: if Ray is not installed.
    """
    cluster = cluster_of(executor)
    if cluster is None:
        return
    refuse_absent()
    if device.startswith("cuda:"):
        raise options.rejected("device", "be 'auto', 'cuda' or 'cpu' where Ray gives out the GPUs", device)
    if cluster.gpus and not _sees_gpus(device):
        rule = "be 0 or left out where this process, which begins and judges the run, has no GPU"
        raise options.rejected("executor.gpus", rule, cluster.gpus, "start it on a machine of the cluster with GPUs")
    if cluster.gpus == 0 and _sees_gpus(device):
        raise options.rejected("executor.gpus", "be above 0 where the device is a GPU", 0, "choose device 'cpu'")


def check_ranks(executor: str | Mapping[str, Any], ranks: int, device: str) -> None:
    """Refuse more processes that train together than there are GPUs for them.

    Args:
        executor: As in the Trainer.
        ranks: How many processes train each task together.
        device: As for `pick_device`.

    Raises:
        ConfigError: if some would have to share a GPU, through which they cannot speak.
    """
    if ranks == 1 or not torch.cuda.is_available() or device == "cpu":
        return
    cluster = cluster_of(executor)
    if cluster is not None and cluster.gpus is not None and cluster.gpus != 1:
        raise options.rejected("executor.gpus", "be 1 where processes train together", cluster.gpus)
    gpus = 1 if device.startswith("cuda:") else torch.cuda.device_count()
    if cluster is None and gpus < ranks:
        raise options.rejected("ranks", f"be at most {gpus}, a GPU for each process", ranks, "or choose device 'cpu'")


def threads_each(executor: str | Mapping[str, Any], parallel: int, ranks: int = 1) -> int:
    """Say how many threads each process of several tasks has.

    Args:
        executor: As in the Trainer.
        parallel: How many run at a time.
        ranks: How many processes train each task together.

    Returns:
        A share of what the cluster's options say for a task, or else of the threads of torch.
    """
    cluster = cluster_of(executor) or Cluster()
    return max(1, (cluster.cpus or torch.get_num_threads() // parallel) // ranks)


@contextlib.contextmanager
def fewer_threads(parallel: int, executor: str | Mapping[str, Any] = "local") -> Iterator[None]:
    """Have torch use a share of its threads, as many as each of several processes will.

    Args:
        parallel: How many processes share the threads.
        executor: What runs them.

    Yields:
        Nothing; afterwards there are as many threads as before.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads_each(executor, parallel))
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
