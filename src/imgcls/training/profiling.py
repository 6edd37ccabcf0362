"""Where the time of training steps goes, measured by torch's profiler."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import profiler

from imgcls.core.folders import write_text
from imgcls.core.progress import say

__all__ = ["profiled"]

#: Steps that are let pass, that warm up, and that are measured.
_PASSED, _WARM, _MEASURED = 2, 2, 10


@contextlib.contextmanager
def profiled(folder: Path, *, wanted: bool) -> Iterator[Callable[[], None]]:
    """Measure some training steps.

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

    def write(found: profiler.profile) -> None:
        by = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        write_text(folder / "profile.txt", found.key_averages().table(sort_by=by, row_limit=40))
        found.export_chrome_trace(str(folder / "trace.json"))
        say(f"Profile of {_MEASURED} steps: {folder / 'profile.txt'}")

    plan = profiler.schedule(wait=_PASSED, warmup=_WARM, active=_MEASURED, repeat=1)
    with profiler.profile(activities=kinds, schedule=plan, on_trace_ready=write) as running:
        yield running.step


def _nothing() -> None:
    pass
