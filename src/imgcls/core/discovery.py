"""Find the plugins that the installed distributions declare, without importing any of them.

The package `entrypoints` reads the metadata. Asked for the whole `sys.path` at once it
fails on a single broken metadata file and on `pathlib` items, so it is called once per
item inside a guard, and file by file where an item holds a broken one.
"""

from __future__ import annotations

import functools
import glob
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from typing import Any

import attrs
import entrypoints

__all__ = ["GROUPS", "Declared", "declared", "plugins"]

#: The kinds of plugins, as entry-point groups.
GROUPS = (
    "imgcls.backbones",
    "imgcls.splitters",
    "imgcls.samplers",
    "imgcls.search_backends",
    "imgcls.explainers",
    "imgcls.trackers",
)


@attrs.frozen(kw_only=True)
class Declared:
    """A plugin as its distribution declares it.

    Attributes:
        group: The entry-point group, such as `imgcls.splitters`.
        name: The name users write.
        distribution: The distribution that declares it, with its version.
        target: Module and object, `package.module:Class`.
        state: `ok`, `broken` (cannot be imported) or `conflict` (declared twice).
        cause: Why it is not `ok`, else empty.
    """

    group: str
    name: str
    distribution: str
    target: str
    state: str = "ok"
    cause: str = ""


def plugins(group: str) -> tuple[Declared, ...]:
    """List the plugins of a group with their states.

    Args:
        group: The entry-point group.

    Returns:
        The plugins by name; those in conflict all appear.
    """
    found = [plugin for plugin in declared(tuple(map(str, sys.path))) if plugin.group == group]
    names = [plugin.name for plugin in found]
    marked = [_in_conflict(plugin, found) if names.count(plugin.name) > 1 else plugin for plugin in found]
    return tuple(sorted(marked, key=lambda plugin: (plugin.name, plugin.distribution)))


def _in_conflict(plugin: Declared, found: list[Declared]) -> Declared:
    others = [p.distribution for p in found if p.name == plugin.name and p is not plugin]
    return attrs.evolve(plugin, state="conflict", cause=f"also declared by {', '.join(others)}")


@functools.lru_cache(maxsize=8)
def declared(path: tuple[str, ...]) -> tuple[Declared, ...]:
    """Read what the distributions on a path declare for imgcls.

    Args:
        path: Folders and archives, as in `sys.path`.

    Returns:
        The plugins; a distribution that stands twice on the path counts where it stands first.
    """
    seen: set[str] = set()
    found: list[Declared] = []
    for item in path:
        here = _distributions(item)
        for config, distribution in _metadata(item):
            if _normal(distribution.name) not in seen:
                found += _read(config, distribution)
        seen |= here
    return tuple(found)


# All distributions of a folder, also those without entry points: they shadow later ones of their name.
def _distributions(item: str) -> set[str]:
    folders = [f for kind in ("dist", "egg") for f in glob.glob(os.path.join(glob.escape(item), f"*.{kind}-info"))]
    return {_normal(os.path.basename(folder).rsplit(".", 1)[0].split("-")[0]) for folder in folders}


def _normal(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")


def _metadata(item: str) -> Iterator[tuple[ConfigParser, Any]]:
    try:
        yield from list(entrypoints.iter_files_distros(path=[item]))
    except Exception:  # any stranger's file may be broken in any way
        yield from _metadata_by_file(item)


def _metadata_by_file(item: str) -> Iterator[tuple[ConfigParser, Any]]:
    pattern = os.path.join(glob.escape(item), "*-info", "entry_points.txt")
    for file in glob.glob(pattern):
        config = entrypoints.CaseSensitiveConfigParser(delimiters=("=",))
        try:
            config.read(file, encoding="utf-8")
        except Exception:  # noqa: S112 (the broken file itself: its owner's plugins are lost, not ours)
            continue
        base = os.path.basename(os.path.dirname(file)).rsplit(".", 1)[0]
        yield config, entrypoints.Distribution.from_name_version(base)


def _read(config: ConfigParser, distribution: Any) -> Iterator[Declared]:
    owner = f"{distribution.name} {distribution.version or '(no version)'}"
    for group in GROUPS:
        for name, target in config.items(group, raw=True) if config.has_section(group) else ():
            cause = _cause(target)
            state = "broken" if cause else "ok"
            yield Declared(group=group, name=name, distribution=owner, target=target, state=state, cause=cause)


# Why a target cannot be imported, as far as that shows without importing it.
def _cause(target: str) -> str:
    try:
        entry = entrypoints.EntryPoint.from_string(target, "plugin")
    except entrypoints.BadEntryPoint:
        return f"{target!r} does not read 'module:Class'"
    if not entry.object_name:
        return f"{target!r} names no class"
    return "" if _module_exists(entry.module_name) else f"module {entry.module_name!r} is not installed"


# Looks for the files of a module; importlib would import the packages around it.
def _module_exists(module: str) -> bool:
    first, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(first)
        for depth, _ in enumerate(rest, start=2):
            places = spec.submodule_search_locations if spec else None
            name = ".".join(module.split(".")[:depth])
            spec = importlib.machinery.PathFinder.find_spec(name, places) if places else None
    except Exception:  # a broken finder or a module without a spec is no module for us
        return False
    return spec is not None
