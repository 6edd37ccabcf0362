"""Trials for the HParams page of TensorBoard, where it is installed."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path

from imgcls.search.plain import canonical
from imgcls.search.trials import Entry

__all__ = ["write_hparams"]


def write_hparams(folder: Path, entries: Sequence[Entry], *, metric: str) -> None:
    """Write the trials that are complete and not written yet; nothing without TensorBoard.

    Args:
        folder: Where they go, each in a folder of its own.
        entries: The trials.
        metric: The name of their value.
    """
    if importlib.util.find_spec("tensorboard") is None:
        return
    new = [entry for entry in entries if _is_done(entry) and not (folder / _name(entry)).exists()]
    for entry in new:
        _write(folder / _name(entry), entry, metric)


def _is_done(entry: Entry) -> bool:
    outcome = entry.outcome
    return outcome is not None and outcome.state == "complete" and math.isfinite(outcome.values[0])


def _name(entry: Entry) -> str:
    return f"trial_{entry.trial.number:04d}"


def _write(folder: Path, entry: Entry, metric: str) -> None:
    from torch.utils.tensorboard.summary import hparams, scalar
    from torch.utils.tensorboard.writer import FileWriter

    assert entry.outcome is not None
    params = {
        path: value if isinstance(value, bool | int | float | str) else canonical(value)
        for path, value in entry.trial.params.items()
    }
    name, value = f"val/{metric}", entry.outcome.values[0]
    writer = FileWriter(str(folder))
    for summary in hparams(params, {name: value}):  # type: ignore[no-untyped-call]
        writer.add_summary(summary)
    writer.add_summary(scalar(name, value), entry.trial.number)  # type: ignore[no-untyped-call]
    writer.close()
