"""Variants of a Trainer: where a space leads, which of its points the Trainer is itself, and the Trainer at a point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from imgcls.core import config
from imgcls.core.dumping import dump
from imgcls.core.errors import ConfigError
from imgcls.core.randomness import generator
from imgcls.search.parameters import Int
from imgcls.search.plain import canonical
from imgcls.search.space import Space
from imgcls.trainer import Trainer

__all__ = ["check_paths", "own_point", "own_values", "total_epochs", "variant"]

#: Options that say what trials are measured on or by; a space that varied them would compare apples and pears.
_FIXED = frozenset(
    {"data", "test", "splitter", "seed", "monitor", "decision", "out", "callbacks", "executor", "parallel", "trackers"}
)

#: Points that are tried to have each parameter active once.
_POINTS = 200

#: Choices of a parameter that are compared with what the Trainer has.
_COMPARED = 100


def variant(trainer: Trainer, params: Mapping[str, Any]) -> Trainer:
    """Change a Trainer; what is checked across its options is checked once all changes are made.

    Args:
        trainer: The Trainer.
        params: New values by dotted path.

    Returns:
        The other Trainer.

    Raises:
        ConfigError: if a path leads nowhere or a value is wrong.
    """
    fields = {str(field.alias): getattr(trainer, field.name) for field in attrs.fields(Trainer)}
    return config.build(Trainer, config.replace(fields, params), path="")


def check_paths(trainer: Trainer, space: Space, seed: int) -> None:
    """Check a space against a Trainer, each parameter at a point where it is active.

    Args:
        trainer: The Trainer.
        space: The space.
        seed: Chooses the points.

    Raises:
        ConfigError: if a path leads nowhere, or trials that differ in it could not be compared.
    """
    for path in space:
        if path.split(".")[0] in _FIXED:
            raise ConfigError(f"'space' must leave {path!r} alone, or trials could not be compared; take it out")
    rng, rest = generator(seed, "paths"), set(space)
    for _ in range(_POINTS):
        if rest & set(params := space.sample(rng)):
            with config.at("space"):
                variant(trainer, params)
            rest -= set(params)


def own_point(trainer: Trainer, space: Space) -> dict[str, Any]:
    """Find the point of a space that a Trainer is itself.

    Args:
        trainer: The Trainer.
        space: The space.

    Returns:
        The parameters by path; those that the Trainer has another value for are left out.
    """
    found: dict[str, Any] = {}
    for path, one in space.items():
        if not space.active(path, found):
            continue
        listed = one.listed()
        candidates = [_value(trainer, path)] if listed is None or isinstance(one, Int) else list(listed)[:_COMPARED]
        same = [value for value in candidates if one.holds(value) and _is_own(trainer, path, value)]
        if same:
            found[path] = same[0]
    return found


def own_values(trainer: Trainer, space: Space) -> dict[str, Any]:
    """Say what a Trainer has where a space varies it, be it a point of the space or not.

    Args:
        trainer: The Trainer.
        space: The space.

    Returns:
        Plain values by path, of the parameters that are active; a plugin without options of its own is its name.
    """
    found: dict[str, Any] = {}
    for path in space:
        if space.active(path, found):
            found[path] = _readable(_short(trainer, path, _value(trainer, path)))
    return found


# What is of no distribution has no name; its text says what it was.
def _readable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return str(value["opaque"]) if set(value) == {"opaque"} else {key: _readable(one) for key, one in value.items()}
    return [_readable(one) for one in value] if isinstance(value, list) else value


def _short(trainer: Trainer, path: str, value: Any) -> Any:
    words = [value.get("model"), value.get("name")] if isinstance(value, Mapping) else []
    return next((word for word in words if isinstance(word, str) and _is_own(trainer, path, word)), value)


def _is_own(trainer: Trainer, path: str, value: Any) -> bool:
    try:
        other = variant(trainer, {path: value})
    except ConfigError:
        return False
    return canonical(other.to_config()) == canonical(trainer.to_config())


def _value(trainer: Trainer, path: str) -> Any:
    value: Any = dump({field.alias: getattr(trainer, field.name) for field in attrs.fields(Trainer) if _plain(field)})
    for key in path.split("."):
        if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, Mapping):
            value = value.get(key)
        else:
            return None
    return value


def _plain(field: attrs.Attribute[Any]) -> bool:
    return field.name not in {"data", "test", "callbacks"}


def total_epochs(trainer: Trainer) -> int:
    """Count the epochs of a whole training.

    Args:
        trainer: The Trainer.

    Returns:
        Those of all stages.
    """
    return sum(full.stage.epochs for full in trainer.full_stages)
