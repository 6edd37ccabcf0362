"""Several sets as one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgcls.core.errors import DataError
from imgcls.data.columns import MASK
from imgcls.data.memory import joined
from imgcls.data.records import Records, companion_columns

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["together"]


def together(parts: Sequence[Records], roots: Sequence[Path | None]) -> tuple[Records, Path | None]:
    """Put the records of several sets behind each other.

    Args:
        parts: The records of each set.
        roots: The root of each set, None for images in memory.

    Returns:
        All records, and the folder that their files are below: the deepest one above all roots.

    Raises:
        DataError: if some sets have files and others none, some have groups, splits, weights or a
            view and others not, or an image is in two of them.
    """
    if len({part.multilabel for part in parts}) > 1:
        raise DataError("'datasets' must all have one label a record, or all several")
    frames = _in_memory(parts) if all(root is None for root in roots) else _below(parts, roots)
    root = None if roots[0] is None else _common(roots)
    frame = _stacked(frames)
    twice = frame["id"][frame["id"].duplicated()]
    if len(twice):
        raise DataError(f"'datasets' must have no image in common, got {twice.iloc[0]!r} in two of them")
    if root is None:
        arrays = joined([part.arrays for part in parts])
        return Records(frame=frame, multilabel=parts[0].multilabel, arrays=arrays), None
    sizes = np.concatenate([_sizes(part, companion_columns(frame)) for part in parts], axis=1)
    return Records(frame=frame, multilabel=parts[0].multilabel, sizes=sizes), root


def _in_memory(parts: Sequence[Records]) -> list[pd.DataFrame]:
    ids = {name for part in parts for name in part.frame["id"]}
    if len(ids) == sum(len(part.frame) for part in parts):
        return [part.frame for part in parts]
    # Positions in one set say nothing in several; with the number of the set they do.
    return [part.frame.assign(id=f"{number}/" + part.frame["id"]) for number, part in enumerate(parts)]


def _below(parts: Sequence[Records], roots: Sequence[Path | None]) -> list[pd.DataFrame]:
    if any(root is None for root in roots):
        raise DataError("'datasets' must all have files or all be in memory, got both")
    common, frames = _common(roots), []
    for part, root in zip(parts, roots, strict=True):
        assert root is not None
        below = Path(os.path.realpath(root)).relative_to(common).as_posix()
        prefix = "" if below == "." else f"{below}/"
        frame = part.frame.assign(id=prefix + part.frame["id"])
        for column in companion_columns(frame):
            frame[column] = [prefix + name if name else "" for name in frame[column]]
        frames.append(frame)
    return frames


def _common(roots: Sequence[Path | None]) -> Path:
    try:
        return Path(os.path.commonpath([os.path.realpath(root) for root in roots if root is not None]))
    except ValueError:
        raise DataError(f"'datasets' must lie below one folder, got {[str(root) for root in roots]!r}") from None


def _stacked(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    masked = any(MASK in frame for frame in frames)
    frames = [frame if MASK in frame or not masked else frame.assign(**{MASK: ""}) for frame in frames]
    columns = {name for frame in frames for name in [*companion_columns(frame), "group", "split", "weight"]}
    for name in sorted(columns):
        held = sum(name in frame for frame in frames)
        if 0 < held < len(frames):
            raise DataError(f"'datasets' must all have a column {name!r} or none, got {held} of {len(frames)} with it")
    return pd.concat(frames, ignore_index=True)


def _sizes(part: Records, columns: Sequence[str]) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    assert part.sizes is not None
    own = ["id", *companion_columns(part.frame)]
    rows = [part.sizes[own.index(name)] if name in own else np.zeros_like(part.sizes[0]) for name in ["id", *columns]]
    return np.stack(rows)
