"""From frozen values back to the plain ones that YAML and JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from imgcls.core.config import Named
from imgcls.core.plugins import Plugin, name_of

__all__ = ["dump", "dump_fields", "spec_of"]


def dump(value: Any) -> Any:
    """Turn a value into plain ones that YAML and JSON can hold.

    Args:
        value: Attrs values, plugins, containers, numbers, strings.

    Returns:
        Mappings, lists and scalars. What cannot be rebuilt from a file (functions,
        modules, unregistered plugins) becomes `{"opaque": ...}`.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic | Path):
        return value.item() if isinstance(value, np.generic) else str(value)
    if isinstance(value, Mapping):
        return {str(key): dump(item) for key, item in value.items()}
    if isinstance(value, tuple | list | np.ndarray):
        return [dump(item) for item in value]
    if isinstance(value, Plugin | Named):
        return spec_of(value)
    return dump_fields(value) if attrs.has(type(value)) else {"opaque": repr(value)}


def dump_fields(value: Any) -> dict[str, Any]:
    """Turn the fields of an attrs value into plain values.

    Args:
        value: The attrs value.

    Returns:
        Its public fields by name.
    """
    fields = [field for field in attrs.fields(type(value)) if field.init]
    return {field.alias: dump(getattr(value, field.name)) for field in fields}


def spec_of(plugin: Plugin | Named) -> dict[str, Any]:
    """Write a plugin or a named value as a spec.

    Args:
        plugin: The plugin or value.

    Returns:
        `{"name": ..., **options}`; for a class that no registry knows `{"opaque": ...}`,
        which documents the plugin but cannot be loaded again.
    """
    name = plugin.name if isinstance(plugin, Named) else name_of(type(plugin))
    return {"opaque": repr(plugin)} if name is None else {"name": name, **dump_fields(plugin)}
