"""Sets whose labels stand in the names of folders and files, or line by line in a text."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgcls.core.errors import ConfigError, DataError, listing
from imgcls.core.progress import say
from imgcls.data import files, labels
from imgcls.data.companions import companions, shared_stems
from imgcls.data.naming import text
from imgcls.data.records import SPLITS, Records, with_files, with_groups, with_splits

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["from_class_folders", "from_lines", "from_names"]


def from_class_folders(root: Path, *, group: str | None, patterns: Mapping[str, str]) -> Records:
    """List the images of class folders.

    Args:
        root: The folder: `root/class/image` or `root/split/class/image`.
        group: A regular expression for the group, or None.
        patterns: Patterns of masks and views, by column.

    Returns:
        Records ordered by path.

    Raises:
        DataError: if the folder is missing, holds no images, mixes layouts or has a file name
            that is no text.
    """
    import pandas as pd

    paths = _images(root, patterns)
    tops = {path.split("/", 1)[0] for path in paths}
    splits = {top for top in tops if text(top).lower() in SPLITS}
    split = bool(tops) and splits == tops
    _refuse_mixed(paths, splits, tops - splits)
    depth = 2 if split else 1
    parts = [path.split("/", depth) for path in paths]
    loose = ["/".join(part) for part in parts if len(part) <= depth or not text(part[depth - 1])]
    if not paths or loose:
        layout = "split folders with class folders" if split else "class folders"
        got = f"{listing(loose, limit=3)} outside of them" if loose else f"no images below {str(root)!r}"
        raise DataError(f"'root' must hold {layout} of images, got {got}")
    _tell_empty(root, splits if split else set(), paths, patterns)
    frame = pd.DataFrame({"id": paths, "label": [text(part[depth - 1]) for part in parts]})
    if split:
        frame["split"] = [SPLITS[text(part[0]).lower()] for part in parts]
    return _made(with_groups(frame, group), root, patterns)


# A class is lost without a word where its images are of an unknown form, or its folder is a link.
def _tell_empty(root: Path, splits: set[str], paths: Sequence[str], patterns: Mapping[str, str]) -> None:
    known = {path.rsplit("/", above)[0] for path in paths for above in range(1, path.count("/") + 1)}
    own = {part for pattern in patterns.values() for part in _own_folder(pattern).split("/")}
    found = [
        f"{split}{folder}" for split in ["", *(f"{name}/" for name in splits)] for folder in _folders(root / split)
    ]
    empty = sorted(name for name in found if name not in known and name.rpartition("/")[2] not in own)
    if empty:
        say(f"folders without images are no classes: {listing(empty, limit=3)}; links to folders are not followed")


def _folders(place: Path) -> list[str]:
    return [entry.name for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith(".")]


# Masks and views lie among the images, or in folders of their own below the same root.
def _images(root: Path, patterns: Mapping[str, str]) -> list[str]:
    paths = files.image_paths(root)
    own = tuple(place for place in map(_own_folder, patterns.values()) if place)
    paths = [path for path in paths if not path.startswith(own)] if own else paths
    found = {role: companions(root, paths, pattern, what=role) for role, pattern in patterns.items()}
    others = {path for matches in found.values() for path in matches}
    _refuse_orphans(paths, others, found, patterns)
    paths = [path for path in paths if path not in others]
    twins = shared_stems(paths)
    if twins:
        first = next(iter(twins.values()))
        say(
            f"{len(twins)} images share folder and name with another one, such as {listing(first, limit=3)}; if these "
            "are masks, say so by mask='<stem>.png'"
        )
    return paths


# A mask whose image is gone would pass for an image of its class.
def _refuse_orphans(
    paths: Sequence[str], others: set[str], found: Mapping[str, Sequence[str]], patterns: Mapping[str, str]
) -> None:
    for role, pattern in patterns.items():
        shape = _shape(pattern)
        lone = [path for path, match in zip(paths, found[role], strict=True) if not match and path not in others]
        lone = [path for path in lone if shape and fnmatch.fnmatchcase(path if "/" in shape else _name(path), shape)]
        if lone:
            raise DataError(
                f"{role!r} must go with an image each, got none for {listing(lone, limit=3)}; remove these files, or "
                "rename them if they are images"
            )


# None where only the extension tells, since images may have it too.
def _shape(pattern: str) -> str | None:
    shape = pattern.replace("<stem>", "*").replace("<folder>", "*")
    return shape if os.path.splitext(shape)[0].strip("*?/") else None  # noqa: PTH122


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _own_folder(pattern: str) -> str:
    place = pattern.rpartition("/")[0].split("<", 1)[0]
    return place if not place or place.endswith("/") else f"{place}/"


# A class may be called 'train', but then its images lie right in it.
def _refuse_mixed(paths: Sequence[str], splits: set[str], others: set[str]) -> None:
    inner = {path.split("/", 1)[0] for path in paths if path.count("/") > 1}
    if others and splits and splits <= inner:
        raise DataError(
            f"'root' must hold split folders or class folders, got both {listing(sorted(splits))} and "
            f"{listing(sorted(others), limit=3)}; move the latter away"
        )


def _made(frame: pd.DataFrame, root: Path, patterns: Mapping[str, str]) -> Records:
    frame, sizes = with_files(frame, root, patterns)
    return Records(frame=frame, sizes=sizes)


def from_names(root: Path, *, pattern: str, patterns: Mapping[str, str]) -> Records:
    """Read labels from the paths of images.

    Args:
        root: The folder, searched at any depth.
        pattern: A regular expression searched in each path below `root`, with a group named
            `label` and, if wanted, groups named `group` and `split`.
        patterns: Patterns of masks and views, by column.

    Returns:
        Records ordered by path.

    Raises:
        ConfigError: if the expression is none, or has no group named `label`.
        DataError: if there are no images, or paths do not match.
    """
    import pandas as pd

    expression = _named_expression(pattern)
    paths = _images(root, patterns)
    matches = [expression.search(path) for path in paths]
    missed = [path for path, match in zip(paths, matches, strict=True) if match is None]
    if missed or not paths:
        got = f"no match of {pattern!r} in {len(missed)} of {len(paths)}: {listing(missed, limit=3)}"
        got = got if paths else f"no images below {str(root)!r}"
        raise DataError(f"'pattern' must match every path, got {got}")
    found = {
        role: np.array([text(match[role] or "") for match in matches if match is not None], dtype=object)
        for role in expression.groupindex
    }
    for role, values in found.items():
        empty = [path for path, value in zip(paths, values, strict=True) if not value]
        if empty:
            got = f"no {role!r} in {len(empty)} of {len(paths)}: {listing(empty, limit=3)}"
            raise DataError(f"'pattern' must match every path, got {got}")
    labels.refuse_measurements(found["label"], "label")
    return _made(with_splits(pd.DataFrame({"id": paths, **found})), root, patterns)


def _named_expression(pattern: str) -> re.Pattern[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"'pattern' must be a regular expression, got {pattern!r}; {error}") from None
    named = set(expression.groupindex)
    if "label" not in named or named - {"label", "group", "split"}:
        raise ConfigError(
            f"'pattern' must have a group named 'label' and no others than 'group' and 'split', got {pattern!r}; "
            "write (?P<label>...)"
        )
    return expression


def from_lines(lines: Sequence[str], *, root: Path, name: str, first: int, group: str | None) -> Records:
    """Put each line's label to the image of its number.

    Args:
        lines: A label each, none empty.
        root: The folder of the images.
        name: The path of an image below `root` with its number, such as `%06d.jpg`.
        first: The number of the first line's image.
        group: A regular expression for the group, or None.

    Returns:
        Records in the order of the lines.

    Raises:
        ConfigError: if `name` takes no number.
        DataError: if files and lines are not as many.
    """
    import pandas as pd

    ids, shape = _numbered(name, range(first, first + len(lines)))
    found = np.array([text(line) for line in lines], dtype=object)
    labels.refuse_measurements(found, "label")
    _refuse_surplus(root, ids, shape, first)
    return _made(with_groups(pd.DataFrame({"id": ids, "label": found}), group), root, {})


def _numbered(name: str, numbers: range) -> tuple[list[str], re.Pattern[str]]:
    match = re.fullmatch(r"((?:[^%]|%%)*)%(?:0[1-9]\d*)?d((?:[^%]|%%)*)", name)
    if match is None:
        raise ConfigError(f"'name' must have one place for a number, such as '%06d.jpg', got {name!r}")
    ids = [files.posix(name % number) for number in numbers]
    files.refuse_paths(ids, None)
    whole = files.posix("\0".join(part.replace("%%", "%") for part in match.groups()))
    return ids, re.compile(r"\d+".join(map(re.escape, whole.split("\0"))))


# Were there more images than lines, every label could be one line off.
def _refuse_surplus(root: Path, ids: Sequence[str], shape: re.Pattern[str], first: int) -> None:
    known = set(ids)
    surplus = [path for path in files.image_paths(root) if shape.fullmatch(path) and path not in known]
    if surplus:
        raise DataError(
            f"each image must have a line, got {len(ids)} lines from number {first} on and no line for "
            f"{listing(surplus, limit=3)}; check 'first'"
        )
