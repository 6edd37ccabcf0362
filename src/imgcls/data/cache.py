"""What lies in the cache folder: decoded images and features, how large they are, and how to be rid of them."""

from __future__ import annotations

import datetime as dt
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import attrs

from imgcls.core.errors import ConfigError, DataError, RunError
from imgcls.core.folders import cache_folder, hold, read_json

__all__ = [
    "PARTIAL",
    "VERSION",
    "Entry",
    "check_room",
    "entries",
    "free_room",
    "in_words",
    "make_folder",
    "prune",
    "store_folder",
]

#: Part of the key of every store: raised when decoding or fitting changes, so that old stores are not used.
VERSION = 2

#: What the name of a store that is not whole yet ends with.
PARTIAL = ".partial"

#: Of the free disk so much may be filled.
_SHARE = 0.9


def store_folder() -> Path:
    """Name the folder of the decoded stores.

    Returns:
        The folder.
    """
    return cache_folder() / "store"


@attrs.frozen(kw_only=True)
class Entry:
    """A decoded store on disk.

    Attributes:
        key: Its name.
        folder: Where it lies.
        size: Bytes.
        used: When it was used last.
        whole: Whether it is complete; the process that built another one was killed, or is at it.
        about: What it holds, in words.
    """

    key: str
    folder: Path
    size: int
    used: dt.datetime
    whole: bool
    about: str


def entries(folder: Path | None = None) -> list[Entry]:
    """List the stores.

    Args:
        folder: Where they lie; default is `store` in the cache folder.

    Returns:
        The stores, those used last first.
    """
    place = folder or store_folder()
    found = [_entry(path) for path in place.iterdir() if path.is_dir()] if place.is_dir() else []
    return sorted(found, key=lambda entry: (entry.used, entry.key), reverse=True)


def _entry(path: Path) -> Entry:
    files = [(file, file.stat()) for file in path.iterdir() if file.is_file()]
    used = max((status.st_mtime for _, status in files), default=path.stat().st_mtime)
    return Entry(
        key=path.name.removesuffix(PARTIAL),
        folder=path,
        size=sum(status.st_size for _, status in files),
        used=dt.datetime.fromtimestamp(used, tz=dt.UTC),
        whole=not path.name.endswith(PARTIAL),
        about=_about(path),
    )


def _about(path: Path) -> str:
    try:
        facts = read_json(path / "store.json")
    except RunError:
        return "not complete"
    if facts.get("version") != VERSION:
        return "of an older imgcls, not used any more"
    if "features" in facts:
        count, length = facts["features"]
        return f"{count} x {length} features of frozen layers"
    count, height, width, channels = facts["shape"]
    view = f", {facts['view']}" if facts["view"] else ""
    return f"{count} images {height} x {width} x {channels} {facts['dtype']}{view} of {facts['root'] or 'memory'}"


def prune(
    *, older_than: float | None = None, keys: Sequence[str] = (), folder: Path | None = None
) -> tuple[list[Entry], list[Entry]]:
    """Delete stores; one that is being built is left.

    A process that reads a store keeps what it has opened.

    Args:
        older_than: Those not used for so many days; 0 takes all.
        keys: Those whose names begin so.
        folder: Where they lie; default is `store` in the cache folder.

    Returns:
        What was deleted, and what was left because a process builds it.

    Raises:
        ConfigError: if neither is given, a number is wrong, or a key means no store or several.
    """
    if older_than is None and not keys:
        raise ConfigError("'older_than' or 'keys' must be given, to say which stores are to go")
    if older_than is not None and not older_than >= 0:
        raise ConfigError(f"'older_than' must be a number of days of at least 0, got {older_than!r}")
    known = entries(folder)
    chosen = {entry.folder: entry for key in keys for entry in [_meant(key, known)]}
    if older_than is not None:
        before = dt.datetime.now(tz=dt.UTC) - dt.timedelta(days=older_than)
        chosen |= {entry.folder: entry for entry in known if entry.used <= before}
    deleted = [entry for entry in chosen.values() if _delete(entry)]
    return deleted, [entry for entry in chosen.values() if entry not in deleted]


def _meant(key: str, known: Sequence[Entry]) -> Entry:
    found = [entry for entry in known if entry.key.startswith(key)]
    if len(found) != 1:
        raise ConfigError(f"'keys' must each mean one store, got {key!r} for {len(found)}")
    return found[0]


def _delete(entry: Entry) -> bool:
    try:
        with hold(entry.folder.with_name(f"{entry.key}.lock"), timeout=0):
            shutil.rmtree(entry.folder)
    except RunError:
        return False
    return True


def free_room(folder: Path) -> int:
    """Say how many bytes new stores may fill.

    Args:
        folder: Where they will lie.

    Returns:
        Nine tenths of the free disk, or what is left of the budget in `IMGCLS_CACHE_LIMIT` (GiB)
        if that is less.

    Raises:
        ConfigError: if the variable holds no number.
    """
    make_folder(folder)
    free = int(_SHARE * shutil.disk_usage(folder).free)
    limit = os.environ.get("IMGCLS_CACHE_LIMIT")
    if not limit:
        return free
    return max(0, min(free, _budget(limit) - sum(entry.size for entry in entries(folder))))


def _budget(limit: str) -> int:
    try:
        gib = float(limit)
    except ValueError:
        gib = math.nan
    if not 0 <= gib < math.inf:
        raise ConfigError(f"IMGCLS_CACHE_LIMIT must be a number of GiB from 0 on, got {limit!r}")
    return int(gib * 2**30)


def make_folder(folder: Path) -> None:
    """Make the folder of the stores.

    Args:
        folder: The folder.

    Raises:
        DataError: if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"the cache folder must be one that can be made, got {str(folder)!r}: {error.strerror}; "
            "set IMGCLS_CACHE to another place, or stream"
        ) from None


def in_words(size: int) -> str:
    """Write a number of bytes.

    Args:
        size: Bytes.

    Returns:
        GiB or MiB with one decimal.

    Examples:
        >>> in_words(3 * 2**29), in_words(100_000)
        ('1.5 GiB', '0.1 MiB')
    """
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def check_room(folder: Path, needed: int) -> None:
    """Refuse a store for which there is no room, before it is begun.

    Args:
        folder: Where it will lie.
        needed: Its bytes.

    Raises:
        DataError: if the disk or the budget has no room.
    """
    free = free_room(folder)
    if needed > free:
        raise DataError(
            f"the disk of {str(folder)!r} must have room for {in_words(needed)} of decoded images, got "
            f"{in_words(free)} (nine tenths of the free disk, within IMGCLS_CACHE_LIMIT); delete stores with "
            "'imgcls cache prune', set IMGCLS_CACHE to another disk, choose a smaller image size, or stream"
        )
