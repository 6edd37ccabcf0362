"""A model to experiment on, so that the user's own stays as it is."""

from __future__ import annotations

import copy
import sys
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from imgcls.core.errors import UnsupportedModelError

__all__ = ["isolated", "unwrapped"]

#: Wrappers that hold the model as `module` and compute the same in evaluation.
_WRAPPERS = (DistributedDataParallel, DataParallel, AveragedModel)


def unwrapped(model: nn.Module) -> nn.Module:
    """Take a model out of what compiles, distributes or averages it.

    Args:
        model: The model, perhaps from `torch.compile`, DistributedDataParallel, DataParallel or
            an AveragedModel.

    Returns:
        The module inside, which shares its weights.

    Raises:
        UnsupportedModelError: if the model is a script, whose operations cannot be seen.
    """
    while (inner := _inner(model)) is not None:
        model = inner
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        kind = type(model).__name__
        raise UnsupportedModelError(f"'model' must be a module in Python, got a script in {kind}; explain its source")
    return model


def _inner(model: nn.Module) -> nn.Module | None:
    found: nn.Module | None = None
    compiler = sys.modules.get("torch._dynamo")  # slow to import, and imported where anything was compiled
    if compiler is not None and isinstance(model, compiler.OptimizedModule):
        found = cast("nn.Module", model._orig_mod)
    elif isinstance(model, _WRAPPERS):
        found = cast("nn.Module", model.module)
    return found


def isolated(model: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Copy a model without copying its weights.

    Libraries that explain models switch them to eval mode, register hooks, overwrite
    gradients and merge layers, and forget to undo it when something fails. What they get
    from here shares the values of the parameters with the original, but has modules, hooks,
    flags, gradients and buffers of its own.

    Args:
        model: The model; neither it nor anything in it changes, whatever is done to the
            copy, except by writing into parameters in place.
        dtype: The precision of the copy.

    Returns:
        The copy: in eval mode, frozen, without compiled parts.

    Raises:
        UnsupportedModelError: if a part of the model cannot be copied.
    """
    memo: dict[int, object] = {id(p): nn.Parameter(_plain(p, dtype), requires_grad=False) for p in model.parameters()}
    memo |= {id(buffer): _plain(buffer, dtype).clone() for buffer in model.buffers()}
    for tensor in _loose(model):
        memo.setdefault(id(tensor), _plain(tensor, dtype).clone())
    try:
        alone = copy.deepcopy(model, memo).eval()
    except (TypeError, RuntimeError, NotImplementedError) as error:
        kind = type(model).__name__
        raise UnsupportedModelError(f"'model' must be copyable by copy.deepcopy, got {kind}; {error}") from error
    _unwrap_parts(alone)
    return alone


def _unwrap_parts(model: nn.Module) -> None:
    for name, child in list(model.named_children()):
        inner = unwrapped(child)
        if inner is not child:
            setattr(model, name, inner)
        _unwrap_parts(inner)


# Tensors that are plain attributes or lie in a cache; part of a graph, they refuse to be copied.
def _loose(model: nn.Module) -> list[Tensor]:
    own = ("_parameters", "_buffers", "_modules")
    values = [value for module in model.modules() for name, value in vars(module).items() if name not in own]
    return [item for value in values for item in _items(value) if isinstance(item, Tensor)]


def _items(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else [value]


def _plain(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    values = tensor.detach()
    if values.is_floating_point():
        values = values.to(dtype)
    return values.clone() if values.is_inference() else values  # autograd refuses tensors of the inference mode
