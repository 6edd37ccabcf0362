"""A model run so that the gradient of the run, times a value, is the relevance of that value.

Relevance R of a value x is carried as a gradient g with R = x * g. Everything that is linear
(addition, pooling, batch norm, reshaping, layer scale) then needs no rule. What is not is
replaced while the model runs, by one mode that sees each function of torch, whatever module
it is called in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import attrs
import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from imgcls.explain.composites import Composite
from imgcls.explain.rules import FirstRule, Layer, Rule

__all__ = ["Made", "Propagation", "flat", "live", "plain_name", "swapped"]

#: What the pixels may pass before the first layer: what moves or averages them, and what scales and shifts them.
_MOVING = (
    "pad reshape view permute transpose flatten contiguous to float double clone getitem unsqueeze squeeze chunk split "
    "cat stack unfold roll flip interpolate avg_pool2d movedim unflatten pixel_unshuffle expand narrow"
)
_MOVES = frozenset(_MOVING.split())
_SCALES = frozenset(("add", "sub", "mul", "div", "batch_norm"))

#: Layers that get a rule, by the name of their function.
_LAYERS = frozenset(("linear", *(f"conv{kind}{axes}d" for kind in ("", "_transpose") for axes in (1, 2, 3))))


def live(value: Any) -> bool:
    """Say whether relevance flows through a value.

    Args:
        value: Anything.

    Returns:
        Whether it is a tensor that depends on the images.
    """
    return isinstance(value, Tensor) and value.requires_grad


def flat(value: Any) -> list[Any]:
    """List what arguments hold.

    Args:
        value: Containers in containers.

    Returns:
        What is no container.
    """
    if isinstance(value, dict):
        value = list(value.values())
    return [item for part in value for item in flat(part)] if isinstance(value, list | tuple) else [value]


def swapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """Change what arguments hold.

    Args:
        value: Containers in containers.
        change: What is done to each item that is no container.

    Returns:
        The same containers with changed items.
    """
    if isinstance(value, dict):
        return {key: swapped(item, change) for key, item in value.items()}
    if type(value) in {list, tuple}:
        return type(value)(swapped(item, change) for item in value)
    return change(value)


def plain_name(func: Any) -> str:
    """Give the name of a function of torch that its variants share.

    Args:
        func: Such as `torch.add`, `Tensor.add_` or `Tensor.__add__`.

    Returns:
        The name without underscores around it.
    """
    return str(getattr(func, "__name__", "")).strip("_")


@attrs.frozen(kw_only=True, eq=False)
class Made:
    """How a layer made a value, for the batch norm behind it.

    Attributes:
        x: The input of the layer.
        layer: The layer.
        rule: The rule it got.
        bounds: For a first layer the bounds of `x`.
    """

    x: Tensor
    layer: Layer
    rule: Rule | FirstRule
    bounds: tuple[Tensor, Tensor] | None


@final
class Propagation(TorchFunctionMode):
    """Replaces functions while a model runs.

    Args:
        composite: Which rule convolutions and linear layers get; None leaves them linear, as
            the rule LRP-0 does.
        zero_bias: Whether what a bias gave goes to the inputs all the same.
        split: Whether attention hands relevance to queries and keys as well (Achtibat et al.,
            AttnLRP, ICML 2024) instead of to the values alone.
        pixels: The images with the lowest and highest value that each pixel can have, where
            the composite has a rule for the first layer; their gradient then is relevance.
        sources: A list to which constants that are added to signals are appended, so that
            their share can be asked for; None where nobody asks.
        audit: Called with the mode and each call of a function.

    Attributes:
        names: The functions that signals passed.
        gates: Values that only scale others: of a product the other factor takes all.
        made: How the outputs of layers were made.
        raw: Values that are pixels still, with their bounds; their gradient is relevance.
    """

    def __init__(
        self,
        composite: Composite | None,
        *,
        zero_bias: bool = False,
        split: bool = False,
        pixels: tuple[Tensor, Tensor, Tensor] | None = None,
        sources: list[Tensor] | None = None,
        audit: Callable[..., None] | None = None,
    ) -> None:
        super().__init__()
        self.composite = composite
        self.zero_bias = zero_bias
        self.split = split
        self.sources = sources
        self.audit = audit
        self.names: set[str] = set()
        self.gates: Any = WeakTensorKeyDictionary()
        self.made: Any = WeakTensorKeyDictionary()
        self.raw: Any = WeakTensorKeyDictionary()
        if pixels is not None:
            self.raw[pixels[0]] = pixels[1:]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        signals = [value for value in flat([args, kwargs]) if live(value)]
        name = plain_name(func)
        if not signals or name == "get":  # reading a property
            return func(*args, **kwargs)
        self.names.add(name)
        func, kwargs = _out_of_place(func, name, kwargs)
        raw = [value for value in signals if value in self.raw]
        if raw and (name in _MOVES or (name in _SCALES and len(signals) == 1)):
            return self._moved(func, args, kwargs, raw, scales=name in _SCALES)
        if raw and name not in _LAYERS:
            args, kwargs = swapped([args, kwargs], lambda v: _Leave.apply(v) if live(v) and v in self.raw else v)
        if self.audit is not None:
            self.audit(self, func, name, args, kwargs)
        return self.run(func, name, args, kwargs)

    def run(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Call a function or what replaces it.

        Args:
            func: The function.
            name: Its plain name.
            args: Its arguments.
            kwargs: Its named arguments.

        Returns:
            What it gives.
        """
        from imgcls.explain.rewrites import REWRITES  # which is written for this class

        rewrite = REWRITES.get(name)
        found = func(*args, **kwargs) if rewrite is None else rewrite(self, func, args, kwargs)
        signals = [value for value in flat([args, kwargs]) if live(value)]
        if name not in _LAYERS and all(value in self.gates for value in signals):
            self.mark_gates(found)
        return found

    def mark_gates(self, found: Any) -> None:
        """Note values that only scale others.

        Args:
            found: A tensor, or containers of them.
        """
        for value in flat(found):
            if live(value):
                self.gates[value] = True

    def source(self, value: Any) -> Any:
        """Note a constant that is added to a signal.

        Args:
            value: The constant: a number or tensor.

        Returns:
            It, or where sources are asked for, a tensor of the same values with a gradient.
        """
        if self.sources is None or value is None or live(value):
            return value
        self.sources.append(torch.as_tensor(value, dtype=torch.float64).detach().clone().requires_grad_())
        return self.sources[-1]

    def layer(self, layer: Layer, x: Tensor, *, kind: str) -> Tensor:
        """Run a layer with the rule of its kind, or with that of the first layer if pixels come in.

        Args:
            layer: The layer.
            x: Its input, a signal.
            kind: The name of its function.

        Returns:
            Its output.
        """
        assert self.composite is not None
        bounds = self.raw.get(x)
        rule: Any = self.composite.linear if kind == "linear" else self.composite.conv
        rule = rule if bounds is None else self.composite.first
        with torch.no_grad():
            y = layer(x)
        found: Tensor = _Ruled.apply(x, y, layer.without_bias() if self.zero_bias else layer, rule, bounds)
        if "transpose" not in kind:  # whose channels lie elsewhere
            self.made[found] = Made(x=x, layer=layer, rule=rule, bounds=bounds)
        return found

    def merged(self, made: Made, layer: Layer, y: Tensor) -> Tensor:
        """Give a layer and the batch norm behind it the layer's rule.

        Args:
            made: The layer as it ran.
            layer: Both as one layer.
            y: What the batch norm gave.

        Returns:
            `y` with the relevance of both behind it.
        """
        layer = layer.without_bias() if self.zero_bias else layer
        found: Tensor = _Ruled.apply(made.x, y, layer, made.rule, made.bounds)
        return found

    # Pixels that are moved or scaled are pixels, and so are their bounds.
    def _moved(self, func: Any, args: Any, kwargs: Any, raw: list[Tensor], *, scales: bool) -> Any:
        found = func(*args, **kwargs)
        if scales:
            found = _Through.apply(raw[0], found.detach())
        with torch.no_grad():
            sides = [flat(self._at_bound(side, func, args, kwargs)) for side in (0, 1)]
        for value, low, high in zip(flat(found), *sides, strict=True):
            self.raw[value] = (torch.minimum(low, high), torch.maximum(low, high))
        return found

    def _at_bound(self, side: int, func: Any, args: Any, kwargs: Any) -> Any:
        def bound(value: Any) -> Any:
            return self.raw[value][side] if live(value) and value in self.raw else value

        args, kwargs = swapped([args, kwargs], bound)
        return func(*args, **kwargs)


def _out_of_place(func: Any, name: str, kwargs: Any) -> tuple[Any, Any]:
    written = str(getattr(func, "__name__", ""))
    if written.endswith("_") and not written.endswith("__"):
        places = (torch.Tensor, functional, torch)
        func = next((getattr(place, name) for place in places if hasattr(place, name)), func)
    return func, {**kwargs, "inplace": False} if kwargs.get("inplace") else kwargs


# From here on a rule decides what the gradient is.
class _Ruled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, *how: Any) -> Tensor:
        ctx.save_for_backward(x, y)
        ctx.layer, ctx.rule, ctx.bounds = how
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, y = ctx.saved_tensors
        if ctx.bounds is None:
            found = ctx.rule.gradient(ctx.layer, x, y, y * gradient)
        else:
            found = ctx.rule.relevance(ctx.layer, x, y * gradient, ctx.bounds)
        return found, None, None, None, None


# From pixels, whose gradient is relevance, to values, whose gradient times themselves is.
class _Leave(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gradient * ctx.saved_tensors[0]


# Relevance of a scaled pixel is that of the pixel.
class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor) -> Tensor:  # noqa: ARG004 (x gets the gradient)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # noqa: ARG004
        return gradient, None
