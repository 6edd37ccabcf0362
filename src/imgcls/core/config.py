"""From plain values (YAML, JSON, keyword arguments) to frozen attrs values.

The converters and validators of the fields are the only truth about an option; this
module adds what they cannot know: unknown keys, and the path to a wrong one.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar, cast

import attrs

from imgcls.core.errors import ConfigError, UnknownPluginError, nearest

__all__ = ["Named", "at", "build", "from_yaml", "nested", "nested_list", "pick", "replace", "to_yaml"]

T = TypeVar("T")


class Named:
    """Base of small values that a configuration picks by name, such as optimizers.

    Unlike plugins they are a closed set.
    """

    name: ClassVar[str]


def pick(kinds: Sequence[type[Named]], value: Any, *, path: str) -> Any:
    """Make one of several named values from its spec.

    Args:
        kinds: The attrs classes to choose from.
        value: A name, `{"name": ..., **options}`, or an instance, which is returned.
        path: Where the spec stands, for messages.

    Returns:
        The value.

    Raises:
        ConfigError: if the name or an option is wrong.
    """
    if isinstance(value, tuple(kinds)):
        return value
    spec = {"name": value} if isinstance(value, str) else value
    table = {kind.name: kind for kind in kinds}
    if not isinstance(spec, Mapping) or spec.get("name") not in list(table):
        name = spec.get("name") if isinstance(spec, Mapping) else spec
        raise ConfigError(f"'{path}' must name one of its kinds, got {name!r}; {nearest(str(name), table)}")
    return build(table[spec["name"]], {key: item for key, item in spec.items() if key != "name"}, path=path)


def build(kind: type[T], options: Mapping[str, Any], *, path: str) -> T:
    """Make a value from its options.

    Args:
        kind: An attrs class.
        options: Its fields by name.
        path: Where the options stand, for messages; empty at the top.

    Returns:
        The value.

    Raises:
        ConfigError: if an option is unknown, missing or wrong; the message has its path.
    """
    fields = {field.alias: field for field in attrs.fields(cast("type[attrs.AttrsInstance]", kind)) if field.init}
    for key in options:
        if key not in fields:
            raise ConfigError(
                f"'{_joined(path, key)}' must be an option of {kind.__name__}; {nearest(str(key), fields)}"
            )
    for key, field in fields.items():
        if field.default is attrs.NOTHING and key not in options:
            raise ConfigError(f"'{_joined(path, key)}' must be given")
    with at(path):
        return kind(**options)


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else str(key)


@contextlib.contextmanager
def at(path: str) -> Iterator[None]:
    """Put a path before the option that an error of the block names.

    Args:
        path: Such as `stages.0`; empty changes nothing.

    Yields:
        Nothing.
    """
    try:
        yield
    except (ConfigError, UnknownPluginError) as error:
        text = str(error)
        if not path:
            raise
        raise type(error)(f"'{path}.{text[1:]}" if text.startswith("'") else f"{path}: {text}") from None


def nested(kind: type[T], value: Any, *, path: str) -> Any:
    """Convert what is given for a field that holds a value.

    Args:
        kind: The attrs class.
        value: A mapping of its options, or anything else, which is left for the validator.
        path: The field.

    Returns:
        The value.
    """
    return build(kind, value, path=path) if isinstance(value, Mapping) else value


def nested_list(kind: type[T], values: Any, *, path: str) -> Any:
    """Convert what is given for a field that holds several values.

    Args:
        kind: The attrs class.
        values: A list of mappings or values, or anything else, which is left for the validator.
        path: The field.

    Returns:
        A tuple of values.
    """
    if not isinstance(values, Sequence) or isinstance(values, str):
        return values
    return tuple(nested(kind, value, path=f"{path}.{index}") for index, value in enumerate(values))


def replace(value: T, changes: Mapping[str, Any]) -> T:
    """Change options deep inside a value by dotted paths.

    Args:
        value: An attrs value, such as a Trainer, or nested mappings and lists.
        changes: New values by path: `{"stages.1.lr": 1e-4}`.

    Returns:
        The changed copy; every converter and validator on the way runs again.

    Raises:
        ConfigError: if a path leads nowhere; the nearest names are given.

    Examples:
        >>> replace({"a": [{"b": 1}]}, {"a.0.b": 2})
        {'a': [{'b': 2}]}
    """
    for path, new in changes.items():
        value = _replaced(value, [], path.split("."), new)
    return value


def _replaced(value: Any, done: list[str], rest: list[str], new: Any) -> Any:
    if not rest:
        return new
    key, path = rest[0], ".".join([*done, *rest])

    def changed(item: Any) -> Any:
        return _replaced(item, [*done, key], rest[1:], new)

    if isinstance(value, list | tuple):
        index = _index(value, key, path)
        return type(value)(changed(item) if i == index else item for i, item in enumerate(value))
    if value is None or isinstance(value, str):  # 'adamw' and a change of its 'lr' make a spec with options
        value = {"name": value} if isinstance(value, str) else {}
    if isinstance(value, Mapping):
        return {**value, key: changed(value.get(key))}
    return _evolved(value, done, key, changed, path)


def _evolved(value: Any, done: list[str], key: str, changed: Callable[[Any], Any], path: str) -> Any:
    if not attrs.has(type(value)):
        raise ConfigError(f"'{path}' must lead to an option, got {value!r} before {key!r}")
    fields = {field.alias: field.name for field in attrs.fields(type(value)) if field.init}
    if key not in fields:
        raise ConfigError(f"'{path}' must lead to an option of {type(value).__name__}; {nearest(key, fields)}")
    new = changed(getattr(value, fields[key]))
    with at(".".join(done)):
        return attrs.evolve(value, **{key: new})


def _index(values: Sequence[Any], key: str, path: str) -> int:
    if not key.isdecimal() or int(key) >= len(values):
        raise ConfigError(f"'{path}' must have a number from 0 to {len(values) - 1} where {key!r} stands")
    return int(key)


def from_yaml(text: str, *, source: str = "the configuration") -> Any:
    """Read YAML, with numbers and truth values as in YAML 1.2: `1e-4` is a number, `NO` a word.

    Args:
        text: The YAML.
        source: Where it comes from, for the message.

    Returns:
        Its value.

    Raises:
        ConfigError: if it is not YAML; with the line.
    """
    import yaml

    try:
        return yaml.load(text, Loader=_loader())  # noqa: S506 (a safe loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} must be YAML; {' '.join(str(error).split())}") from None


def to_yaml(value: Any) -> str:
    """Write plain values as YAML.

    Args:
        value: What `dump` returns.

    Returns:
        The text, keys in their order.
    """
    import yaml

    plain = json.loads(json.dumps(value))  # no anchors for values that appear twice
    return str(yaml.dump(plain, Dumper=_dumper(), sort_keys=False, allow_unicode=True, width=100))


# The scalars of YAML 1.2: 1.1 takes 1e-4 for a word, NO for False, 2024_01 for a number.
_SCALARS = {
    "bool": (r"^(true|True|TRUE|false|False|FALSE)$", "tTfF"),
    "float": (r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$", "-+0123456789."),
    "int": (r"^[-+]?[0-9]+$", "-+0123456789"),
}


def _loader() -> Any:
    import yaml

    kind: Any = type("Loader", (yaml.SafeLoader,), {})
    old = {f"tag:yaml.org,2002:{name}" for name in (*_SCALARS, "timestamp")}
    kind.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in found if tag not in old]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for name in ("bool", "int", "float"):  # a whole number is tried as such first
        pattern, first = _SCALARS[name]
        kind.add_implicit_resolver(f"tag:yaml.org,2002:{name}", re.compile(pattern), list(first))
    return kind


# Quotes what either version would not read as a word.
def _dumper() -> Any:
    import yaml

    kind: Any = type("Dumper", (yaml.SafeDumper,), {})
    pattern, first = _SCALARS["float"]
    kind.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(pattern), list(first))
    return kind
