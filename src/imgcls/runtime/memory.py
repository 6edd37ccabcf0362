"""Memory that the C library would give back to the system, only to ask for it again."""

from __future__ import annotations

import ctypes
import functools
import sys

__all__ = ["keep_memory"]

# Numbers of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


@functools.cache
def keep_memory() -> None:
    """Let freed memory of tensors stay with the process.

    glibc takes every large block from the system and gives it back when it is freed. Each of its
    pages is then zeroed and mapped again when the next tensor is made, which takes half of the time of
    augmentation on a CPU, and some of that of training. The process stays as large as it ever was. With
    other C libraries nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 2**30)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
