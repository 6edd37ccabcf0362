"""Checksums of a folder, in a file that `sha256sum --check` reads as well."""

from __future__ import annotations

import re
from pathlib import Path

from imgcls.core.errors import RunError
from imgcls.core.folders import sha256, write_text

__all__ = ["SUMS", "check_sums", "write_sums"]

#: The file that holds the checksums of all others.
SUMS = "SHA256SUMS"

_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


def write_sums(folder: Path) -> None:
    """Write down the checksums of all files of a folder.

    Args:
        folder: The folder.
    """
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    write_text(folder / SUMS, "".join(f"{sha256(folder / name)}  {name}\n" for name in files if name != SUMS))


def check_sums(folder: Path) -> None:
    """Check that the files of a folder are as they were written.

    Args:
        folder: The folder.

    Raises:
        RunError: if one is missing or changed; with its name.
    """
    for name, checksum in _sums(folder).items():
        if not (folder / name).is_file() or sha256(folder / name) != checksum:
            raise RunError(
                f"file {name!r} of export {str(folder)!r} must be as it was written ({SUMS!r} has its checksum), got a "
                "missing or changed one; export it again"
            )


def _sums(folder: Path) -> dict[str, str]:
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise RunError(f"'path' must name the folder of an export, got no {SUMS!r} in {str(folder)!r}") from None
    except UnicodeDecodeError:
        lines = [""]
    found = [_LINE.fullmatch(line) for line in lines]
    if not found or None in found:
        raise RunError(f"file {SUMS!r} of export {str(folder)!r} must hold a checksum a line, got a damaged one")
    return {match[2]: match[1] for match in found if match is not None}
