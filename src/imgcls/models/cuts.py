"""Networks that end early: cut behind a module, what follows removed, the maps pooled to features."""

from __future__ import annotations

from typing import Any, final

import attrs
import torch
from torch import Tensor, nn

from imgcls.core.errors import ConfigError
from imgcls.models.facts import Facts
from imgcls.models.places import Reached, place_of, seen_shapes

__all__ = ["POOLS", "Pool", "Trimmed", "inside_model", "trim"]

#: How maps become features: the mean of all places, the largest value, or the mean of these two.
POOLS = ("avg", "max", "avgmax")


@final
class Pool(nn.Module):
    """Maps to features (B, C).

    Args:
        kind: One of `POOLS`.
        layout: The axes of the maps: `NCHW`, `NHWC` or `NLC`.
        prefix_tokens: How many tokens before the patches belong to no place.
    """

    def __init__(self, kind: str, *, layout: str, prefix_tokens: int = 0) -> None:
        super().__init__()
        self.kind, self.layout, self.prefix_tokens = kind, layout, prefix_tokens

    def forward(self, maps: Tensor) -> Tensor:
        """Pool over all places.

        Args:
            maps: (B, C, h, w), (B, h, w, C) or tokens (B, N, C).

        Returns:
            Features (B, C).
        """
        flat = maps.flatten(2).transpose(1, 2) if self.layout == "NCHW" else maps.flatten(1, -2)
        places = flat[:, self.prefix_tokens :]
        if self.kind == "avg":
            return places.mean(dim=1)
        highest = places.amax(dim=1)
        return highest if self.kind == "max" else (highest + places.mean(dim=1)) / 2

    def extra_repr(self) -> str:
        """Say how it pools.

        Returns:
            The kind and the axes.
        """
        return f"{self.kind!r}, layout={self.layout!r}"


def _leave(_: nn.Module, __: Any, output: Any) -> None:
    raise Reached(output)


@final
class Trimmed(nn.Module):
    """A network up to one of its modules, and a pool.

    The forward pass of the network is left as soon as the module has answered, so that any
    network can be cut at any module, without tracing it.

    Args:
        model: The network, which is changed.
        last: The module whose answer is the maps.
        pool: What makes features of them.

    Attributes:
        model: What is left of the network.
        maps: An identity: the place to look at the maps.
        pool: From maps to features (B, F).
    """

    def __init__(self, model: nn.Module, last: str, pool: Pool) -> None:
        super().__init__()
        self.model = model
        self.maps = nn.Identity()
        self.pool = pool
        model.get_submodule(last).register_forward_hook(_leave)

    def forward(self, images: Tensor) -> Tensor:
        """Compute features.

        Args:
            images: (B, C, H, W).

        Returns:
            Features (B, F).

        Raises:
            RuntimeError: if the network does not use the module it was cut at.
        """
        try:
            self.model(images)
        except Reached as reached:
            features: Tensor = self.pool(self.maps(reached.maps))
            return features
        raise RuntimeError("the network was expected to reach the module it is cut at")


def trim(
    model: nn.Module, facts: Facts, *, last: str, pool: str, probe: Tensor, option: str = "cut"
) -> tuple[Trimmed, Facts]:
    """End a network behind one of its modules and remove what no longer has a use.

    Args:
        model: The network, which is changed; it may give anything.
        facts: What is known of it.
        last: The module.
        pool: One of `POOLS`.
        probe: Images (B, C, H, W) for a trial.
        option: What the user asked with, for the message.

    Returns:
        The body and its facts.

    Raises:
        ConfigError: if the module gives no maps.
    """
    shapes = dict(seen_shapes(model, probe))
    place = place_of(last, shapes.get(last, ()), probe.shape[-2:], facts.prefix_tokens)
    if place is None:
        got = f"one of shape {shapes[last]}" if last in shapes else "none"
        raise ConfigError(f"'{option}' must have a module that gives one map an image, got {last!r}, which gives {got}")
    body = Trimmed(model, last, Pool(pool, layout=place.layout, prefix_tokens=place.prefix_tokens))
    _prune(body, probe)
    try:
        body(probe)
    except (TypeError, AttributeError, RuntimeError) as error:
        rule = f"'{option}' must leave a network of one line, got {last!r}, beside which other branches run"
        raise ConfigError(f"{rule}; take another module") from error
    return body, attrs.evolve(
        facts,
        num_features=place.channels,
        target_layer="maps",
        last_map="maps",
        layout=place.layout,
        prefix_tokens=place.prefix_tokens,
        blocks=inside_model(facts.blocks),
        layers=inside_model(facts.layers),
    )


def inside_model(groups: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    """Name blocks as they are called from outside a wrapper that holds the network as `model`.

    Args:
        groups: Names of modules or parameters, a tuple a block.

    Returns:
        The same behind `model.`.
    """
    return tuple(tuple(f"model.{name}" for name in names) for names in groups)


# What the gradient does not reach and the trial does not run has no use any more; parameters without a gradient
# would stop distributed training.
def _prune(body: Trimmed, probe: Tensor) -> None:
    ran: set[nn.Module] = set()
    handles = [m.register_forward_pre_hook(lambda module, _: ran.add(module)) for m in body.modules()]
    parameters = [parameter.requires_grad_() for parameter in body.parameters()]
    try:
        with torch.enable_grad():
            features = body.eval()(probe)
        gradients = torch.autograd.grad(features.sum(), parameters, allow_unused=True) if parameters else ()
    finally:
        for handle in handles:
            handle.remove()
    used = {id(p) for p, gradient in zip(parameters, gradients, strict=True) if gradient is not None}
    _keep(body.model, used, ran)


def _keep(module: nn.Module, used: set[int], ran: set[nn.Module]) -> None:
    for name, child in list(module.named_children()):
        own = {id(parameter) for parameter in child.parameters()}
        if own and ran.isdisjoint(child.modules()) and used.isdisjoint(own):
            setattr(module, name, nn.Identity())
        else:
            _keep(child, used, ran)
    for name, parameter in list(module.named_parameters(recurse=False)):
        if id(parameter) not in used:
            module.register_parameter(name, None)
