"""The conformance kit of backbones."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from imgcls.models.base import Backbone, Classifier, backbones
from imgcls.models.blocks import blocks
from imgcls.testing.values import chance_untouched, check_value, require

__all__ = ["check_backbone"]

#: How many axes the map of each layout has.
_AXES = {"NCHW": 4, "NHWC": 4, "NLC": 3}


def check_backbone(backbone: Backbone, *, size: int = 32) -> None:
    """Check that a backbone keeps its contract, with one and three channels.

    Args:
        backbone: The backbone; a small one makes the checks fast.
        size: Side of the images in pixels.

    Raises:
        AssertionError: with what is broken.
    """
    check_value(backbone, backbones)
    for channels in (1, 3):
        with chance_untouched(backbone):
            model = _build(backbone, channels, size)
        images = torch.rand(3, channels, size, size, generator=torch.Generator().manual_seed(1))
        _check_facts(backbone, model, channels)
        _check_logits(backbone, model, images)
        _check_target_layer(backbone, model, images)
        _check_records_apart(backbone, model, images)
        _check_memory_layout(backbone, model, images)
        _check_gradients(backbone, copy.deepcopy(model), images)
        _check_weights(backbone, model, images)
        _check_seed(backbone, model, channels, size)


def _build(backbone: Backbone, channels: int, size: int, *, seed: int = 3, initial: bool = True) -> Classifier:
    return backbone.build(2, in_channels=channels, image_size=(size, size), seed=seed, initial=initial)


def _logits(model: Classifier, images: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = copy.deepcopy(model).eval()(images)
    return logits


# Two ways to compute the same logits differ by rounding.
def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-3, atol=1e-4)


def _check_facts(backbone: Backbone, model: Classifier, channels: int) -> None:
    facts = model.facts
    require(all(module.training for module in model.modules()), backbone, "be built in training mode")
    lengths = {len(facts.mean), len(facts.std)}
    require(lengths == {channels}, backbone, "know one mean and one deviation, or one of each for every colour")
    require(min(facts.std) > 0, backbone, "know deviations above 0")
    require(facts.layout in _AXES, backbone, f"name a layout among {', '.join(_AXES)}, got {facts.layout!r}")
    require(facts.prefix_tokens >= 0, backbone, "have 0 or more prefix tokens")
    names = [name for name, _ in model.body.named_parameters()]
    for block in (*facts.blocks, *facts.layers):
        known = all(any(f"{name}.".startswith(f"{part}.") for name in names) for part in block)
        require(known, backbone, f"name blocks by modules or parameters of its body, got {block}")
    require(blocks(model), backbone, "have parameters in its body")


def _check_logits(backbone: Backbone, model: Classifier, images: Tensor) -> None:
    logits = _logits(model, images)
    require(logits.shape == (3, 2) and logits.dtype == torch.float32, backbone, "give float32 logits (B, K)")
    require(logits.isfinite().all(), backbone, "give finite logits")
    require(torch.equal(logits, _logits(model, images)), backbone, "give the same logits twice in evaluation mode")


def _check_target_layer(backbone: Backbone, model: Classifier, images: Tensor) -> None:
    if model.facts.target_layer is None:
        return
    found: list[object] = []
    twin = copy.deepcopy(model).eval()
    layer = twin.target_module()
    assert layer is not None
    handle = layer.register_forward_hook(lambda _, __, output: found.append(output))
    with torch.no_grad():
        twin(images)
    handle.remove()
    require(len(found) == 1, backbone, f"run its target layer once, got {len(found)} times")
    axes = found[0].ndim if isinstance(found[0], Tensor) else 0
    layout = model.facts.layout
    require(axes == _AXES[layout], backbone, f"have a target layer that gives {layout} maps, got {axes} axes")


def _check_records_apart(backbone: Backbone, model: Classifier, images: Tensor) -> None:
    alone = torch.cat([_logits(model, image[None]) for image in images])
    apart = _close(alone, _logits(model, images))
    require(apart, backbone, "say of an image in evaluation mode what it says of it alone")


def _check_memory_layout(backbone: Backbone, model: Classifier, images: Tensor) -> None:
    moved = copy.deepcopy(model).to(memory_format=torch.channels_last)
    logits = _logits(moved, images.to(memory_format=torch.channels_last))
    same = _close(logits, _logits(model, images))
    require(same, backbone, "give the same logits in channels-last memory")


def _check_gradients(backbone: Backbone, model: Classifier, images: Tensor) -> None:
    with torch.random.fork_rng(devices=[]):
        model(images).square().sum().backward()
    grads = [p.grad for p in model.body.parameters() if p.grad is not None]
    require(all(grad.isfinite().all() for grad in grads), backbone, "have finite gradients")
    require(any(grad.any() for grad in grads), backbone, "let gradients reach the parameters of its body")


# What a checkpoint does: the state goes into a model that was built without initial weights.
def _check_weights(backbone: Backbone, model: Classifier, images: Tensor) -> None:
    other = _build(backbone, images.shape[1], images.shape[-1], seed=4, initial=False)
    require(
        set(other.state_dict()) == set(model.state_dict()),
        backbone,
        "have the same names of weights with and without initial ones",
    )
    other.load_state_dict(model.state_dict())
    same = _close(_logits(other, images), _logits(model, images))
    require(same, backbone, "keep in its state all that its logits depend on")


def _check_seed(backbone: Backbone, model: Classifier, channels: int, size: int) -> None:
    state, again = model.state_dict(), _build(backbone, channels, size).state_dict()
    same = all(torch.equal(value, again[name]) for name, value in state.items())
    require(same, backbone, "have the same weights for the same seed")
    other = _build(backbone, channels, size, seed=4).state_dict()
    same = all(torch.equal(value, other[name]) for name, value in state.items())
    require(not same, backbone, "have other random weights for another seed")
