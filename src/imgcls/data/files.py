"""The files of a set: where they lie, how large they are, and that none lies outside of its root."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import final

import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import DataError, DecodeError, listing
from imgcls.data.images import EXTENSIONS

__all__ = ["Border", "facts", "image_paths", "leaves", "places", "posix", "refuse_outside", "refuse_paths"]

#: The bits of a mode that say what kind of file it is.
_KIND = 0o170000

#: What stands for the bytes of a file name that is not UTF-8.
_NO_TEXT = re.compile("[\ud800-\udfff]")


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


def image_paths(root: Path) -> list[str]:
    """List the images below a folder.

    Args:
        root: The folder; links to folders are not followed, hidden files are left out.

    Returns:
        Sorted paths below it, with `/`.

    Raises:
        DataError: if a folder is missing or cannot be read, or a name is no text.
    """
    if not root.is_dir():
        raise DataError(f"'root' must be an existing folder, got {str(root)!r}")
    found = sorted(_walk(root))
    _refuse_no_text(found)
    return found


def _walk(root: Path) -> Iterator[str]:
    for place, folders, files in os.walk(root, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(place).relative_to(root).as_posix()
        prefix = "" if below == "." else f"{below}/"
        for name in files:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS:  # noqa: PTH122 (speed)
                yield prefix + name


def _unreadable(error: OSError) -> None:
    raise DataError(f"folders below 'root' must be readable, got {error}") from None


def posix(path: str) -> str:
    r"""Write a path in the one form that ids have.

    Args:
        path: A path with `/` or `\`.

    Returns:
        The path with `/`, without `.` and doubled signs.

    Examples:
        >>> posix("./a//b.png"), posix("a\\b.png")
        ('a/b.png', 'a/b.png')
    """
    if "\\" not in path and "//" not in path and "./" not in path and path[-1:] not in {"/", "."}:
        return path  # a million of them take a while
    return PurePosixPath(path.replace("\\", "/")).as_posix()


def refuse_paths(names: Sequence[str], rows: NDArray[np.int64] | None) -> None:
    """Refuse paths that could lead out of the root, before any is looked at.

    Args:
        names: Paths (N,); empty ones are left out.
        rows: The row of each record in its file, (N,), for the message.

    Raises:
        DataError: if one is absolute, has `..` or NUL in it or is no text.
    """
    _refuse_no_text(names)
    bad = [position for position, name in enumerate(names) if leaves(name)]
    if bad:
        raise DataError(f"image paths must stay below 'root', got {names[bad[0]]!r} in {places(bad, rows)}")


def leaves(name: str) -> bool:
    """Tell whether a path could lead out of the folder that it is below.

    Args:
        name: The path, with `/`.

    Returns:
        Whether it is absolute, or has `..` or NUL in it.
    """
    return (
        name[:1] == "/"
        or "\0" in name
        or (".." in name and ".." in name.split("/"))
        or (name[1:2] == ":" and name[0].isalpha())  # a drive
    )


def _refuse_no_text(names: Iterable[str]) -> None:
    odd = [name for name in names if not name.isascii() and _NO_TEXT.search(name)]
    if odd:
        raise DataError(f"names of images must be UTF-8, got {listing(odd, limit=3)}; rename the files")


def facts(root: Path, names: Sequence[str], rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Look at every file without opening it.

    Args:
        root: The folder.
        names: Paths below it, (N,); an empty one stands for no file.
        rows: The row of each record in its file, (N,), for the message.

    Returns:
        Size in bytes and time of change in nanoseconds, (2, N); zeros where there is no file.

    Raises:
        DataError: if files are missing, or links lead out of the folder, named with their places.
    """
    border, prefix = Border(root), f"{root}{os.sep}"
    found = np.zeros((len(names), 2), dtype=np.int64)
    missing, outside = [], []
    for position, name in enumerate(names):  # a million of them, so as little as can be is done for each
        if not name:
            continue
        try:
            status = os.lstat(prefix + name)
        except OSError:
            missing.append(position)
            continue
        if status.st_mode & _KIND == stat.S_IFREG and border.holds(name.rpartition("/")[0]):
            found[position] = status.st_size, status.st_mtime_ns
        elif (target := border.target(name)) is None:
            missing.append(position)
        elif not border.holds(name):
            outside.append(position)
        else:
            found[position] = target.st_size, target.st_mtime_ns
    if missing:
        shown = listing((names[position] for position in missing), limit=3)
        where = places(missing, rows)
        raise DataError(f"images must exist below {str(root)!r}, got no {shown} ({where}); correct 'root' or the paths")
    if outside:
        shown = listing((names[position] for position in outside), limit=3)
        raise DataError(
            f"files must lie below {str(root)!r}, got links that lead out of it: {shown} ({places(outside, rows)}); "
            "give the folder of the files themselves as 'root'"
        )
    return found.T


def refuse_outside(root: str, path: Path) -> None:
    """Refuse a file that has become a link out of the root since the set was opened.

    Args:
        root: The real place of the root.
        path: The file, by its path below it.

    Raises:
        DecodeError: if it lies elsewhere.
    """
    real = os.path.realpath(path)
    if not real.startswith(os.path.join(root, "")):  # noqa: PTH118 (joins of strings)
        raise DecodeError(f"image {str(path)!r} must lie below its root, got a link to {real!r}; open the set again")


@final
class Border:
    """Tells what lies below a folder; the real place of a path is looked up once.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._real = os.path.join(os.path.realpath(root), "")  # noqa: PTH118 (joins of strings)
        self._known: dict[str, bool] = {}

    def holds(self, name: str) -> bool:
        """Tell whether a path leads to a place below the folder, or to itself.

        Args:
            name: The path, with `/`.

        Returns:
            Whether it does, with all links followed.
        """
        if name not in self._known:
            real = os.path.realpath(os.path.join(self._root, name))  # noqa: PTH118
            self._known[name] = os.path.join(real, "").startswith(self._real)  # noqa: PTH118
        return self._known[name]

    def target(self, name: str) -> os.stat_result | None:
        """Look at the file that a path leads to.

        Args:
            name: The path, with `/`.

        Returns:
            What is known of it; None where it is no file.
        """
        try:
            status = os.stat(os.path.join(self._root, name))  # noqa: PTH116, PTH118
        except OSError:
            return None
        return status if stat.S_ISREG(status.st_mode) else None
