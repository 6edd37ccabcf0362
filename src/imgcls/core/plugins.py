"""Registries: from a name or a spec to a plugin, whoever installed it."""

from __future__ import annotations

import abc
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, cast

import attrs

from imgcls.core import config
from imgcls.core.discovery import GROUPS, Declared, plugins
from imgcls.core.errors import (
    ConfigError,
    PluginConflictError,
    PluginContractError,
    PluginLoadError,
    UnknownPluginError,
    nearest,
)

__all__ = ["Plugin", "Registry", "all_plugins", "name_of"]


class Plugin(abc.ABC):  # noqa: B024 (the interfaces below it have the hooks)
    """Base of the interfaces; a plugin is a frozen attrs class whose fields are its options."""


T = TypeVar("T", bound=Plugin)

#: Classes that a registry has loaded, with the names they were loaded by.
_loaded: dict[type[Plugin], str] = {}


def all_plugins() -> tuple[Declared, ...]:
    """List the plugins of every group.

    Returns:
        What the installed distributions declare; nothing is imported.
    """
    return tuple(plugin for group in GROUPS for plugin in plugins(group))


class Registry(Generic[T]):
    """The plugins of one kind.

    Args:
        group: The entry-point group.
        interface: The class that each plugin extends.
        otherwise: Turns a name that no plugin has into a spec, or returns None.

    Examples:
        >>> from imgcls import splitters
        >>> "holdout" in splitters.names()
        True
        >>> splitters.create({"name": "holdout", "val": 0.1}).val
        0.1
    """

    def __init__(
        self,
        group: str,
        interface: type[Any],  # mypy has no type for an abstract class
        *,
        otherwise: Callable[[str], Mapping[str, Any] | None] = lambda _: None,
    ) -> None:
        self.group = group
        self.interface: Any = interface
        self._otherwise = otherwise

    def names(self) -> list[str]:
        """List the names that are declared, without importing anything.

        Returns:
            The names in order.
        """
        return sorted({plugin.name for plugin in plugins(self.group)})

    def get(self, name: str) -> type[T]:
        """Import one plugin.

        Args:
            name: Its name.

        Returns:
            The class.

        Raises:
            UnknownPluginError: if no installed distribution declares the name.
            PluginConflictError: if two do.
        """
        found = [plugin for plugin in plugins(self.group) if plugin.name == name]
        if not found:
            raise UnknownPluginError(f"'{self.kind}' must name an installed plugin, got {name!r}; {self._help(name)}")
        if len(found) > 1:
            owners = " and ".join(plugin.distribution for plugin in found)
            raise PluginConflictError(
                f"{self.kind} {name!r} must be declared by one distribution, got {owners}; uninstall one of them"
            )
        return cast("type[T]", _load(found[0], self.interface))

    def create(self, spec: str | Mapping[str, Any] | T, *, path: str = "") -> T:
        """Make a plugin from its spec.

        Args:
            spec: A name, `{"name": ..., **options}`, or an instance, which is returned.
            path: Where the spec stands in a configuration, for messages.

        Returns:
            The plugin.

        Raises:
            ConfigError: if the spec has no name or an option is wrong.
        """
        path = path or self.kind
        if isinstance(spec, self.interface):
            return spec
        if isinstance(spec, str):
            spec = {"name": spec}
        if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
            raise ConfigError(f"'{path}' must be a name, a mapping with a 'name' or a plugin, got {spec!r}")
        spec = self._resolved(spec, path)
        options = {key: value for key, value in spec.items() if key != "name"}
        return config.build(self.get(spec["name"]), options, path=path)

    @property
    def kind(self) -> str:
        """What the plugins are, in the singular: `splitter`, `search_backend`."""
        return self.group.removeprefix("imgcls.").removesuffix("s")

    def _resolved(self, spec: Mapping[str, Any], path: str) -> Mapping[str, Any]:
        name = spec["name"]
        meant = {} if name in self.names() else self._otherwise(name) or {}
        for key in meant.keys() & spec.keys() - {"name"}:
            raise ConfigError(f"'{path}.{key}' must be left out beside the name {name!r}, got {spec[key]!r}")
        return {**spec, **meant}

    def _help(self, name: str) -> str:
        return nearest(name, self.names()) + " ('imgcls plugins' lists all)"


@functools.cache
def _load(plugin: Declared, interface: Any) -> type[Plugin]:
    label = f"{plugin.group.removeprefix('imgcls.').removesuffix('s')} {plugin.name!r} of {plugin.distribution}"
    module, _, attribute = plugin.target.partition("[")[0].strip().partition(":")
    try:
        kind: Any = importlib.import_module(module.strip())
        for part in attribute.strip().split("."):
            kind = getattr(kind, part)
    except (Exception, SystemExit) as error:  # a stranger's module may do anything when imported
        cause = f"{type(error).__name__}: {error}"
        raise PluginLoadError(f"{label} must be importable, got {cause}; repair or reinstall it") from error
    good = isinstance(kind, type) and issubclass(kind, interface) and attrs.has(kind)
    if not good or inspect.isabstract(kind):
        raise PluginContractError(f"{label} must be a concrete attrs subclass of {interface.__name__}, got {kind!r}")
    _loaded[kind] = plugin.name
    return kind


def name_of(kind: type[Plugin]) -> str | None:
    """Find the name that a plugin class is registered by.

    Args:
        kind: The class.

    Returns:
        Its name, or None where no distribution declares it.
    """
    target = f"{kind.__module__}:{kind.__qualname__}"
    return next((p.name for p in all_plugins() if p.target == target), None) or _loaded.get(kind)
