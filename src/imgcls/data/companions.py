"""Which files belong together: an image and its mask, a name and its file."""

from __future__ import annotations

import bisect
import fnmatch
import glob
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import ConfigError, DataError, listing
from imgcls.data.files import Border, image_paths, leaves, places, posix
from imgcls.data.images import EXTENSIONS

__all__ = ["by_stem", "companions", "shared_stems"]

#: Signs that stand for others in a pattern.
_WILD = re.compile(r"[*?\[]")


def by_stem(root: Path, names: Sequence[str], rows: NDArray[np.int64] | None) -> list[str]:
    """Find the file of each name, whatever its extension.

    Args:
        root: The folder that is searched at any depth.
        names: Names (N,) with or without extension; one with a folder must lie in it.
        rows: The row of each record in its file, (N,), for the message.

    Returns:
        The path of each below `root`, (N,).

    Raises:
        DataError: if names have no file, or several.
    """
    index: dict[str, list[str]] = {}
    for path in image_paths(root):
        whole = _without_extension(path)
        for key in {whole, whole.rpartition("/")[2]}:
            index.setdefault(key, []).append(path)
    found = [index.get(_without_extension(name), []) for name in names]
    missing = [position for position, paths in enumerate(found) if not paths]
    if missing:
        shown = listing((names[position] for position in missing), limit=10)
        raise DataError(f"images must exist below {str(root)!r}, got no file for {shown} ({places(missing, rows)})")
    double = [position for position, paths in enumerate(found) if len(paths) > 1]
    if double:
        first = double[0]
        raise DataError(
            f"names must mean one file each, got {names[first]!r} for {listing(found[first], limit=3)} "
            f"({places(double, rows)}); give the folder too, or give whole paths and match='path'"
        )
    return [paths[0] for paths in found]


def _without_extension(name: str) -> str:
    stem, extension = os.path.splitext(name)  # noqa: PTH122
    return stem if extension.lower() in EXTENSIONS else name


def companions(root: Path, ids: Sequence[str], pattern: str, *, what: str) -> list[str]:
    """Find the file that belongs to each image, such as its mask.

    Args:
        root: The folder.
        ids: Paths of the images below it, (N,).
        pattern: A file name with `<stem>` for the image's name without extension and `*` for
            anything, searched in the image's folder; with a `/` a path below `root`, where
            `<folder>` stands for the image's folder and only the name may have a `*`.
        what: The name of the option, for messages.

    Returns:
        The path of each below `root`, (N,); empty where there is none.

    Raises:
        ConfigError: if the pattern leads out of `root`.
        DataError: if an image has several, or none has any.
    """
    pattern = pattern.replace("\\", "/")
    if leaves(pattern):
        raise ConfigError(f"{what!r} must be a pattern of paths below 'root', got {pattern!r}")
    shelf = _Shelf(root)
    found = []
    for name in ids:
        folder, _, file = name.rpartition("/")
        wanted = _filled(pattern, folder, os.path.splitext(file)[0])  # noqa: PTH122
        matches = [path for path in shelf.matches(*wanted) if path != name]
        if len(matches) > 1:
            raise DataError(f"{what!r} must match one file an image, got {listing(matches, limit=3)} for {name!r}")
        found.append(matches[0] if matches else "")
    if not any(found):
        raise DataError(f"{what!r} must match files below {str(root)!r}, got none for {pattern!r}")
    return found


def _filled(pattern: str, folder: str, stem: str) -> tuple[str, str]:
    place, slash, file = pattern.rpartition("/")
    place = posix(place.replace("<folder>", folder or ".").replace("<stem>", stem)) if slash else folder
    return ("" if place == "." else place), file.replace("<stem>", glob.escape(stem))


class _Shelf:
    """The file names of folders, each listed once."""

    def __init__(self, root: Path) -> None:
        self._root, self._border = root, Border(root)
        self._names: dict[str, list[str]] = {}

    def matches(self, folder: str, pattern: str) -> list[str]:
        if folder not in self._names:
            self._names[folder] = self._listed(folder)
        names = self._names[folder]
        sign = _WILD.search(pattern)
        beginning = pattern[: sign.start()] if sign else pattern
        prefix = f"{folder}/" if folder else ""
        found = []
        for name in names[bisect.bisect_left(names, beginning) :]:
            if not name.startswith(beginning):
                break
            if fnmatch.fnmatchcase(name, pattern):
                found.append(prefix + name)
        return found

    def _listed(self, folder: str) -> list[str]:
        if not self._border.holds(folder):
            raise DataError(f"folders must lie below {str(self._root)!r}, got a link that leads out of it: {folder!r}")
        try:
            with os.scandir(self._root / folder) as entries:
                return sorted(entry.name for entry in entries if not entry.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise DataError(f"folders of masks and views must be readable, got {error}") from None


def shared_stems(ids: Sequence[str]) -> Mapping[str, list[str]]:
    """Find images that differ in their extension only; one of them may be a mask.

    Args:
        ids: Paths (N,).

    Returns:
        The paths of each such image by the path without extension.
    """
    found: dict[str, list[str]] = {}
    for name in ids:
        found.setdefault(os.path.splitext(name)[0], []).append(name)  # noqa: PTH122
    return {stem: names for stem, names in found.items() if len(names) > 1}
