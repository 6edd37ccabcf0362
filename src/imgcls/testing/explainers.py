"""The conformance kit of explainers."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from imgcls.core.errors import UnsupportedModelError
from imgcls.core.plugins import name_of
from imgcls.explain.base import Attributions, Explainer, explainers
from imgcls.models.small_cnn import SmallCnn
from imgcls.models.timm import TimmBackbone
from imgcls.testing.values import chance_untouched, check_value, require

__all__ = ["check_explainer"]

_SIZE = 16

#: How far maps of an image alone may differ from those in a batch, relative to the largest value.
_CLOSE = 1e-3


def check_explainer(explainer: Explainer) -> None:
    """Check that an explainer keeps its contract.

    It is tried on several small models; it may refuse some of them with an
    `UnsupportedModelError`, but not all.

    Args:
        explainer: The explainer.

    Raises:
        AssertionError: with what is broken.
    """
    check_value(explainer, explainers)
    supported = 0
    for model, images in _cases():
        found = _explained(explainer, model, images)
        if found is not None:
            supported += 1
            _check_maps(explainer, found, model, images)
            _check_repeats(explainer, found, model, images)
            _check_records_apart(explainer, found, model, images)
            _check_targets(explainer, model, images)
            _check_contexts(explainer, found, model, images)
    require(
        supported,
        explainer,
        "support one of the kit's models: small-cnn, a plain convolutional network, a small transformer",
    )


def _cases() -> Iterator[tuple[nn.Module, Tensor]]:
    for channels in (1, 3):
        images = torch.rand(2, channels, _SIZE, _SIZE, generator=torch.Generator().manual_seed(1))
        for outputs in (3, 1):
            yield _small_cnn(channels, outputs), images
        yield _plain(channels), images
        yield _transformer(channels), images


def _small_cnn(channels: int, outputs: int) -> nn.Module:
    return SmallCnn(base=4, depth=2).build(outputs, in_channels=channels, image_size=(_SIZE, _SIZE), seed=1)


def _transformer(channels: int) -> nn.Module:
    size: dict[str, Any] = {"img_size": _SIZE, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
    backbone = TimmBackbone(model="test_vit", pretrained=False, options=size)
    return backbone.build(3, in_channels=channels, image_size=(_SIZE, _SIZE), seed=1)


# A module that no backbone made, with the layers of the textbooks.
def _plain(channels: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        return nn.Sequential(
            nn.Conv2d(channels, 4, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(4),
            nn.Flatten(),
            nn.Linear(4 * (_SIZE // 4) ** 2, 3),
        )


# Explains, with the model in an odd state that must be found again, also after a refusal.
def _explained(explainer: Explainer, model: nn.Module, images: Tensor) -> Attributions | None:
    first, *_, last = model.parameters()
    first.requires_grad_(False)
    last.grad = torch.ones_like(last)
    next(iter(model.children())).eval()
    before, given = _state(model), images.clone()
    try:
        found = explainer.explain(model, images)
    except UnsupportedModelError as error:
        require(str(error), explainer, "say why it refuses a model")
        found = None
    _check_state(explainer, before, _state(model))
    alone = torch.equal(images, given) and images.grad is None and not images.requires_grad
    require(alone, explainer, "leave the images as they are")
    return found


@attrs.frozen(kw_only=True, eq=False)
class _State:
    """What of a model must not change."""

    weights: dict[str, Tensor]
    modes: list[bool]
    frozen: list[bool]
    grads: list[Tensor | None]
    hooks: int
    kinds: list[type[nn.Module]]


def _state(model: nn.Module) -> _State:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return _State(
        weights=copy.deepcopy(model.state_dict()),
        modes=[module.training for module in model.modules()],
        frozen=[parameter.requires_grad for parameter in model.parameters()],
        grads=[None if p.grad is None else p.grad.clone() for p in model.parameters()],
        hooks=sum(len(getattr(module, kind)) for module in model.modules() for kind in hooks),
        kinds=[type(module) for module in model.modules()],
    )


def _check_state(explainer: Explainer, before: _State, after: _State) -> None:
    same = before.weights.keys() == after.weights.keys()
    same = same and all(torch.equal(value, after.weights[name]) for name, value in before.weights.items())
    require(same, explainer, "leave weights and buffers of the model as they were")
    require(before.modes == after.modes, explainer, "leave training and evaluation mode of each module as it was")
    require(before.frozen == after.frozen, explainer, "leave 'requires_grad' of each parameter as it was")
    require(before.hooks == after.hooks, explainer, "leave no hooks behind")
    require(before.kinds == after.kinds, explainer, "leave the modules of the model in place")
    pairs = zip(before.grads, after.grads, strict=True)
    same = all(a is b if a is None or b is None else torch.equal(a, b) for a, b in pairs)
    require(same, explainer, "leave the gradients of the parameters as they were")


def _check_maps(explainer: Explainer, found: Attributions, model: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        logits = copy.deepcopy(model).eval()(images)
    require(found.maps.shape == (2, _SIZE, _SIZE), explainer, "give one map (H, W) per image")
    require(found.maps.dtype == np.float32, explainer, "give maps in float32")
    classes = (found.valid, *(explainer.explain(model, images, target).valid for target in (0, 1)))
    require(np.any(classes), explainer, "find something on a model that it supports")
    close = np.allclose(found.logits, logits.numpy(), rtol=1e-4, atol=1e-5)
    require(close, explainer, "explain the logits that the model gives in evaluation mode")
    likely = (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(dim=1)
    require(np.array_equal(found.target, likely.numpy()), explainer, "explain the predicted class by default")
    require((found.conserved is not None) == explainer.conserves, explainer, "tell what is conserved if it conserves")
    json.dumps(dict(found.provenance))
    named = found.provenance.get("method") in {name_of(type(explainer)), type(explainer).__qualname__}
    require(named, explainer, "name itself in the provenance")


def _check_repeats(explainer: Explainer, found: Attributions, model: nn.Module, images: Tensor) -> None:
    with chance_untouched(explainer):  # not the first call, whose imports may draw
        again = explainer.explain(model, images)
    require(np.array_equal(found.native, again.native), explainer, "give the same maps twice")


def _check_records_apart(explainer: Explainer, found: Attributions, model: nn.Module, images: Tensor) -> None:
    for index in range(len(images)):
        try:
            alone = explainer.explain(model, images[index : index + 1]).native[0]
        except UnsupportedModelError:  # it may judge a model by the images
            continue
        error = np.abs(alone - found.native[index]).max()
        largest = np.abs(found.native[index]).max()
        require(error <= _CLOSE * largest, explainer, "give an image the map that it has alone, whatever the batch")


def _check_targets(explainer: Explainer, model: nn.Module, images: Tensor) -> None:
    each, one, other = (_natives(explainer, model, images, target) for target in ([0, 1], 0, 1))
    if each is not None and one is not None and other is not None:
        close = np.allclose(each[0], one[0], rtol=_CLOSE, atol=1e-6)
        close &= np.allclose(each[1], other[1], rtol=_CLOSE, atol=1e-6)
        require(close, explainer, "explain for each image the class that was asked for")


def _natives(explainer: Explainer, model: nn.Module, images: Tensor, target: Any) -> Any:
    try:
        return explainer.explain(model, images, target).native
    except UnsupportedModelError:
        return None


def _check_contexts(explainer: Explainer, found: Attributions, model: nn.Module, images: Tensor) -> None:
    contexts = (torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16))
    for context in contexts:
        with context:
            again = explainer.explain(model, images)
        same = np.allclose(found.native, again.native, rtol=1e-4, atol=1e-6)
        require(same, explainer, f"give the same maps inside of torch.{type(context).__name__}")
