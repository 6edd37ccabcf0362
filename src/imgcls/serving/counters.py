"""What a server did, as text that Prometheus reads."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from pathlib import Path
from typing import final

__all__ = ["Counters"]

#: Upper ends of the classes of the histogram, in seconds.
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


@final
class Counters:
    """Counts requests, images and batches; threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began = time.time()
        self._answers: Counter[int] = Counter()
        self._below: Counter[float] = Counter()
        self._seconds = 0.0
        self._images = self._batches = 0

    @property
    def uptime(self) -> float:
        """Seconds since the server began."""
        return time.time() - self._began

    def answered(self, status: int, seconds: float) -> None:
        """Count a request for a prediction.

        Args:
            status: Of the answer.
            seconds: It took.
        """
        with self._lock:
            self._answers[status] += 1
            self._seconds += seconds
            self._below.update(end for end in _SECONDS if seconds <= end)

    def predicted(self, images: int) -> None:
        """Count a batch.

        Args:
            images: Its size.
        """
        with self._lock:
            self._batches += 1
            self._images += images

    def text(self, *, waiting: int) -> str:
        """Write the numbers.

        Args:
            waiting: How many images wait.

        Returns:
            The text.
        """
        with self._lock:
            total = sum(self._answers.values())
            lines = [
                *_metric("requests_total", "counter", {f'{{status="{s}"}}': n for s, n in self._answers.items()}),
                *_metric("images_total", "counter", {"": self._images}),
                *_metric("batches_total", "counter", {"": self._batches}),
                *_metric("images_waiting", "gauge", {"": waiting}),
                *_metric("uptime_seconds", "gauge", {"": round(self.uptime, 3)}),
                *_metric("resident_memory_bytes", "gauge", {"": resident_memory()}),
                "# TYPE imgcls_request_seconds histogram",
                *(f'imgcls_request_seconds_bucket{{le="{end}"}} {self._below[end]}' for end in _SECONDS),
                f'imgcls_request_seconds_bucket{{le="+Inf"}} {total}',
                f"imgcls_request_seconds_sum {self._seconds:.6f}",
                f"imgcls_request_seconds_count {total}",
            ]
        return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, values: dict[str, float]) -> list[str]:
    return [f"# TYPE imgcls_{name} {kind}", *(f"imgcls_{name}{labels} {value}" for labels, value in values.items())]


def resident_memory() -> int:
    """Measure the memory of this process.

    Returns:
        Bytes in RAM; 0 where the system has no `/proc`.
    """
    status = Path("/proc/self/statm")
    return int(status.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") if status.exists() else 0
