"""A model to experiment on, so that the user's own stays as it is."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from imgcls.core.errors import UnsupportedModelError

__all__ = ["isolated"]

M = TypeVar("M", bound=nn.Module)


def isolated(model: M) -> M:
    """Copy a model without copying its weights.

    Libraries that explain models switch them to eval mode, register hooks, overwrite
    gradients and merge layers, and forget to undo it when something fails. What they get
    from here shares the values of the parameters with the original, but has modules, hooks,
    flags, gradients and buffers of its own.

    Args:
        model: The model; neither it nor anything in it changes, whatever is done to the
            copy, except by writing into parameters in place.

    Returns:
        The copy: in eval mode, frozen, in float32.

    Raises:
        UnsupportedModelError: if a part of the model cannot be copied.
    """
    memo: dict[int, object] = {id(p): nn.Parameter(_plain(p), requires_grad=False) for p in model.parameters()}
    memo |= {id(buffer): _plain(buffer).clone() for buffer in model.buffers()}
    for tensor in _loose(model):
        memo.setdefault(id(tensor), _plain(tensor).clone())
    try:
        return copy.deepcopy(model, memo).eval()
    except (TypeError, RuntimeError, NotImplementedError) as error:
        kind = type(model).__name__
        raise UnsupportedModelError(f"'model' must be copyable by copy.deepcopy, got {kind}; {error}") from error


# Tensors that are plain attributes, as pruning and weight norm leave them; part of a graph, they refuse to be copied.
def _loose(model: nn.Module) -> list[Tensor]:
    return [value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)]


def _plain(tensor: Tensor) -> Tensor:
    values = tensor.detach()
    if values.is_floating_point():
        values = values.to(torch.float32)
    return values.clone() if values.is_inference() else values  # autograd refuses tensors of the inference mode
