"""The blocks of a network in order, from the stem to the last, and the weights in each."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from torch import nn

from imgcls.core.errors import ConfigError, nearest
from imgcls.models.base import Classifier
from imgcls.models.weights import short_name

__all__ = ["Block", "blocks", "match", "param_depths"]

#: A body is divided until it has this many blocks, if it can be.
_FEW = 3

_LISTS = (nn.Sequential, nn.ModuleList)


@attrs.frozen(kw_only=True)
class Block:
    """A part of a body, of which the blocks are a partition.

    Attributes:
        name: The modules in it, as the network calls them.
        parameters: The names of its parameters in the classifier, such as
            `body.model.layer1.0.conv1.weight`.
    """

    name: str
    parameters: tuple[str, ...]


def blocks(classifier: Classifier) -> tuple[Block, ...]:
    """Divide the body into blocks: the stages of a convolutional network, the layers of a transformer.

    Args:
        classifier: The classifier.

    Returns:
        The blocks from the stem to the last; every parameter of the body is in one of them.
        What belongs to no block, such as a last norm, is in the one before it.
    """
    return _divided(classifier, classifier.facts.blocks)


def param_depths(classifier: Classifier) -> dict[str, int]:
    """Say how deep each parameter lies, for learning rates that fall from the head to the stem.

    The layers are those of `timm` where it knows them, and the blocks elsewhere.

    Args:
        classifier: The classifier.

    Returns:
        By name in the classifier: 0 for the stem, one more for each layer, the highest for the head.
    """
    layers = _divided(classifier, classifier.facts.layers or classifier.facts.blocks)
    depths = {name: depth for depth, layer in enumerate(layers) for name in layer.parameters}
    return {name: depths.get(name, len(layers)) for name, _ in classifier.named_parameters()}


def match(classifier: Classifier, pattern: str) -> tuple[str, ...]:
    """Find the parameters of the body that a pattern means.

    Args:
        classifier: The classifier.
        pattern: The name of a module or parameter, with `*`, `?` and `[34]` as in file names:
            `layer4`, `layer[34].*`; `body.` and `model.` before it may be left out.

    Returns:
        Their names in the classifier.

    Raises:
        ConfigError: if there are none; the nearest modules are given.
    """
    wanted = short_name(pattern)
    names = {f"body.{name}": short_name(name) for name, _ in classifier.body.named_parameters()}
    found = tuple(
        name
        for name, short in names.items()
        if fnmatch.fnmatchcase(short, wanted) or fnmatch.fnmatchcase(short, f"{wanted}.*")
    )
    if not found:
        modules = {short.rpartition(".")[0] for short in names.values()}
        known = modules | {name.partition(".")[0] for name in modules}
        raise ConfigError(f"'train' must match parameters of the backbone, got {pattern!r}; {nearest(wanted, known)}")
    return found


def _divided(classifier: Classifier, groups: Sequence[Sequence[str]]) -> tuple[Block, ...]:
    body = classifier.body
    groups = groups or _children(body)
    owners = {prefix: number for number, prefixes in enumerate(groups) for prefix in prefixes}
    members: dict[int, list[str]] = {number: [] for number in range(len(groups))}
    for name, _ in body.named_parameters():
        number = _owner(name, owners)
        members[len(groups) - 1 if number is None else number].append(name)
    below = Counter(path for name, _ in body.named_parameters() for path in _paths(name))
    return tuple(
        Block(name=_title(names, below), parameters=tuple(f"body.{name}" for name in names))
        for names in members.values()
        if names
    )


def _owner(name: str, owners: Mapping[str, int]) -> int | None:
    while name and name not in owners:
        name = name.rpartition(".")[0]
    return owners.get(name)


def _paths(name: str) -> list[str]:
    parts = short_name(name).split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


# The largest modules that lie wholly within a block.
def _title(names: Sequence[str], below: Mapping[str, int]) -> str:
    own = Counter(path for name in names for path in _paths(name))
    whole = (next(path for path in _paths(name) if own[path] == below[path]) for name in names)
    return ", ".join(dict.fromkeys(whole))


# Of a network that says nothing of its blocks: its children, lists of them divided, until there are a few.
def _children(body: nn.Module) -> list[list[str]]:
    parts = _inside("", body)
    while len(_with_norms(parts)) < _FEW:
        lists = [name for name, part in parts if type(part) in _LISTS and _divisible(name, part)]
        chosen = lists or [name for name, part in parts if _divisible(name, part)][-1:]
        if not chosen:
            break
        parts = [new for name, part in parts for new in (_inside(name, part) if name in chosen else [(name, part)])]
    return _with_norms(parts)


def _inside(name: str, part: Any) -> list[tuple[str, Any]]:
    if not isinstance(part, nn.Module):
        return []
    before = f"{name}." if name else ""
    own = [(before + key, value) for key, value in part.named_parameters(recurse=False)]
    return own + [
        (before + key, child) for key, child in part.named_children() if any(True for _ in child.parameters())
    ]


def _divisible(name: str, part: Any) -> bool:
    return any(isinstance(inner, nn.Module) for _, inner in _inside(name, part))


# A norm belongs to what it follows, a single parameter to what it stands before.
def _with_norms(parts: list[tuple[str, Any]]) -> list[list[str]]:
    groups: list[list[str]] = []
    open_group = False
    for name, part in parts:
        single = isinstance(part, nn.Parameter)
        if groups and (open_group or _is_norm(part)):
            groups[-1].append(name)
        else:
            groups.append([name])
        open_group = single
    return groups


def _is_norm(part: Any) -> bool:
    leaf = isinstance(part, nn.Module) and not any(True for _ in part.children())
    return leaf and all(parameter.ndim <= 1 for parameter in part.parameters())
