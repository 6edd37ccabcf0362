"""From a table to the records of a set: id, label and, where known, group, split, weight, mask and views."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import ConfigError, DataError, listing
from imgcls.core.progress import say
from imgcls.data import files, labels
from imgcls.data.columns import MASK, ROLES, VIEW, Columns, view_column
from imgcls.data.companions import by_stem, companions
from imgcls.data.naming import text

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "SPLITS",
    "Records",
    "companion_columns",
    "other_names",
    "refuse_gaps",
    "to_records",
    "with_files",
    "with_groups",
    "with_splits",
]

#: Names of folders and of values in a split column, and the split they stand for.
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@attrs.frozen(kw_only=True, eq=False)
class Records:
    """What a reader found.

    Attributes:
        frame: Columns `id`, `label` and, where known, `group`, `split`, `weight`, `mask`,
            `view:<name>`, and others.
        multilabel: Whether a record may have several labels.
        sizes: Bytes of the files of each record: images, then masks, then views, (R, N); None
            for images in memory.
        rows: The row of each record in its file, (N,), or None.
        arrays: Images in memory, or None.
    """

    frame: pd.DataFrame
    multilabel: bool = False
    sizes: NDArray[np.int64] | None = None
    rows: NDArray[np.int64] | None = None
    arrays: Any = None


def to_records(
    table: pd.DataFrame, root: Path, columns: Columns, *, stems: bool = False, rows: NDArray[np.int64] | None = None
) -> Records:
    """Turn a table into records and check that every label and file is there.

    Args:
        table: The table.
        root: The folder that the images are below.
        columns: Which columns mean what.
        stems: Whether images are named without folder or extension.
        rows: The row of each record in its file, (N,), for messages.

    Returns:
        The records with the table's other columns.

    Raises:
        DataError: if a column, label, group or file is missing, or an image appears twice.
    """
    columns.check(table.columns)
    if table.empty:
        raise DataError("the table must have records, got none")
    found = _texts(table, columns, rows)
    if stems:
        found["id"] = by_stem(root, found["id"], rows)
    rest = table.drop(columns=columns.used(table.columns))
    rest = rest.rename(columns=_told(other_names(list(rest.columns))))
    frame = rest.assign(**found)[[*found, *rest.columns]]
    _refuse_twice(frame["id"], rows)
    pattern = None if columns.group in table.columns else columns.group
    frame, sizes = with_files(with_groups(with_splits(frame), pattern), root, _patterns(columns, table), rows=rows)
    return Records(frame=frame, multilabel=columns.multilabel, sizes=sizes, rows=rows)


# A column called 'group' is likely to be meant as one.
def _told(names: dict[str, str]) -> dict[str, str]:
    for name, other in names.items():
        say(f"The column {name!r} has no role and is kept as {other!r}; give {name.partition(':')[0]}=... to use it")
    return names


def other_names(columns: Sequence[str]) -> dict[str, str]:
    """Name the columns anew that have the name of a role without having it.

    Args:
        columns: The columns without a role.

    Returns:
        New names by old ones.
    """
    found: dict[str, str] = {}
    for name in columns:
        if name in ROLES or name.startswith(VIEW):
            other = f"{name}_" if name in ROLES else name.replace(VIEW, f"{VIEW[:-1]}_:", 1)
            while other in columns or other in found.values():
                other += "_"
            found[name] = other
    return found


def _texts(table: pd.DataFrame, columns: Columns, rows: NDArray[np.int64] | None) -> dict[str, Any]:
    words = {role: _words(role, table[name]) for role, name in _roles(columns, table).items()}
    named = {**columns.named(), "group": columns.group, "label": columns.labels[0]}
    for role, values in words.items():
        if role in named and not (role == "label" and columns.multilabel):
            refuse_gaps(values, role, named[role], rows)
    ids = list(map(files.posix, words.pop("image").tolist()))
    files.refuse_paths(ids, rows)
    found: dict[str, Any] = {"id": ids, **words, "label": _labels(table, columns, words["label"], rows)}
    if "weight" in words:
        found["weight"] = _weights(words["weight"], rows)
    return found


# Paths are nearly all different, so that looking for equal ones would take longer.
def _words(role: str, values: pd.Series[Any]) -> NDArray[np.object_]:
    if role in {"label", "group"}:
        return labels.whole_numbers(labels.words(values))
    if role in {"split", "weight"}:
        return labels.words(values)
    return np.array([text(value) for value in values.astype(object).where(values.notna(), "").tolist()], dtype=object)


def _roles(columns: Columns, table: pd.DataFrame) -> dict[str, str]:
    roles = {"image": columns.image, "label": columns.labels[0], "group": columns.group, "split": columns.split}
    roles |= {"weight": columns.weight, MASK: columns.mask}
    roles |= {view_column(view): name for view, name in columns.views.items()}
    return {role: name for role, name in roles.items() if name is not None and name in table.columns}


def _labels(
    table: pd.DataFrame, columns: Columns, first: NDArray[np.object_], rows: NDArray[np.int64] | None
) -> NDArray[np.object_]:
    if isinstance(columns.label, tuple):
        return labels.one_hot_text(table[list(columns.label)], lambda positions: files.places(positions, rows))
    if columns.label_separator is not None:
        return labels.split_text(first, columns.label_separator)
    labels.refuse_measurements(first, "label")
    return first


def _weights(values: NDArray[np.object_], rows: NDArray[np.int64] | None) -> NDArray[np.float64]:
    import pandas as pd

    numbers = pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(dtype=np.float64)
    odd = np.flatnonzero(~np.isfinite(numbers) | (numbers < 0))
    if len(odd):
        where = files.places(odd, rows)
        raise DataError(f"'weight' must hold numbers from 0 on, got {values[odd[0]]!r} in {where}")
    return numbers


def refuse_gaps(
    values: NDArray[np.object_], role: str, column: str | None, rows: NDArray[np.int64] | None = None
) -> None:
    """Refuse a column with empty places.

    Args:
        values: The column as text, (N,).
        role: What it is, for the message.
        column: Its name, for the message.
        rows: The row of each record in its file, (N,), for the message.

    Raises:
        DataError: if a place is empty.
    """
    empty = np.flatnonzero(values == "")
    if len(empty):
        where = f"column {column!r} of {files.places(empty, rows)}"
        raise DataError(f"'{role}' must be filled in every row, got nothing in {where}")


def _refuse_twice(ids: pd.Series[str], rows: NDArray[np.int64] | None) -> None:
    twice = np.flatnonzero(ids.duplicated().to_numpy())
    if len(twice):
        raise DataError(f"each image must appear once, got {ids.iloc[twice[0]]!r} again in {files.places(twice, rows)}")


def with_splits(frame: pd.DataFrame) -> pd.DataFrame:
    """Bring the splits of records to the names `train`, `val` and `test`.

    Args:
        frame: Records, with or without a column `split`.

    Returns:
        The records.

    Raises:
        DataError: if a split has another name.
    """
    if "split" not in frame:
        return frame
    lower = frame["split"].astype(str).str.lower()
    unknown = sorted(set(lower.unique()) - set(SPLITS))
    if unknown:
        raise DataError(f"'split' must say train, val or test, got {listing(unknown)}")
    return frame.assign(split=lower.map(SPLITS))


def with_groups(frame: pd.DataFrame, pattern: str | None) -> pd.DataFrame:
    """Find the groups of records in their paths.

    Args:
        frame: Records.
        pattern: A regular expression that is searched in each id, or None.

    Returns:
        The records, with a column `group` where there is an expression.

    Raises:
        ConfigError: if the expression is none.
        DataError: if a path has no match.
    """
    if pattern is None:
        return frame
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"'group' must be a regular expression, got {pattern!r}; {error}") from None
    matches = [expression.search(path) for path in frame["id"]]
    found = [text(match.group(min(expression.groups, 1)) or "") if match else "" for match in matches]
    missed = [path for path, name in zip(frame["id"], found, strict=True) if not name]
    if missed:
        raise DataError(
            f"'group' must match every path, got no match of {pattern!r} in {len(missed)} of {len(matches)}: "
            f"{listing(missed, limit=3)}"
        )
    return frame.assign(group=found)


def _patterns(columns: Columns, table: pd.DataFrame) -> dict[str, str]:
    named = {MASK: columns.mask, **{view_column(view): name for view, name in columns.views.items()}}
    return {role: name for role, name in named.items() if name is not None and name not in table.columns}


def with_files(
    frame: pd.DataFrame, root: Path, patterns: Mapping[str, str], *, rows: NDArray[np.int64] | None = None
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Find masks and views, and look at every file.

    Args:
        frame: Records; columns `mask` and `view:<name>` hold paths below `root`.
        root: The folder.
        patterns: Patterns of masks and views that have no column, by column.
        rows: The row of each record in its file, (N,), for messages.

    Returns:
        The records with the columns, and the bytes of their files: images, then masks, then
        views, (R, N).

    Raises:
        DataError: if a file is missing or outside of `root`, or a record has no picture of a view.
    """
    ids = frame["id"].tolist()
    found = {role: companions(root, ids, pattern, what=role) for role, pattern in patterns.items()}
    for role, matches in found.items():
        _refuse_shared(ids, matches, role)
    frame = frame.assign(**found)
    names = {"id": ids}
    for role in companion_columns(frame):
        names[role] = list(map(files.posix, frame[role].tolist()))
        files.refuse_paths(names[role], rows)
        if role != MASK:
            refuse_gaps(np.array(names[role], dtype=object), role, role, rows)
    sizes = [files.facts(root, paths, rows)[0] for paths in names.values()]
    return frame.assign(**{role: paths for role, paths in names.items() if role != "id"}), np.stack(sizes)


# In a folder of their own, the masks of two images of one name would be one file.
def _refuse_shared(ids: Sequence[str], matches: Sequence[str], what: str) -> None:
    first: dict[str, str] = {}
    for name, match in zip(ids, matches, strict=True):
        if match and first.setdefault(match, name) != name:
            raise DataError(
                f"{what!r} must match one image a file, got {match!r} for {first[match]!r} and {name!r}; put <folder> "
                "into the pattern, or remove one of them"
            )


def companion_columns(frame: pd.DataFrame) -> Sequence[str]:
    """Name the columns that hold files beside the images.

    Args:
        frame: Records.

    Returns:
        `mask`, then the views in order, where they exist.
    """
    return [name for name in frame.columns if name == MASK] + sorted(c for c in frame.columns if c.startswith(VIEW))
