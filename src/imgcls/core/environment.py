"""What a run ran on: for the reader who wants to repeat it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from typing import Any

__all__ = ["environment"]

_PACKAGES = ("imgcls", "torch", "torchvision", "timm", "torchmetrics", "numpy", "pandas", "pillow", "scikit-learn")


def environment() -> dict[str, Any]:
    """Describe machine, packages and the state of the code.

    Returns:
        Plain values: platform, Python, processor, package versions, git commit (None
        outside of a repository).
    """
    return {
        "platform": platform.platform(),
        "python": sys.version.split()[0],
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "git": _git(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    git = shutil.which("git")
    if git is None:
        return None
    commit = _output(git, "rev-parse", "HEAD")
    return None if commit is None else {"commit": commit, "changed": bool(_output(git, "status", "--porcelain"))}


def _output(*command: str) -> str | None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (fixed words)
    return done.stdout.strip() if done.returncode == 0 else None
