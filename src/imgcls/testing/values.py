"""What holds for plugins of every kind: frozen, picklable, rebuilt from their spec, without side effects."""

from __future__ import annotations

import contextlib
import json
import pickle
import random
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
import torch

from imgcls.core.dumping import spec_of
from imgcls.core.errors import ConfigError
from imgcls.core.plugins import Plugin, Registry, name_of

__all__ = ["chance_untouched", "check_value", "require"]


def require(holds: object, owner: object, rule: str) -> None:
    """Raise unless something holds.

    Args:
        holds: What is taken for true or false.
        owner: The plugin.
        rule: What it must do, behind "must".

    Raises:
        AssertionError: naming the plugin's class and the rule.
    """
    if not holds:
        raise AssertionError(f"{type(owner).__name__} must {rule}")


def check_value(plugin: Plugin, registry: Registry[Any]) -> None:
    """Check what every plugin is as a value.

    Args:
        plugin: The plugin.
        registry: The registry of its kind.

    Raises:
        AssertionError: if it is no frozen attrs value of its interface, does not survive pickling,
            or its spec does not give it back.
    """
    require(isinstance(plugin, registry.interface), plugin, f"be a {registry.interface.__name__}")
    require(attrs.has(type(plugin)), plugin, "be an attrs class, whose fields are its options")
    _check_frozen(plugin)
    _check_same(plugin, attrs.evolve(plugin), "attrs.evolve without changes")  # type: ignore[misc]  # any attrs class
    _check_same(plugin, pickle.loads(pickle.dumps(plugin)), "pickling")  # noqa: S301 (our own bytes)
    if name_of(type(plugin)) is not None:
        _check_spec(plugin, registry)


def _check_frozen(plugin: Plugin) -> None:
    try:
        plugin.imgcls_probe = 1  # type: ignore[attr-defined]
    except AttributeError:
        return
    raise AssertionError(f"{type(plugin).__name__} must be frozen; decorate it with @attrs.frozen(kw_only=True)")


def _check_same(plugin: Plugin, other: Any, way: str) -> None:
    require(type(other) is type(plugin) and other == plugin, plugin, f"be equal to itself after {way}")


def _check_spec(plugin: Plugin, registry: Registry[Any]) -> None:
    spec = json.loads(json.dumps(spec_of(plugin)))
    _check_same(plugin, registry.create(spec), "writing it as a spec and reading that")
    try:
        registry.create({**spec, "imgcls_probe": 1})
    except ConfigError as error:
        require("imgcls_probe" in str(error), plugin, "refuse an unknown option by its name")
    else:
        raise AssertionError(f"{type(plugin).__name__} must refuse an unknown option")


@contextlib.contextmanager
def chance_untouched(owner: object) -> Iterator[None]:
    """Check that a block leaves the global generators of Python, numpy and torch alone.

    Args:
        owner: The plugin, for the message.

    Yields:
        Nothing.
    """
    before = _states()
    yield
    for name, state in _states().items():
        require(state == before[name], owner, f"leave the global random state of {name} alone; take chance from seeds")


def _states() -> dict[str, bytes]:
    numpy = pickle.dumps(np.random.get_state())  # noqa: NPY002 (the global state is what is watched)
    return {
        "Python": pickle.dumps(random.getstate()),
        "numpy": numpy,
        "torch": torch.get_rng_state().numpy().tobytes(),
    }
