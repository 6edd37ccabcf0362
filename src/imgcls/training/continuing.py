"""Whether a run's folder is new, unfinished or finished, and whether what is in it may be continued."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from imgcls.core.config import from_yaml, to_yaml
from imgcls.core.errors import ConfigError, RunError, listing
from imgcls.core.folders import new_folder

__all__ = ["RESUME", "find_folder", "is_begun", "is_finished", "refuse_changed"]

#: How `fit` meets a folder that holds a run: `auto` continues it, `never` refuses it.
RESUME = ("auto", "never")

#: Options that change nothing in what is learnt.
_FREE = frozenset(
    {
        "executor",
        "parallel",
        "out",
        "workers",
        "store",
        "checkpoint_every",
        "snapshots",
        "max_time",
        "callbacks",
        "trackers",
        "profile",
    }
)

#: What a process leaves that was killed before its training began.
_BEGINNINGS = frozenset(
    {"environment.json", "manifest.csv", "splits.json", "model.json", "skipped.csv", "logs", "fit.json"}
)

#: Addresses in memory, which differ from process to process.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def find_folder(out: Path | str | None, resume: str) -> Path:
    """Find the folder of a run.

    Args:
        out: The folder, or None for the next free one.
        resume: One of `RESUME`.

    Returns:
        The folder: new, or with a run that may be continued.

    Raises:
        RunError: if it holds something else.
    """
    if resume not in RESUME:
        raise ConfigError(f"'resume' must be one of {list(RESUME)}, got {resume!r}")
    if out is None or not Path(out).exists():
        return new_folder(out)
    folder = Path(out)
    if resume == "auto" and (is_begun(folder) or _is_beginning(folder)):
        return folder
    return new_folder(folder)


def is_begun(folder: Path) -> bool:
    """Say whether a run began in a folder.

    Args:
        folder: The folder.

    Returns:
        Whether its configuration is there, which is written when all else is prepared.
    """
    return (folder / "config.yaml").exists()


def is_finished(folder: Path) -> bool:
    """Say whether the run of a folder is complete.

    Args:
        folder: The folder.

    Returns:
        Whether `run.json` is there.
    """
    return (folder / "run.json").exists()


def _is_beginning(folder: Path) -> bool:
    return all(path.name in _BEGINNINGS or path.name.startswith(".") for path in folder.iterdir())


def refuse_changed(folder: Path, wanted: Mapping[str, Any]) -> None:
    """Refuse to continue a run with other options.

    Args:
        folder: The run's folder.
        wanted: The options now, as plain values.

    Raises:
        RunError: if one differs that changes what is learnt; with both values.
    """
    old = from_yaml((folder / "config.yaml").read_text(encoding="utf-8"))
    new = from_yaml(to_yaml(wanted))
    found = [text for text in _differences(old, new, "") if text.split(":")[0].split(".")[0] not in _FREE]
    if found:
        raise RunError(
            f"the run in {str(folder)!r} must be continued with its own options, got {listing(found, limit=5)}; put "
            "them back, or choose another 'out'"
        )


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, pair in enumerate(zip(old, new, strict=True)):
            yield from _differences(*pair, f"{path}.{number}")
    elif _ADDRESS.sub("", repr(old)) != _ADDRESS.sub("", repr(new)):
        yield f"{path}: {new!r} instead of {old!r}"
