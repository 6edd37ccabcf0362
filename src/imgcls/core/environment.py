"""What a run ran on: for the reader who wants to repeat it."""

from __future__ import annotations

import functools
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from imgcls.core.dumping import dump
from imgcls.core.plugins import all_plugins

__all__ = ["environment"]

#: Variables that say how many threads libraries of mathematics use, and which devices are seen.
_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUDA_VISIBLE_DEVICES")

#: Seconds that git may take in a large working directory.
_PATIENCE = 10


def environment(**facts: Any) -> dict[str, Any]:
    """Describe machine, packages and the state of the code; what cannot be found out is None.

    Args:
        **facts: What the caller knows besides, such as runtime, GPU, threads, seed and the
            fingerprint of the set; it is added in plain form.

    Returns:
        Plain values: platform, Python, processor, cores (of the machine, and those that the
        process may use), memory in bytes, versions of imgcls, of what it depends on and of
        the distributions that bring plugins, git commit of the working directory (None
        outside of a repository), command line, variables that set threads and devices.
    """
    return {
        "platform": platform.platform(),
        "python": sys.version.split()[0],
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "usable_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": _memory(),
        "packages": {name: _version(name) for name in _packages()},
        "git": _git(),
        "command": list(sys.argv),
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        **{name: dump(value) for name, value in facts.items()},
    }


# The name that Python gives is often empty or the architecture only.
def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return named[1].strip() if named else platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # of Windows and others
        return None


# What imgcls requires (extras for users too, where they are installed), and the distributions that bring plugins.
def _packages() -> list[str]:
    try:
        required = metadata.requires("imgcls") or []
    except metadata.PackageNotFoundError:
        required = []
    used = [text for text in required if not re.search(r"extra == .(dev|docs|all)", text)]
    needed = [re.split(r"[^\w.-]", text, maxsplit=1)[0] for text in used]
    theirs = {plugin.distribution.partition(" ")[0] for plugin in all_plugins()}
    return ["imgcls", *sorted((theirs | {name for name in needed if _version(name)}) - {"imgcls"}, key=str.lower)]


# Asked for again by every run of a search; reading the metadata takes longest.
@functools.cache
def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    commit = _output("rev-parse", "HEAD")
    return None if commit is None else {"commit": commit, "changed": bool(_output("status", "--porcelain"))}


def _output(*words: str) -> str | None:
    git = shutil.which("git")
    try:
        done = subprocess.run(  # noqa: S603 (fixed words)
            [git or "git", *words], capture_output=True, text=True, check=False, timeout=_PATIENCE
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
