"""Where the time of training steps goes, measured by torch's profiler."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import profiler

from imgcls.core.folders import write_text
from imgcls.core.progress import say, warn

__all__ = ["profiled"]

#: Steps that are let pass, that warm up, and that are measured at most.
_PASSED, _WARM, _MEASURED = 2, 2, 10


@contextlib.contextmanager
def profiled(folder: Path, *, wanted: bool) -> Iterator[Callable[[], None]]:
    """Measure up to ten training steps, with what happens between them; the first four are let pass.

    How many were measured is said, and also where training ended before the first of them; nothing is written then.

    Args:
        folder: Where `profile.txt`, a table of the costliest operations, and `trace.json`, for
            Perfetto or chrome://tracing, go.
        wanted: Whether to measure.

    Yields:
        What is called after each step.
    """
    if not wanted:
        yield _nothing
        return
    kinds = [profiler.ProfilerActivity.CPU]
    kinds += [profiler.ProfilerActivity.CUDA] if torch.cuda.is_available() else []

    done = 0

    def mark() -> None:
        nonlocal done
        done += 1
        running.step()

    def write(found: profiler.profile) -> None:
        measured = min(done - _PASSED - _WARM, _MEASURED)
        if measured < 1:  # training ended where the first one would have begun
            return
        by = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        write_text(folder / "profile.txt", found.key_averages().table(sort_by=by, row_limit=40))
        found.export_chrome_trace(str(folder / "trace.json"))
        say(f"Profile of {measured} steps: {folder / 'profile.txt'}")

    plan = profiler.schedule(wait=_PASSED, warmup=_WARM, active=_MEASURED, repeat=1)
    with profiler.profile(activities=kinds, schedule=plan, on_trace_ready=write) as running:
        yield mark
    if done <= _PASSED + _WARM:
        warn(f"No step was profiled: the first {_PASSED + _WARM} are let pass, and there were {done}; train longer")


def _nothing() -> None:
    pass
