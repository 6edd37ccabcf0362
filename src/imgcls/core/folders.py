"""Files that are either whole or not there, and folders that belong to one process."""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imgcls.core.errors import RunError

__all__ = [
    "cache_folder",
    "hold",
    "new_folder",
    "read_json",
    "reserved",
    "settle",
    "sha256",
    "unflushed",
    "whole",
    "write_json",
    "write_text",
]


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Write a file or folder so that it is never seen half-written.

    What the block writes to the temporary path is flushed to disk and renamed to
    `path`; if the block fails, the temporary path is removed and `path` is untouched.

    Args:
        path: Where the result shall be; an existing file is replaced, a folder must not exist.

    Yields:
        The temporary path, beside `path`.
    """
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    _remove(temporary)  # of a process that was killed and had the same number
    try:
        yield temporary
        settle(temporary, path)
    finally:
        _remove(temporary)


def settle(temporary: Path, path: Path) -> None:
    """Flush a file or folder to disk and give it its name, so that it is there as a whole or not at all.

    Args:
        temporary: What was written, beside `path`.
        path: Its name; an existing file is replaced, a folder must not exist.
    """
    for file in [*temporary.rglob("*"), temporary] if temporary.is_dir() else [temporary]:
        _flush(file)
    temporary.replace(path)
    _flush(path.parent)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


#: Whether what is written is waited for until the disk has it.
_flushing = contextvars.ContextVar("_flushing", default=True)


@contextlib.contextmanager
def unflushed() -> Iterator[None]:
    """Leave it to the system when files of the block reach the disk.

    They are still whole or not there after the process is killed, but not after the power fails. That is for what can
    be computed again and has checksums, where waiting for the disk would take most of the time.

    Yields:
        Nothing.
    """
    token = _flushing.set(False)
    try:
        yield
    finally:
        _flushing.reset(token)


def _flush(path: Path) -> None:
    if not _flushing.get():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file as a whole.

    Args:
        path: The file.
        text: Its content, written as UTF-8.
    """
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file as a whole; NaN is refused, since JSON has none.

    Args:
        path: The file.
        value: What to write: dicts, lists, strings, numbers, booleans, None.
    """
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Args:
        path: The file.

    Returns:
        Its content.

    Raises:
        RunError: if the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"'path' must name an existing file, got {str(path)!r}") from None
    except ValueError as error:
        raise RunError(f"'path' must name a JSON file, got {str(path)!r}; it is damaged: {error}") from None


def sha256(path: Path) -> str:
    """Compute the checksum of a file.

    Args:
        path: The file.

    Returns:
        64 hexadecimal digits.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def reserved(path: Path | str | None, *, prefix: str = "run") -> Iterator[Path]:
    """Make a folder that nobody else uses, and take it back if the block fails while it is empty.

    Args:
        path: As for `new_folder`.
        prefix: As for `new_folder`.

    Yields:
        The folder.
    """
    folder = new_folder(path, prefix=prefix)
    try:
        yield folder
    except BaseException:
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise


def new_folder(path: Path | str | None, *, prefix: str = "run") -> Path:
    """Make a folder that nobody else uses.

    Args:
        path: The folder, which must be absent or empty; None takes the next free
            `runs/<prefix>-001`.
        prefix: The beginning of a name that is made up.

    Returns:
        The folder, now existing and empty.

    Raises:
        RunError: if the folder holds something already.
    """
    if path is not None:
        return _empty_folder(Path(path))
    for number in range(1, 1_000_000):
        folder = Path("runs") / f"{prefix}-{number:03d}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)  # exclusive: of two processes one wins
            return folder
    raise RunError("'out' must be given, got None; 'runs' has no free number left")


def _empty_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise RunError(
            f"'out' must be a new or empty folder, got {str(folder)!r}; choose another name or delete the old run"
        )
    return folder


@contextlib.contextmanager
def hold(path: Path, *, timeout: float = -1) -> Iterator[None]:
    """Hold a lock file, so that one process at a time does something.

    Args:
        path: The lock file; its folder is made.
        timeout: Seconds to wait for another holder; -1 waits for ever.

    Yields:
        Nothing; the lock is held inside the block.

    Raises:
        RunError: if the time is over and another process still holds it.
    """
    import filelock

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(path, timeout=timeout):
            yield
    except filelock.Timeout:
        raise RunError(f"{str(path)!r} is held by another process; wait for it or choose another folder") from None


def cache_folder() -> Path:
    """Name the folder for what can be computed again.

    Returns:
        The folder of the variable `IMGCLS_CACHE`, else `imgcls` in the user's cache folder.
    """
    given = os.environ.get("IMGCLS_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "imgcls"
