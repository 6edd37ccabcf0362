"""The files of a study: `study.json`, what it is about, and `trials/000007.json`, one per trial.

Each file is written as a whole, so a kill at any moment loses at most the step being taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from imgcls.core.errors import ConfigError, RunError, listing
from imgcls.core.folders import read_json, write_json
from imgcls.search.plain import canonical
from imgcls.search.trials import Entry, Outcome, Trial

__all__ = ["agree", "load", "save"]


def agree(folder: Path, facts: Mapping[str, Any]) -> None:
    """Refuse to continue a study that was about something else.

    Until the first trial is asked anything may change; `study.json` is then written anew.

    Args:
        folder: The folder of the study; it is made.
        facts: What must not change, as plain values by name.

    Raises:
        ConfigError: if something did; the first difference is named.
        RunError: if the folder has trials, but its `study.json` is missing or damaged.
    """
    path = folder / "study.json"
    if not any(_files(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, dict(facts))
        return
    kept = read_json(path)
    if not isinstance(kept, Mapping) or set(kept) != set(facts):
        raise RunError(f"'folder' must hold a study of this version, got {str(path)!r}; use a new folder")
    for name in facts:
        if canonical(kept[name]) != canonical(facts[name]):
            raise ConfigError(_difference(name, kept, facts, folder))


def _difference(name: str, kept: Mapping[str, Any], facts: Mapping[str, Any], folder: Path) -> str:
    old, new = kept[name], facts[name]
    if name.startswith("space"):
        name, old, new = _difference_of_spaces(kept["space"], facts["space"])
    return f"'{name}' must stay {old} as in the study of {str(folder)!r}, got {new}; change it back or use a new folder"


def _difference_of_spaces(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, str, str]:
    for path in [*old, *(path for path in new if path not in old)]:
        before, after = (canonical(space[path]) if path in space else "absent" for space in (old, new))
        if before != after:
            return f"space.{path}", before, after
    return "space", f"in the order {listing(old)}", listing(new)


def load(folder: Path) -> dict[int, Entry]:
    """Read the trials of a study.

    Args:
        folder: The folder of the study, which may be absent.

    Returns:
        The trials by number.

    Raises:
        RunError: if a file is damaged.
    """
    entries = [_read(path) for path in _files(folder)]
    return {entry.trial.number: entry for entry in entries}


def save(folder: Path, entry: Entry) -> None:
    """Write a trial.

    Args:
        folder: The folder of the study.
        entry: The trial; an earlier version of it is replaced.
    """
    outcome = None
    if entry.outcome is not None:
        numbers = {name: list(map(_written, getattr(entry.outcome, name))) for name in ("values", "constraints")}
        outcome = {**attrs.asdict(entry.outcome), **numbers}
    reports = {str(step): _written(value) for step, value in entry.reports.items()}
    path = folder / "trials" / f"{entry.trial.number:06d}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**attrs.asdict(entry.trial), "outcome": outcome, "reports": reports})


# JSON has no NaN and no infinity.
def _written(value: float) -> float | str:
    return value if math.isfinite(value) else repr(value)


def _files(folder: Path) -> list[Path]:
    return sorted((folder / "trials").glob("[0-9]*.json"))


def _read(path: Path) -> Entry:
    plain = read_json(path)
    try:
        outcome, reports = plain.pop("outcome"), plain.pop("reports")
        if outcome is not None:
            numbers = {name: [float(value) for value in outcome[name]] for name in ("values", "constraints")}
            outcome = Outcome(**{**outcome, **numbers})
        reports = {int(step): float(value) for step, value in reports.items()}
        return Entry(trial=Trial(**plain), outcome=outcome, reports=reports)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"'path' must name a trial of a study, got {str(path)!r}; it is damaged: {error}") from None
