"""What a method must know of a model, found out once."""

from __future__ import annotations

from typing import Any, Protocol
from weakref import WeakKeyDictionary

from torch import Tensor, nn

__all__ = ["examine", "finding"]


class _Examines(Protocol):
    def examine(self, model: nn.Module, image: Tensor) -> Any: ...


#: By the user's model: what was found, by method, structure of the model and shape of the images.
_known: WeakKeyDictionary[nn.Module, dict[Any, Any]] = WeakKeyDictionary()

#: By the copy of one call: what was found, by method.
_current: WeakKeyDictionary[nn.Module, dict[str, Any]] = WeakKeyDictionary()


def examine(explainer: _Examines, model: nn.Module, alone: nn.Module, images: Tensor) -> None:
    """Have a method examine a model, unless it did so before.

    Args:
        explainer: The method.
        model: The user's model, which is remembered while it lives and keeps its modules.
        alone: Its isolated copy, which is examined.
        images: (B, C, H, W), of which the first is shown.
    """
    modules = tuple((name, type(module)) for name, module in model.named_modules())
    key = (repr(explainer), modules, images.shape[1:])
    known = _known.setdefault(model, {})
    if key not in known:
        known[key] = explainer.examine(alone, images[:1].detach())
    _current.setdefault(alone, {})[repr(explainer)] = known[key]


def finding(explainer: object, alone: nn.Module) -> Any:
    """Look up what a method found of the model that it is to explain.

    Args:
        explainer: The method.
        alone: The copy that `Explainer.attribute` was given.

    Returns:
        What its `examine` returned.
    """
    return _current[alone][repr(explainer)]
