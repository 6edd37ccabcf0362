"""The test ledger: how often a test set was opened, and by how many configurations.

A test set that is looked at again and again is used for selection, whoever does it. So each opening is one line of
`test_ledger.jsonl` in the folder that holds the runs of a project; lines are only ever added. The set is known by a
fingerprint of its records and labels, so another path or more training data do not hide that it is the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from imgcls.core.folders import hold
from imgcls.evaluation.predictions import Predictions

__all__ = ["LEDGER", "Openings", "digest_of", "note_opening", "openings", "test_fingerprint"]

#: The file, beside the folders of runs.
LEDGER = "test_ledger.jsonl"

#: Options that change where and how fast something is computed, but not what is tried.
_IDLE = frozenset(
    {
        *("out", "trackers", "store", "workers", "executor", "parallel", "device", "compile", "profile", "max_time"),
        *("checkpoint_every", "snapshots", "cache_features"),
    }
)


@attrs.frozen(kw_only=True)
class Openings:
    """How often a test set was opened.

    Attributes:
        fingerprint: That of the test set.
        count: How often it was opened.
        configurations: By how many different configurations.
        first: When it was opened first, as an ISO date and time; None if never.
        last: When it was opened last.
    """

    fingerprint: str
    count: int
    configurations: int
    first: str | None = None
    last: str | None = None

    def __str__(self) -> str:
        if self.count <= 1:
            return "These test records were opened once, by this run"
        several = f"{self.configurations} configurations" if self.configurations > 1 else "one configuration"
        caution = "; the best of several numbers on the same records flatters" if self.configurations > 1 else ""
        return f"These test records were opened {self.count} times by {several}{caution}"


def test_fingerprint(predictions: Predictions) -> str:
    """Compute the fingerprint of a test set.

    Args:
        predictions: Of its records, in any order, once or several times each.

    Returns:
        Hexadecimal digits that depend on ids and labels alone.
    """
    _, firsts = np.unique(predictions.ids, return_index=True)
    labels = predictions.names(predictions.labels[firsts])
    digest = hashlib.sha256()
    for name, label in zip(predictions.ids[firsts].tolist(), labels.tolist(), strict=True):
        digest.update(json.dumps([name, label]).encode())
    return digest.hexdigest()[:32]


test_fingerprint.__test__ = False  # type: ignore[attr-defined]  # pytest takes the name for a test


def digest_of(configuration: Mapping[str, Any]) -> str:
    """Compute what tells one configuration from another.

    Args:
        configuration: As `Trainer.to_config` gives it.

    Returns:
        Hexadecimal digits; options that change nothing but place and speed do not matter.
    """
    told = {name: value for name, value in configuration.items() if name not in _IDLE}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]


def note_opening(folder: Path, predictions: Predictions, *, configuration: str, run: str, key: str) -> Openings:
    """Note that test records were judged.

    Args:
        folder: That of the project, which holds the runs.
        predictions: Of the test records.
        configuration: What `digest_of` gives.
        run: The run that judged them.
        key: What tells this opening from others, so that a run that was killed and goes on counts once.

    Returns:
        How often they were opened, with this time.
    """
    found = test_fingerprint(predictions)
    line = {"test": found, "configuration": configuration, "run": run, "key": key, "time": _now()}
    with hold(folder / f".{LEDGER}.lock"):
        if not any(known["test"] == found and known["key"] == key for known in _lines(folder)):
            _append(folder / LEDGER, json.dumps(line))
    return openings(folder, found)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


# The end of a line that was cut off by a kill is made up for, so that it spoils nothing but itself.
def _append(path: Path, line: str) -> None:
    with path.open("a+b") as file:
        torn = file.tell() > 0 and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n"
        file.write((b"\n" if torn else b"") + line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def openings(folder: Path, fingerprint: str) -> Openings:
    """Look up how often a test set was opened.

    Args:
        folder: That of the project.
        fingerprint: What `test_fingerprint` gives.

    Returns:
        What the ledger says.
    """
    lines = [line for line in _lines(folder) if line["test"] == fingerprint]
    times = sorted(str(line["time"]) for line in lines)
    return Openings(
        fingerprint=fingerprint,
        count=len(lines),
        configurations=len({line["configuration"] for line in lines}),
        first=times[0] if times else None,
        last=times[-1] if times else None,
    )


# A line that a kill cut off, or that is none, says nothing.
def _lines(folder: Path) -> Iterator[dict[str, Any]]:
    path = folder / LEDGER
    if not path.exists():
        return
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and line.keys() >= {"test", "configuration", "key", "time"}:
            yield line
