"""From folders, tables and arrays to a frame of records: id, label and where known group and split."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgcls.core.errors import ConfigError, DataError, listing
from imgcls.data.images import EXTENSIONS
from imgcls.data.naming import text

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "array_records",
    "file_facts",
    "folder",
    "pixels",
    "places",
    "records",
    "table",
    "to_pandas",
]

#: The columns of a record that mean something.
_ROLES = ("id", "label", "group", "split")

#: Names of folders and of values in a split column, and the split they stand for.
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

#: What stands for the bytes of a file name that is not UTF-8.
_NO_TEXT = re.compile("[\ud800-\udfff]")


def folder(root: Path, group: str | None) -> pd.DataFrame:
    """List the images of class folders.

    Args:
        root: The folder.
        group: A regular expression for the group, or None.

    Returns:
        Records ordered by path.

    Raises:
        DataError: if the folder is missing, holds no images, mixes layouts or has a file name
            that is no text.
    """
    import pandas as pd

    if not root.is_dir():
        raise DataError(f"'root' must be an existing folder, got {str(root)!r}")
    paths = sorted(_image_paths(root))
    _refuse_no_text(paths)
    tops = {path.split("/", 1)[0] for path in paths}
    splits = {top for top in tops if text(top).lower() in _SPLITS}
    split = bool(tops) and splits == tops
    _refuse_mixed(paths, splits, tops - splits)
    depth = 2 if split else 1
    parts = [path.split("/") for path in paths]
    loose = ["/".join(part) for part in parts if len(part) <= depth or not text(part[depth - 1])]
    if not paths or loose:
        layout = "split folders with class folders" if split else "class folders"
        got = f"{listing(loose, limit=3)} outside of them" if loose else f"no images below {str(root)!r}"
        raise DataError(f"'root' must hold {layout} of images, got {got}")
    frame = pd.DataFrame({"id": paths, "label": [text(part[depth - 1]) for part in parts]})
    if split:
        frame["split"] = [_SPLITS[text(part[0]).lower()] for part in parts]
    return _with_groups(frame, group)


# A class may be called 'train', but then its images lie right in it.
def _refuse_mixed(paths: Sequence[str], splits: set[str], others: set[str]) -> None:
    inner = {path.split("/", 1)[0] for path in paths if path.count("/") > 1}
    if others and splits and splits <= inner:
        raise DataError(
            f"'root' must hold split folders or class folders, got both {listing(sorted(splits))} and "
            f"{listing(sorted(others), limit=3)}; move the latter away"
        )


def _image_paths(root: Path) -> Iterable[str]:
    for place, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(place).relative_to(root).as_posix()
        prefix = "" if below == "." else f"{below}/"
        for name in files:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS:  # noqa: PTH122 (speed)
                yield prefix + name


def table(path: Path, *, columns: Mapping[str, str | None]) -> pd.DataFrame:
    """Read a CSV or TSV file.

    Args:
        path: The file; `.tsv` means tabs.
        columns: The columns that will be used, which are read as text.

    Returns:
        The table.

    Raises:
        DataError: if the file is missing or no table.
    """
    import pandas as pd

    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    kinds = {name: str for name in columns.values() if name is not None}
    try:
        frame = pd.read_csv(
            path,
            sep=separator,
            dtype=kinds,
            encoding="utf-8-sig",
            keep_default_na=False,
            na_values=[""],
            low_memory=False,
        )
    except OSError:
        raise DataError(f"'path' must name an existing file, got {str(path)!r}") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"'path' must name a UTF-8 table, got {str(path)!r}; {error}") from None
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes surplus fields for an index
        raise DataError(f"'path' must name a table, got rows with more fields than the header in {str(path)!r}")
    return frame


def to_pandas(frame: Any) -> pd.DataFrame:
    """Turn a frame of pandas, polars or pyarrow into one of pandas.

    Args:
        frame: The frame.

    Returns:
        A copy.

    Raises:
        DataError: if it is no frame.
    """
    import pandas as pd

    library = type(frame).__module__.split(".")[0]
    if isinstance(frame, pd.DataFrame):
        return frame.reset_index(drop=True)
    if library == "polars":
        return pd.DataFrame(frame.to_dict(as_series=False))
    if library == "pyarrow":
        return pd.DataFrame(frame.to_pydict())
    raise DataError(f"'frame' must be a frame of pandas, polars or pyarrow, got {type(frame).__name__}")


def records(
    frame: pd.DataFrame, root: Path, columns: Mapping[str, str | None], rows: NDArray[np.int64] | None = None
) -> pd.DataFrame:
    """Turn a table into records and check that every label and file is there.

    Args:
        frame: The table.
        root: The folder that the images are below.
        columns: The columns of `image`, `label`, `group` and `split`; the group may be a
            regular expression.
        rows: The row of each record in its file, (N,), for messages.

    Returns:
        The records with the table's other columns.

    Raises:
        DataError: if a column, label, group or file is missing, or an image appears twice.
    """
    names = {role: name for role, name in columns.items() if name is not None}
    pattern = names.pop("group") if _is_pattern(names.get("group"), frame) else None
    for role, name in names.items():
        if name not in frame.columns:
            raise DataError(f"'{role}' must name a column, got {name!r}; the table has {listing(frame.columns)}")
    if frame.empty:
        raise DataError("the table must have records, got none")
    _refuse_no_text(map(str, frame[names["image"]]))
    _refuse_gaps(frame, names, rows)
    found = {"id": frame[names["image"]].astype(str).map(_posix)}
    found |= {role: frame[names[role]].map(text) for role in ("label", "group", "split") if role in names}
    rest = frame.drop(columns=list(dict.fromkeys(names.values())))
    made = rest.rename(columns={name: f"{name}_" for name in _ROLES}).assign(**found)
    made = made[[*found, *(name for name in made.columns if name not in found)]]
    _refuse_ids(made["id"], rows)
    file_facts(root, made["id"], rows)
    return _with_groups(_with_splits(made), pattern)


def _is_pattern(group: str | None, frame: pd.DataFrame) -> bool:
    return group is not None and group not in frame.columns and any(sign in group for sign in r"\()[]+*?^$|")


def _posix(path: str) -> str:
    return PurePosixPath(path.replace("\\", "/")).as_posix()  # './a' and 'a' are one image


def _refuse_gaps(frame: pd.DataFrame, names: Mapping[str, str], rows: NDArray[np.int64] | None = None) -> None:
    for role, name in names.items():
        values = frame[name]
        empty = np.flatnonzero(values.isna().to_numpy() | (values.map(text).astype(str) == "").to_numpy())
        if len(empty):
            where = f"column {name!r} of {places(empty, rows)}"
            raise DataError(f"'{role}' must be filled in every row, got nothing in {where}")


def places(positions: Iterable[int], rows: NDArray[np.int64] | None) -> str:
    """Say where records stand.

    Args:
        positions: Their positions in the set.
        rows: The row of each record of the set in its file, (N,), or None.

    Returns:
        The rows of the file as a spreadsheet counts them, or the positions from 0.

    Examples:
        >>> places([0, 3], None), places([0], np.array([2, 3]))
        ('records 0, 3', 'row 2')
    """
    numbers = [str(position if rows is None else rows[position]) for position in positions]
    shown = ", ".join(numbers[:5]) + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")
    return ("record" if rows is None else "row") + ("s" if len(numbers) > 1 else "") + f" {shown}"


def _refuse_ids(ids: pd.Series[str], rows: NDArray[np.int64] | None) -> None:
    twice = np.flatnonzero(ids.duplicated().to_numpy())
    if len(twice):
        raise DataError(f"each image must appear once, got {ids.iloc[twice[0]]!r} again in {places(twice, rows)}")
    bad = [i for i, path in enumerate(ids) if path.startswith("/") or ".." in path.split("/") or "\0" in path]
    if bad:
        raise DataError(f"image paths must stay below 'root', got {ids.iloc[bad[0]]!r} in {places(bad, rows)}")


def _refuse_no_text(ids: Iterable[str]) -> None:
    odd = [path for path in ids if _NO_TEXT.search(path)]
    if odd:
        raise DataError(f"names of images must be UTF-8, got {listing(odd, limit=3)}; rename the files")


def file_facts(root: Path, ids: Iterable[str], rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Look at every file without opening it.

    Args:
        root: The folder.
        ids: Paths below it, (N,).
        rows: The row of each record in its file, (N,), for the message.

    Returns:
        Size in bytes and time of change in nanoseconds, (2, N).

    Raises:
        DataError: if files are missing, named with their places.
    """
    facts, missing = [], []
    for position, name in enumerate(ids):
        try:
            status = os.stat(os.path.join(root, name))  # noqa: PTH116, PTH118 (a million of them)
        except OSError:
            missing.append((position, name))
        else:
            facts.append((status.st_size, status.st_mtime_ns))
    if missing:
        where = places((position for position, _ in missing), rows)
        names = listing((name for _, name in missing), limit=3)
        raise DataError(f"images must exist below {str(root)!r}, got no {names} ({where}); correct 'root' or the paths")
    return np.array(facts, dtype=np.int64).reshape(-1, 2).T


def _with_splits(frame: pd.DataFrame) -> pd.DataFrame:
    if "split" not in frame:
        return frame
    unknown = sorted(set(frame["split"].str.lower()) - set(_SPLITS))
    if unknown:
        raise DataError(f"'split' must say train, val or test, got {listing(unknown)}")
    return frame.assign(split=frame["split"].str.lower().map(_SPLITS))


def _with_groups(frame: pd.DataFrame, pattern: str | None) -> pd.DataFrame:
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


def pixels(arrays: ArrayLike) -> NDArray[np.uint8]:
    """Check images that are in memory.

    Args:
        arrays: Images (N, height, width) or (N, height, width, 1 or 3), uint8.

    Returns:
        The same as an array.

    Raises:
        DataError: if shape or type does not fit.
    """
    try:
        found = np.asarray(arrays)
    except ValueError:  # images of several sizes
        raise DataError("'arrays' must have one shape for all images, got several; bring them to one size") from None
    good = found.ndim == 3 or (found.ndim == 4 and found.shape[-1] in {1, 3})
    if not good or 0 in found.shape:
        raise DataError(f"'arrays' must have shape (N, height, width[, 1 or 3]), got {found.shape}")
    if found.dtype != np.uint8:
        raise DataError(f"'arrays' must be uint8, got {found.dtype}; scale the images to 0..255 first")
    return found


def array_records(
    count: int, labels: ArrayLike, groups: ArrayLike | None, splits: ArrayLike | None, classes: Sequence[str] | None
) -> pd.DataFrame:
    """Make the records of images in memory.

    Args:
        count: How many images there are.
        labels: Labels (N,); where `classes` are given, whole numbers are names if all of them
            are among these, else they index them.
        groups: Groups (N,), or None.
        splits: Splits (N,), or None.
        classes: The classes, or None.

    Returns:
        The records; ids are positions with leading zeros.

    Raises:
        DataError: if a length does not fit.
    """
    import pandas as pd

    columns = {"label": _names(np.asarray(labels), classes)}
    columns |= {"group": np.asarray(groups)} if groups is not None else {}
    columns |= {"split": np.asarray(splits)} if splits is not None else {}
    for name, values in columns.items():
        if values.shape != (count,):
            raise DataError(f"'{name}s' must have shape ({count},) like the images, got {values.shape}")
    frame = pd.DataFrame({"id": [f"{number:06d}" for number in range(count)], **columns})
    _refuse_gaps(frame, {name: name for name in columns})
    return _with_splits(frame.assign(**{name: frame[name].map(text) for name in columns}))


def _names(labels: NDArray[Any], classes: Sequence[str] | None) -> NDArray[Any]:
    if classes is None or labels.dtype.kind not in "iu" or set(map(str, np.unique(labels))) <= set(classes):
        return labels
    if labels.size and (labels.min() < 0 or labels.max() >= len(classes)):
        raise DataError(f"'labels' must index the {len(classes)} classes, got {labels.min()} to {labels.max()}")
    return np.asarray(classes, dtype=object)[labels]
