"""The layer that class activation maps are made from, and what it gave."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from imgcls.core.errors import UnsupportedModelError
from imgcls.explain.targets import Score, scores
from imgcls.models.base import Classifier, Facts
from imgcls.models.places import Place, place_of, seen_shapes

__all__ = ["Seen", "channels_first", "folded", "placed", "seen", "stated_prefix"]


def placed(model: nn.Module, images: Tensor, method: str) -> Classifier:
    """Make sure that the layer is known which gives the last maps.

    A model whose facts name none, or that is no `Classifier`, is tried: the layer is the last
    one whose map has the proportions of the image and passes a gradient at most of its places.
    Of a transformer that reads its class token, that is the norm before the last attention.

    Args:
        model: The isolated model, whose parameters are frozen.
        images: (B, C, H, W).
        method: What the maps are for, for the message.

    Returns:
        The model as a classifier whose facts have a `target_layer`.

    Raises:
        UnsupportedModelError: if there is no such layer.
    """
    if isinstance(model, Classifier) and model.facts.target_layer is not None:
        return model
    body, head = (model.body, model.head) if isinstance(model, Classifier) else (model, nn.Identity())
    place = _last_place(body, images[:1].detach())
    if place is None:
        raise UnsupportedModelError(
            f"'model' must have a layer that gives maps for {method}, got a {type(body).__name__} in which none was "
            "found; use 'lrp' or 'occlusion', or wrap it as "
            "Classifier(model, nn.Identity(), Facts(num_features=<outputs>, target_layer=<name of a module>))"
        )
    known = model.facts if isinstance(model, Classifier) else Facts(num_features=0)
    facts = attrs.evolve(known, target_layer=place.name, layout=place.layout, prefix_tokens=place.prefix_tokens)
    if isinstance(model, Classifier):
        model.facts = facts
        return model
    return Classifier(body, head, facts).eval().requires_grad_(False)


def _last_place(body: nn.Module, image: Tensor) -> Place | None:
    tokens = stated_prefix(body)
    shapes = seen_shapes(body, image)
    often = [name for name, _ in shapes]
    found = [place_of(name, shape, image.shape[-2:], tokens) for name, shape in shapes if _ends(body, name)]
    known = [
        place for place in found if place is not None and often.count(place.name) == 1 and math.prod(place.size) > 1
    ]
    return next((place for place in reversed(known) if _passes(body, place, image)), None)


# What ends a block: members of lists, norms, and the modules of the outermost level.
def _ends(body: nn.Module, name: str) -> bool:
    above = body.get_submodule(name.rpartition(".")[0])
    kind = type(body.get_submodule(name)).__name__
    return "." not in name or isinstance(above, nn.Sequential | nn.ModuleList) or "Norm" in kind


def _passes(body: nn.Module, place: Place, image: Tensor) -> bool:
    facts = Facts(num_features=0, target_layer=place.name, layout=place.layout, prefix_tokens=place.prefix_tokens)
    with _watched(body.get_submodule(place.name)) as kept, torch.enable_grad():
        output = body(image)
    if not isinstance(output, Tensor) or not output.requires_grad:
        return False
    gradients: tuple[Any, ...] = torch.autograd.grad(output.square().sum(), kept, allow_unused=True)
    if gradients[0] is None:
        return False
    reached = channels_first(gradients[0], facts=facts, size=image.shape[-2:]).abs().sum(dim=1) > 0
    return bool(reached.float().mean() > 0.5)


def stated_prefix(model: nn.Module) -> int:
    """Read how many tokens a model says to put before the patches.

    Args:
        model: The model.

    Returns:
        The number, 1 where it says nothing.
    """
    stated = (vars(module).get("num_prefix_tokens") for module in model.modules())
    return next((number for number in stated if isinstance(number, int)), 1)


@attrs.frozen(kw_only=True, eq=False)
class Seen:
    """What passed the target layer.

    Attributes:
        maps: (B, C, h, w).
        gradients: (B, C, h, w) of the score.
        features: (B, F) what the head was given.
    """

    maps: Tensor
    gradients: Tensor
    features: Tensor


def seen(model: nn.Module, images: Tensor, target: Score, method: str) -> Seen:
    """Run a model once and note what passes its target layer.

    The graph begins at that layer, so that the gradient costs what lies behind it.

    Args:
        model: The isolated classifier, whose parameters are frozen.
        images: (B, C, H, W).
        target: What is explained.
        method: What the maps are for, for the message.

    Returns:
        Maps with their gradients.

    Raises:
        UnsupportedModelError: if the target layer gives no feature map, or none that the
            logits depend on.
    """
    assert isinstance(model, Classifier)
    layer = model.target_module()
    assert layer is not None
    features: list[Tensor] = []
    handle = model.head.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0].detach()))
    with _watched(layer) as kept:
        logits = model(images.detach())
    handle.remove()
    score = scores(logits, target).sum()
    wanted = kept if len(kept) == 1 and score.requires_grad else []
    gradients = [g for g in torch.autograd.grad(score, wanted, allow_unused=True) if g is not None] if wanted else []
    if len(gradients) != 1:
        raise UnsupportedModelError(
            f"'model' must run its target layer once on the way to the logits for {method}, "
            f"got {len(kept)} outputs and {len(gradients)} gradients; name another 'target_layer'"
        )
    unfold = functools.partial(channels_first, facts=model.facts, size=images.shape[-2:])
    return Seen(maps=unfold(kept[0].detach()), gradients=unfold(gradients[0]), features=features[0])


# What the layer gives becomes the beginning of the graph.
@contextlib.contextmanager
def _watched(layer: nn.Module) -> Iterator[list[Tensor]]:
    kept: list[Tensor] = []

    def begin(_: nn.Module, __: Any, output: Any) -> Any:
        if not isinstance(output, Tensor):
            return output
        kept.append(output.detach().requires_grad_())
        return kept[-1].clone()  # which the next layer may change in place

    handle = layer.register_forward_hook(begin)
    try:
        yield kept
    finally:
        handle.remove()


def channels_first(output: Tensor, *, facts: Facts, size: torch.Size) -> Tensor:
    """Lay out maps as (B, C, h, w).

    Args:
        output: What the target layer gave.
        facts: Of the model: the axes, and how many tokens before the patches belong to no place.
        size: Height and width of the images.

    Returns:
        A view of the maps.

    Raises:
        UnsupportedModelError: if there are other axes, or tokens that fill no grid.
    """
    if output.ndim != len(facts.layout):
        raise UnsupportedModelError(
            f"'model' must have a target layer that gives {facts.layout} maps, got {output.ndim} axes "
            f"from {facts.target_layer!r}"
        )
    if facts.layout == "NHWC":
        return output.permute(0, 3, 1, 2)
    return folded(output[:, facts.prefix_tokens :], size) if facts.layout == "NLC" else output


def folded(tokens: Tensor, size: torch.Size) -> Tensor:
    """Lay out tokens as they lie in the image.

    Args:
        tokens: (B, N, C).
        size: Height and width of the images.

    Returns:
        (B, C, h, w) with h : w as in the image.

    Raises:
        UnsupportedModelError: if they fill no grid of that shape.
    """
    number = tokens.shape[1]
    height = round(math.sqrt(number * size[0] / size[1]))
    if height < 1 or number % height:
        raise UnsupportedModelError(
            f"'model' must have tokens that fill a grid of the shape of the image, got {number} tokens for "
            f"{size[0]} x {size[1]} pixels; use a size that the patches divide"
        )
    return tokens.transpose(1, 2).reshape(len(tokens), -1, height, number // height)
