"""Which files of a run's folder make its models."""

from __future__ import annotations

from pathlib import Path

__all__ = ["model_files"]

_PATTERNS = ("model.json", "thresholds.json", "fold_*/checkpoints/best/**/*")


def model_files(folder: Path) -> list[Path]:
    """List what a prediction needs: the description, the thresholds and the best checkpoint of each fold.

    Args:
        folder: The run's folder.

    Returns:
        The files in order.
    """
    return sorted(path for pattern in _PATTERNS for path in folder.glob(pattern) if path.is_file())
