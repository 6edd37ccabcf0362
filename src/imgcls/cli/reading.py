"""What commands share: arguments become sets, changes and files; a run is told in a few lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imgcls
from imgcls.core.errors import ConfigError

__all__ = ["CONFIGS", "changes_of", "image_files", "open_set", "print_result", "reader_of"]

#: The suffixes of configurations.
CONFIGS = frozenset({".yaml", ".yml"})

_TABLES = {".csv": ("csv", "path"), ".tsv": ("csv", "path"), ".npz": ("npz", "path")}


def open_set(path: Path, options: dict[str, Any]) -> imgcls.Dataset:
    """Open what a path holds, which the path tells: a folder, a table, an archive or a configuration.

    Args:
        path: The path.
        options: Of the reader.

    Returns:
        The set.

    Raises:
        ConfigError: if a configuration has no `data`.
    """
    from imgcls.core.config import replace
    from imgcls.core.config_files import read_config

    if path.suffix.lower() in CONFIGS:
        loaded = read_config(path)
        if not isinstance(loaded.get("data"), dict):
            raise ConfigError(f"{str(path)!r} must hold 'data', with 'from' and the options of that reader")
        return imgcls.Dataset.from_config(replace(loaded["data"], options))
    return imgcls.Dataset.from_config({**reader_of(path), **options})


def reader_of(path: Path) -> dict[str, Any]:
    """Say which reader opens a path.

    Args:
        path: A folder, a table or an archive.

    Returns:
        The reader and its first option, as in a configuration.
    """
    name, first = _TABLES.get(path.suffix.lower(), ("folder", "root"))
    return {"from": name, first: str(path)}


def changes_of(texts: Sequence[str] | None) -> dict[str, Any]:
    """Read changes of a configuration.

    Args:
        texts: As `stages.0.lr=1e-4`; values are YAML.

    Returns:
        The values by path.

    Raises:
        ConfigError: if one has no path or no sign.
    """
    return dict(map(_change, texts or ()))


def _change(text: str) -> tuple[str, Any]:
    from imgcls.core.config import from_yaml

    path, sign, value = text.partition("=")
    if not sign or not path:
        raise ConfigError(f"changes must read key=value, got {text!r}")
    return path, from_yaml(value, source=text)


def image_files(paths: Sequence[Path]) -> list[Path]:
    """Find images.

    Args:
        paths: Images, or folders that hold some at any depth.

    Returns:
        The images, those of a folder in order of their names.

    Raises:
        ConfigError: if a folder has none.
    """
    from imgcls.data.images import EXTENSIONS

    found: list[Path] = []
    for path in paths:
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in EXTENSIONS) if path.is_dir() else [path]
        if not inside:
            raise ConfigError(f"'images' must name images or folders of them, got none in {str(path)!r}")
        found += inside
    return found


def print_result(run: imgcls.Run) -> None:
    """Print the numbers that matter most, and where the run lies.

    Args:
        run: A finished run.
    """
    split = "test" if (run.folder / "predictions_test.npz").exists() else "val"
    if split == "val":
        print("No test records: the validation numbers below also chose the checkpoint, so they flatter.")
    for name in ("accuracy", "balanced_accuracy", "roc_auc", "average_precision"):
        value, low, high = run.value(name, split=split)
        ends = "no interval" if math.isnan(low) else f"95 % interval {low:.4f} to {high:.4f}"
        print(f"{split} {name.replace('_', ' ')}: {value:.4f} ({ends})")
    print(f"Run: {run.folder}\nReport: {(run.folder / 'report.html').resolve()}")
