"""What a network consists of: its blocks, where it can be cut, and its layers."""

from __future__ import annotations

import attrs
import torch
from torch import nn

from imgcls.models.base import Classifier
from imgcls.models.blocks import blocks
from imgcls.models.facts import Facts
from imgcls.models.places import Place, places, seen_shapes
from imgcls.models.weights import short_name

__all__ = ["BlockRow", "LayerRow", "Summary", "summary"]


@attrs.frozen(kw_only=True)
class BlockRow:
    """A block of a body.

    Attributes:
        last: The number to give to `Stage(train=...)` to train from this block on.
        name: The modules in it.
        shape: What it gives for one image, or empty where that is no tensor.
        parameters: How many weights it has.
    """

    last: int
    name: str
    shape: tuple[int, ...]
    parameters: int


@attrs.frozen(kw_only=True)
class LayerRow:
    """A module of a network.

    Attributes:
        name: The name to give to `cut=...`.
        kind: Its class.
        shape: What it gives for one image, or empty where that is no tensor.
        parameters: How many weights it has.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int


@attrs.frozen(kw_only=True)
class Summary:
    """What a network consists of.

    Attributes:
        blocks: Its blocks from the stem on.
        cuts: For each stride the last place behind which the network can be cut.
        layers: Its modules down to the depth asked for.
        parameters: How many weights the body has.
        facts: What is known of it.
    """

    blocks: tuple[BlockRow, ...]
    cuts: tuple[Place, ...]
    layers: tuple[LayerRow, ...]
    parameters: int
    facts: Facts


def summary(classifier: Classifier, *, image_size: tuple[int, int], depth: int = 0) -> Summary:
    """Look at a network with one trial image.

    Args:
        classifier: The classifier; its modes are left as they are.
        image_size: Height and width of the trial image.
        depth: How deep modules within modules are listed; 0 lists none.

    Returns:
        What it consists of.
    """
    modes = [(module, module.training) for module in classifier.modules()]
    probe = torch.zeros(1, len(classifier.facts.mean), *image_size)
    network = _network(classifier.body)
    try:
        shapes = seen_shapes(network, probe)
        cuts = {place.stride: place for place in places(network, probe, prefix_tokens=_tokens(network))}
    finally:
        for module, training in modes:
            module.training = training
    return Summary(
        blocks=_blocks(classifier, shapes),
        cuts=tuple(cuts.values()),
        layers=_layers(network, shapes, depth),
        parameters=_count(classifier.body),
        facts=classifier.facts,
    )


# The network itself, without what imgcls wraps around it: its names are those of its library.
def _network(body: nn.Module) -> nn.Module:
    while isinstance(inner := dict(body.named_children()).get("model"), nn.Module):
        body = inner
    return body


def _tokens(network: nn.Module) -> int:
    return int(getattr(network, "num_prefix_tokens", 0))


def _blocks(classifier: Classifier, shapes: list[tuple[str, tuple[int, ...]]]) -> tuple[BlockRow, ...]:
    found, sizes = blocks(classifier), {name: p.numel() for name, p in classifier.named_parameters()}
    own = [{short_name(name) for name in block.parameters} for block in found]
    given: list[tuple[int, ...]] = [()] * len(found)
    everything = [name for names in own for name in names]
    for module, shape in shapes:
        inside = {name for name in everything if name.startswith(f"{module}.")}
        for number, names in enumerate(own):
            if inside and inside <= names:
                given[number] = shape
    return tuple(
        BlockRow(
            last=len(found) - number,
            name=block.name,
            shape=given[number],
            parameters=sum(sizes[name] for name in block.parameters),
        )
        for number, block in enumerate(found)
    )


def _layers(network: nn.Module, shapes: list[tuple[str, tuple[int, ...]]], depth: int) -> tuple[LayerRow, ...]:
    given = dict(shapes)
    return tuple(
        LayerRow(name=name, kind=type(module).__name__, shape=given.get(name, ()), parameters=_count(module))
        for name, module in network.named_modules()
        if name and name.count(".") < depth
    )


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
