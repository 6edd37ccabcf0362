"""From the plain form of a parameter, as YAML and JSON have it, to the parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from imgcls.core.config import at
from imgcls.core.errors import ConfigError, listing, nearest
from imgcls.core.options import rejected
from imgcls.search.parameters import Choice, Fixed, Float, Int, Parameter

__all__ = ["parameter"]

#: By the key of the plain form: how the parameter is made, and its further options.
_KINDS: dict[str, tuple[Callable[..., Parameter], tuple[str, ...]]] = {
    "choice": (Choice, ("when",)),
    "float": (Float, ("log", "when")),
    "int": (Int, ("step", "log", "when")),
    "fixed": (Fixed, ("when",)),
}


def parameter(value: Any, *, path: str) -> Parameter:
    """Read a parameter from its plain form.

    Args:
        value: A parameter, which is returned; a list of choices; a mapping with one of
            the keys `choice`, `float`, `int` and `fixed`; or any other plain value, which
            stays fixed.
        path: Where it stands, for messages.

    Returns:
        The parameter.

    Raises:
        ConfigError: if it is wrong; the message has its path.

    Examples:
        >>> parameter({"float": [1e-5, 1e-2], "log": True}, path="space.lr")
        Float(when={}, low=1e-05, high=0.01, log=True)
    """
    if isinstance(value, Parameter):
        return value
    with at(path):
        if isinstance(value, list | tuple | range | np.ndarray):
            return Choice(*value)
        kinds = [kind for kind in _KINDS if isinstance(value, Mapping) and kind in value]
        return _read(value, kinds) if kinds else Fixed(value)


def _read(spec: Mapping[str, Any], kinds: list[str]) -> Parameter:
    if len(kinds) > 1:
        raise ConfigError(f"{listing(kinds, last=' and ')} must not stand together, got {dict(spec)!r}; keep one")
    kind = kinds[0]
    make, options = _KINDS[kind]
    for key in spec:
        if key not in {kind, *options}:
            remedy = f"{nearest(str(key), options)}; a mapping that is the value itself is {{'fixed': {{...}}}}"
            raise ConfigError(f"'{key}' must be an option of {kind!r}; {remedy}")
    return make(*_arguments(kind, spec[kind]), **{key: spec[key] for key in spec if key != kind})


def _arguments(kind: str, value: Any) -> Sequence[Any]:
    if kind == "fixed":
        return (value,)
    ends = kind != "choice"
    if not isinstance(value, list | tuple) or (ends and len(value) != 2):
        raise rejected(kind, "be [low, high]" if ends else "be a list of values", value)
    return value
