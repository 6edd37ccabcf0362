"""How long several pieces of work take, measured in turn, so that none has the quieter machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def in_turn(works: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Measure the median seconds of each piece of work."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}
