"""What replaces the functions of torch through which relevance does not flow by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from imgcls.explain.multi_head import multi_head
from imgcls.explain.propagation import Propagation, live
from imgcls.explain.rules import Layer

__all__ = ["NORMS", "REWRITES"]

#: Norms that are taken of each image; networks that have them get other rules by default.
NORMS = frozenset(["layer_norm", "group_norm", "rms_norm", "rsqrt"])

Rewrite = Callable[[Propagation, Any, Any, Any], Any]


def _named(names: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return dict(zip(names.split(), args, strict=False)) | dict(kwargs)


# Layers: a rule where there is one, and linear where there is none.

_CONV = "input weight bias stride padding dilation groups"
_TRANSPOSED = "input weight bias stride padding output_padding groups dilation"


def _layer(mode: Propagation, func: Any, args: Any, kwargs: Any) -> Any:
    rest = _named(_TRANSPOSED if "transpose" in func.__name__ else _CONV, args, kwargs)
    x, weight, bias = rest.pop("input"), rest.pop("weight"), rest.pop("bias", None)

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        found: Tensor = func(x, weight, bias, **rest)
        return found

    if live(weight) or live(bias):  # made from the image, as in dynamic convolutions
        found = _product(mode, run, (x, weight), {})
        return found if bias is None else _sum(mode, torch.add, (found, bias.reshape(-1, *[1] * (found.ndim - 2))), {})
    if mode.composite is None:
        return run(x, weight, mode.source(bias))
    return mode.layer(Layer(run=run, weight=weight, bias=bias), x, kind=func.__name__)


def _batch_norm(mode: Propagation, func: Any, args: Any, kwargs: Any) -> Any:
    given = _named("input running_mean running_var weight bias training momentum eps", args, kwargs)
    x, mean, variance = given["input"], given["running_mean"], given["running_var"]
    if given.get("training") or mean is None or variance is None:
        return func(*args, **kwargs)
    scale = (variance + given.get("eps", 1e-5)).rsqrt()
    scale = scale if given.get("weight") is None else scale * given["weight"]
    shift = -mean * scale if given.get("bias") is None else given["bias"] - mean * scale
    made = mode.made.get(x)
    if made is not None and x.ndim in {2, 4}:
        with torch.no_grad():
            y = func(*args, **kwargs)
        return mode.merged(made, _scaled(made.layer, scale, shift), y)
    places = (1, -1, *[1] * (x.ndim - 2))
    return x * scale.view(places) + mode.source(shift.view(places))


def _scaled(layer: Layer, scale: Tensor, shift: Tensor) -> Layer:
    weight = layer.weight * scale.view(-1, *[1] * (layer.weight.ndim - 1))
    return Layer(run=layer.run, weight=weight, bias=shift if layer.bias is None else layer.bias * scale + shift)


# Functions of single values: relevance goes through as a factor of the value.


def _activation(mode: Propagation, func: Any, args: Any, kwargs: Any) -> Any:
    given = dict(kwargs)
    x = args[0] if args else given.pop("input")
    value = func(x.detach(), *args[1:], **given)
    zero = func(torch.zeros(1, dtype=x.dtype, device=x.device), *args[1:], **given)
    factor = torch.where(x == 0, 0.0, (value - zero) / x).detach()
    return x * factor + mode.source(zero) if bool(zero != 0) else x * factor


def _factor(_: Propagation, func: Any, args: Any, kwargs: Any) -> Any:
    x = args[0]
    value = func(*_still(args), **_still(kwargs))
    return x * torch.where(x == 0, 0.0, value / x).detach()


def _gate(mode: Propagation, func: Any, args: Any, kwargs: Any) -> Any:
    found = _activation(mode, func, args, kwargs)
    mode.mark_gates(found)
    return found


# What tells how large values are, for the norms that are written out.
def _size(mode: Propagation, func: Any, args: Any, kwargs: Any) -> Any:
    found = func(*args, **kwargs)
    mode.mark_gates(found)
    return found


def _constant(_: Propagation, func: Any, args: Any, kwargs: Any) -> Any:
    return func(*_still(args), **_still(kwargs))


def _still(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _still(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_still(item) for item in value)
    return value.detach() if isinstance(value, Tensor) else value


def _power(_: Propagation, func: Any, args: Any, kwargs: Any) -> Any:
    x, exponent = (*args, *kwargs.values(), 2)[:2]
    if not live(x) or live(exponent):
        return func(*_still(args), **_still(kwargs))
    return x * x.detach() ** (exponent - 1)


# Sums: constants in them are where the rest of the score comes from.


def _sum(mode: Propagation, func: Any, args: Any, kwargs: Any) -> Any:
    return func(*(mode.source(arg) for arg in args[:2]), *args[2:], **kwargs)


def _joined(mode: Propagation, func: Any, args: Any, kwargs: Any) -> Any:
    return func([mode.source(part) for part in args[0]], *args[1:], **kwargs)


def _where(mode: Propagation, _: Any, args: Any, kwargs: Any) -> Any:
    if isinstance(args[0], Tensor) and args[0].dtype != torch.bool:  # the method: x.where(mask, other)
        args = (args[1], args[0], *args[2:])
    return torch.where(args[0], *(mode.source(arg) for arg in args[1:]), **kwargs)


# Products: factors that only scale take nothing, the others share alike.


def _product(mode: Propagation, func: Any, args: Any, kwargs: Any) -> Any:
    signals = [place for place, arg in enumerate(args) if live(arg)]
    factors = [place for place in signals if args[place] not in mode.gates] or signals
    if not factors:
        return func(*args, **kwargs)

    def alone(factor: int) -> Any:
        return func(*(arg if place == factor else _still(arg) for place, arg in enumerate(args)), **kwargs)

    shares = [alone(factor) for factor in factors]
    return shares[0] if len(shares) == 1 else sum(shares[1:], shares[0]) / len(shares)


def _einsum(mode: Propagation, func: Any, args: Any, kwargs: Any) -> Any:
    equation, *operands = args
    values = operands[0] if isinstance(operands[0], list | tuple) else operands
    return _product(mode, lambda *parts: func(equation, *parts, **kwargs), tuple(values), {})


def _quotient(_: Propagation, func: Any, args: Any, kwargs: Any) -> Any:
    return func(args[0], *_still(args[1:]), **kwargs)


def _added_product(product: Any) -> Rewrite:
    def rewrite(mode: Propagation, _: Any, args: Any, kwargs: Any) -> Any:
        factor = kwargs.get("value", kwargs.get("alpha", 1)) * _product(mode, product, args[1:3], {})
        return _sum(mode, torch.add, (args[0] * kwargs.get("beta", 1), factor), {})

    return rewrite


# Norms: the deviation only scales.


def _layer_norm(mode: Propagation, _: Any, args: Any, kwargs: Any) -> Any:
    given = _named("input normalized_shape weight bias eps", args, kwargs)
    x = given["input"]
    axes = tuple(range(-len(given["normalized_shape"]), 0))
    return _affine(mode, _standard(x, axes, given.get("eps", 1e-5)), given, lambda values: values)


def _group_norm(mode: Propagation, _: Any, args: Any, kwargs: Any) -> Any:
    given = _named("input num_groups weight bias eps", args, kwargs)
    x = given["input"]
    groups = x.reshape(len(x), given["num_groups"], -1)
    values = _standard(groups, (-1,), given.get("eps", 1e-5)).reshape(x.shape)
    return _affine(mode, values, given, lambda v: v.view(-1, *[1] * (x.ndim - 2)))


def _instance_norm(mode: Propagation, func: Any, args: Any, kwargs: Any) -> Any:
    given = _named("input running_mean running_var weight bias use_input_stats momentum eps", args, kwargs)
    if not given.get("use_input_stats", True):
        names = ("input", "running_mean", "running_var", "weight", "bias")
        return _batch_norm(mode, functional.batch_norm, (), {**{k: given[k] for k in names}, "eps": given["eps"]})
    x = given["input"]
    return _group_norm(mode, func, (x, x.shape[1], given["weight"], given["bias"], given["eps"]), {})


def _standard(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    centred = x - x.mean(dim=axes, keepdim=True)
    return centred * (x.detach().var(dim=axes, keepdim=True, correction=0) + eps).rsqrt()


def _affine(mode: Propagation, x: Tensor, given: Any, shaped: Callable[[Tensor], Tensor]) -> Tensor:
    weight, bias = given.get("weight"), given.get("bias")
    x = x if weight is None else x * shaped(weight)
    return x if bias is None else x + mode.source(shaped(bias))


# Attention: it decides how values are mixed, and takes nothing unless relevance is split.


def _attention(mode: Propagation, func: Any, args: Any, kwargs: Any) -> Any:
    given = _named("query key value attn_mask dropout_p is_causal", args, kwargs)
    shares = (0.25, 0.25, 0.5) if mode.split else (0.0, 0.0, 1.0)
    parts = [_share(given.pop(name), share) for name, share in zip(("query", "key", "value"), shares, strict=True)]
    mask = given.pop("attn_mask", None)
    return func(*parts, attn_mask=None if mask is None else _still(mask), **given)


def _share(x: Tensor, share: float) -> Tensor:
    return x if share == 1 or not live(x) else x.detach() if share == 0 else x * share + x.detach() * (1 - share)


def _softmax(mode: Propagation, func: Any, args: Any, kwargs: Any) -> Any:
    return func(*args, **kwargs) if mode.split else func(*_still(args), **_still(kwargs))


def _multi_head(mode: Propagation, func: Any, args: Any, kwargs: Any) -> Any:
    with mode:
        return multi_head(func, args, kwargs)


def _glu(_: Propagation, __: Any, args: Any, kwargs: Any) -> Any:
    first, second = args[0].chunk(2, dim=kwargs.get("dim", args[1] if len(args) > 1 else -1))
    return first * second.detach().sigmoid()


_TABLE: Mapping[str, Rewrite] = {
    "linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d": _layer,
    "batch_norm": _batch_norm,
    "silu gelu hardswish relu6 hardtanh mish elu selu celu tanh softplus softsign tanhshrink softshrink clamp clip "
    "clamp_min clamp_max erf exp expm1 sin cos": _activation,
    "normalize local_response_norm": _factor,
    "sigmoid hardsigmoid": _gate,
    "norm linalg_vector_norm var std": _size,
    "rsqrt reciprocal rdiv rtruediv": _constant,
    "pow square": _power,
    "add sub rsub maximum minimum": _sum,
    "cat stack concat hstack vstack": _joined,
    "where": _where,
    "mul multiply matmul mm bmm": _product,
    "einsum": _einsum,
    "div divide truediv": _quotient,
    "addcmul": _added_product(torch.mul),
    "addmm baddbmm": _added_product(torch.matmul),
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "rms_norm": _factor,
    "scaled_dot_product_attention": _attention,
    "softmax": _softmax,
    "multi_head_attention_forward": _multi_head,
    "glu": _glu,
}

#: By the plain name of a function.
REWRITES: Mapping[str, Rewrite] = {name: rewrite for names, rewrite in _TABLE.items() for name in names.split()}
