"""Configurations in files, which may include others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgcls.core.config import from_yaml
from imgcls.core.errors import ConfigError

__all__ = ["INCLUDE", "read_config"]

INCLUDE = "include"
"""The key of the files that a configuration begins with."""


def read_config(path: Path) -> dict[str, Any]:
    """Read a YAML file and what it includes.

    `include: base.yaml`, or a list of files, is read first, later files over earlier ones, and the
    file itself over all. Paths of included files count from the folder of the file that names
    them. Mappings are merged key by key; lists and all other values are replaced as a whole.

    Args:
        path: The file.

    Returns:
        The options by name, without `include`.

    Raises:
        ConfigError: if a file is missing, is no YAML, holds no options by name, or includes itself.
    """
    return _read(Path(path), ())


def _read(path: Path, readers: tuple[Path, ...]) -> dict[str, Any]:
    place = path.resolve()
    if place in readers:
        way = " -> ".join(str(step) for step in (*readers[readers.index(place) :], place))
        raise ConfigError(f"'{INCLUDE}' must not lead back to a file, got {way}")
    options = from_yaml(_text(path), source=str(path))
    if not isinstance(options, dict):
        raise ConfigError(f"{str(path)!r} must hold options by name, got {type(options).__name__}")
    found: dict[str, Any] = {}
    for name in _included(options, path):
        found = _merged(found, _read(path.parent / name, (*readers, place)))
    return _merged(found, {key: value for key, value in options.items() if key != INCLUDE})


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"'config' must name a YAML file, got {str(path)!r}; {error}") from None


def _included(options: Mapping[str, Any], path: Path) -> list[str]:
    given = options.get(INCLUDE, [])
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"'{INCLUDE}' in {str(path)!r} must be a file or a list of files, got {given!r}")
    return names


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        # Options of one plugin mean nothing to another, so a spec with a name replaces the one below.
        found[key] = _merged(found[key], value) if both and "name" not in value else value
    return found
