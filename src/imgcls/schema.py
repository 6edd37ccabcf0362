"""A JSON schema of the configuration, by which editors complete, explain and check it."""

from __future__ import annotations

import collections.abc
import inspect
import re
import types
import typing
from pathlib import Path
from typing import Any

import attrs

from imgcls.augment.base import Transform
from imgcls.augment.presets import PRESETS
from imgcls.core.config import Named
from imgcls.core.config_files import INCLUDE
from imgcls.core.dumping import dump
from imgcls.core.plugins import Plugin, all_plugins
from imgcls.data.dataset import Dataset
from imgcls.data.readers import READERS
from imgcls.searcher import Searcher
from imgcls.trainer import Trainer

__all__ = ["config_schema"]

Schema = dict[str, Any]

_SCALARS: dict[Any, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    Path: "string",
    type(None): "null",
}

#: Fields that take more than their types say, or that a file cannot hold.
_SPECIAL: dict[str, Schema] = {
    "augment": {
        "anyOf": [{"enum": [*PRESETS]}, {"type": "array"}, {"type": "object"}, {"type": "null"}],
    },
    "transforms": {"anyOf": [{"enum": [*PRESETS]}, {"type": "array"}]},
    "decision": {"type": ["string", "number", "object", "null"]},
    "test": {"type": ["string", "number", "null"]},
    "size": {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}, {"type": "null"}]},
    "callbacks": {"type": "array", "maxItems": 0},
    "space": {"type": "object", "minProperties": 1, "additionalProperties": {"$ref": "#/$defs/Parameter"}},
}

#: Fields for which a word may stand.
_BY_WORD: dict[str, Schema] = {"balancer": {"type": "string"}, "prune": {"const": "folds"}}

#: Options of another library's class, for which the name of the class may stand.
_BY_NAME = frozenset({"sampler", "pruner", "searcher"})

#: A parameter of a search, in its plain form; a value without a kind is a choice (a list) or fixed.
_PARAMETER: Schema = {
    "type": ["string", "number", "boolean", "null", "array", "object"],
    "properties": {
        "choice": {"type": "array", "minItems": 1},
        "float": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
        "int": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
        "log": {"type": "boolean"},
        "step": {"type": "integer"},
        "when": {"type": "object"},
    },
}


def config_schema() -> Schema:
    """Describe a configuration: the data, every option of the Trainer, and under `search` those of the Searcher.

    It checks names and types; ranges, and what goes with what, are checked when the Trainer is made.

    Returns:
        The schema, JSON Schema 2020-12.
    """
    known: dict[str, Schema] = {"Parameter": _PARAMETER}
    properties = _properties(Trainer, known, without={"data"})
    include = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of imgcls",
        "type": "object",
        "properties": {
            INCLUDE: include | {"description": "Files that this one stands over."},
            "data": _data(),
            **properties,
            "search": _search(known),
        },
        "additionalProperties": False,
        "$defs": known,
    }


# An included file may hold what is required, so nothing is.
def _search(known: dict[str, Schema]) -> Schema:
    told = "What `imgcls search` tries: the options of the Searcher."
    properties = _properties(Searcher, known, without={"trainer"})
    return {"description": told, "type": "object", "properties": properties, "additionalProperties": False}


def _data() -> Schema:
    told = "Where the records come from: the reader and its options."
    return {"description": told, "anyOf": [_reader(name, first) for name, first in READERS.items()]}


# Readers are functions, whose options are named by their signature and told under "Args:".
def _reader(name: str, first: str) -> Schema:
    function = getattr(Dataset, f"from_{name}")
    told = _listed(function, "Args")
    properties = {option: _told(told.get(option)) for option in inspect.signature(function).parameters}
    return {
        "type": "object",
        "properties": {"from": {"const": name}, **properties},
        "required": ["from", first],
        "additionalProperties": False,
    }


def _properties(kind: type, known: dict[str, Schema], *, without: set[str] | None = None) -> dict[str, Schema]:
    hints, told = typing.get_type_hints(kind), _listed(kind, "Attributes")
    return {
        str(field.alias): _field(field, hints.get(field.name, Any), known) | _told(told.get(str(field.alias)))
        for field in attrs.fields(kind)
        if field.init and field.alias not in (without or ())
    }


def _told(text: str | None) -> Schema:
    return {} if text is None else {"description": text}


def _field(field: attrs.Attribute[Any], hint: Any, known: dict[str, Schema]) -> Schema:
    found = _SPECIAL.get(str(field.alias)) or _of(hint, known)
    if field.alias in _BY_NAME and "$ref" not in found:  # a plugin knows its names
        found = {"anyOf": [found, {"type": "string"}]}
    if field.alias in _BY_WORD:
        found = {"anyOf": [found, _BY_WORD[field.alias]]}
    default = field.default
    if default is not attrs.NOTHING and not isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return found | {"default": dump(default)}
    return found


def _of(hint: Any, known: dict[str, Schema]) -> Schema:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in {typing.Union, types.UnionType}:
        return {"anyOf": [_of(item, known) for item in inner]}
    if hint in _SCALARS:
        return {"type": _SCALARS[hint]}
    if origin in {tuple, list, collections.abc.Sequence}:
        items = _of(inner[0], known) if inner else {}
        return {"type": "array", "items": items}
    if origin in {dict, collections.abc.Mapping}:
        return {"type": "object"}
    return _of_class(hint, known) if inspect.isclass(hint) else {}


def _of_class(kind: type, known: dict[str, Schema]) -> Schema:
    if issubclass(kind, Plugin):
        return _referred(kind, known, _plugin)
    if issubclass(kind, Named) and not issubclass(kind, Transform):
        return _referred(kind, known, _named)
    return _referred(kind, known, _plain) if attrs.has(kind) else {}


def _referred(kind: type, known: dict[str, Schema], make: Any) -> Schema:
    if kind.__name__ not in known:
        known[kind.__name__] = {}  # for a class that holds itself
        known[kind.__name__] = make(kind, known)
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _plain(kind: type, known: dict[str, Schema]) -> Schema:
    required = [field.alias for field in attrs.fields(kind) if field.init and field.default is attrs.NOTHING]
    found: Schema = {"type": "object", "properties": _properties(kind, known), "additionalProperties": False}
    return found | ({"required": required} if required else {})


# A name, or a name with options. A backbone may be any model of timm or torchvision.
def _plugin(kind: type[Plugin], known: dict[str, Schema]) -> Schema:
    from imgcls import backbones, explainers, samplers, search_backends, splitters, trackers

    registries = (backbones, explainers, samplers, search_backends, splitters, trackers)
    registry: Any = next(found for found in registries if found.interface is kind)
    names = sorted(plugin.name for plugin in all_plugins() if plugin.group == registry.group and plugin.state == "ok")
    word: Schema = {"type": "string", "examples": names} if registry is backbones else {"enum": names}
    specs = [_spec(name, registry.get(name), known) for name in names]
    return {"anyOf": [word, *specs]}


def _named(kind: type[Named], known: dict[str, Schema]) -> Schema:
    kinds = sorted((found for found in _below(kind) if hasattr(found, "name")), key=lambda found: found.name)
    return {"anyOf": [{"enum": [found.name for found in kinds]}, *(_spec(found.name, found, known) for found in kinds)]}


def _below(kind: type[Any]) -> list[type[Any]]:
    children: list[type[Any]] = kind.__subclasses__()
    return [found for child in children for found in (child, *_below(child))]


def _spec(name: str, kind: type, known: dict[str, Schema]) -> Schema:
    properties = {"name": {"const": name}} | _properties(kind, known)
    found: Schema = {"type": "object", "properties": properties, "required": ["name"], "additionalProperties": False}
    return found | _told((inspect.getdoc(kind) or "").partition("\n")[0] or None)


# What stands under "Attributes:" in the docstring of a class, or under "Args:" in that of a function.
def _listed(owner: Any, heading: str) -> dict[str, str]:
    text = inspect.getdoc(owner) or ""
    _, _, listed = text.partition(f"{heading}:\n")
    listed = listed.split("\n\n")[0]
    found = re.findall(r"^    (\w+): (.*(?:\n     .*)*)", listed, re.MULTILINE)
    return {name: " ".join(told.split()) for name, told in found}
