"""The attention of a transformer, seen while it runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, final

import attrs
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from imgcls.core.errors import UnsupportedModelError, listing
from imgcls.explain.layers import stated_prefix
from imgcls.explain.multi_head import multi_head
from imgcls.explain.propagation import plain_name
from imgcls.models.base import Classifier
from imgcls.models.places import grid_prefix, seen_shapes

__all__ = ["Attention", "Reading", "read"]


@final
class Attention(TorchFunctionMode):
    """Writes out fused attention and shows its weights, so that the model stays as it is.

    Args:
        look: Called with the weights (B, heads, N, M) of each attention, whose rows sum to 1,
            in the order in which they run; what it returns is used in their place.

    Attributes:
        shown: How many weights were shown.
        used: Which of them mixed values as they are.
        mixed: What the last attention of tokens to each other gave, (B, heads, N, D).
    """

    def __init__(self, look: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.look = look
        self.shown = 0
        self.used: set[int] = set()
        self.mixed: Tensor | None = None
        self._numbers = WeakTensorKeyDictionary()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = plain_name(func)
        if name == "scaled_dot_product_attention":
            return self._mix(*_written_out(*args, **kwargs))
        if name == "multi_head_attention_forward":
            with self:
                return multi_head(func, args, kwargs)
        if name == "matmul" and isinstance(args[0], Tensor) and args[0] in self._numbers:
            return self._use(*args)
        found = func(*args, **kwargs)
        return self._show(found) if name == "softmax" and found.ndim >= 3 else found

    def _show(self, weights: Tensor) -> Tensor:
        weights = self.look(weights)
        self._numbers[weights] = self.shown
        self.shown += 1
        return weights

    def _mix(self, weights: Tensor, value: Tensor) -> Tensor:
        return self._use(self._show(weights), value)

    def _use(self, weights: Tensor, value: Tensor) -> Tensor:
        self.used.add(self._numbers[weights])
        mixed = weights @ value
        if weights.shape[-1] == weights.shape[-2]:
            self.mixed = mixed
        return mixed


# The weights of fused attention, and the values that they mix.
def _written_out(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    given = dict(zip(("attn_mask", "dropout_p", "is_causal"), args, strict=False)) | kwargs
    if given.get("enable_gqa"):
        groups = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(groups, dim=-3), value.repeat_interleave(groups, dim=-3)
    scale = given.get("scale")
    weights = (query * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)) @ key.transpose(-2, -1)
    mask = given.get("attn_mask")
    if given.get("is_causal"):
        mask = torch.ones(weights.shape[-2:], dtype=torch.bool, device=weights.device).tril()
    if mask is not None:
        weights = weights.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else weights + mask
    return weights.softmax(dim=-1), value


@attrs.frozen(kw_only=True, eq=False)
class Reading:
    """What is read off a product of attentions.

    Attributes:
        rows: (N,) how much the answer reads of each token after the last attention, summing to
            1; None where an attention of its own pools the tokens.
        prefix: How many tokens before the patches belong to no place.
    """

    rows: Tensor | None
    prefix: int


def read(model: nn.Module, image: Tensor) -> Reading:
    """Find out what a transformer's answer is read from.

    Args:
        model: The isolated model.
        image: (1, C, H, W).

    Returns:
        What is read.

    Raises:
        UnsupportedModelError: if attention is not one matrix from all tokens to all tokens in
            each layer; with what it is.
    """
    shapes: list[tuple[int, ...]] = []

    def note(weights: Tensor) -> Tensor:
        shapes.append(tuple(weights.shape))
        return weights

    mode = Attention(note)
    leaf = image.detach().requires_grad_()
    with mode:
        logits = model(leaf)
    number = _tokens(model, image, shapes, mode)
    prefix = grid_prefix(number, _prefix(model), image.shape[-2:])
    if prefix is None:
        raise _refusal(f"attention between {number} tokens, which fill no grid of the shape of the image")
    return Reading(rows=None if shapes[-1][-2] < number else _rows(logits, mode), prefix=prefix)


def _tokens(model: nn.Module, image: Tensor, shapes: list[tuple[int, ...]], mode: Attention) -> int:
    if not shapes:
        raise _refusal("a model without attention")
    if len(mode.used) < mode.shown:
        raise _refusal(f"{mode.shown - len(mode.used)} attentions whose weights are changed before they mix values")
    number = shapes[0][-1]
    odd = [shape for shape in shapes if len(shape) != 4 or shape[0] != 1 or shape[-1] != number]
    pools = [place for place, shape in enumerate(shapes) if shape[-2] != number]
    if odd or pools not in ([], [len(shapes) - 1]):
        kinds = dict.fromkeys(" x ".join(map(str, shape)) for shape in odd or shapes)
        raise _refusal(f"attention in windows, to pooled tokens or of the class token alone: weights {listing(kinds)}")
    if all(len(shape) != 3 or shape[1] != number for _, shape in seen_shapes(model, image)):
        raise _refusal(f"attention between {number} channels, not tokens")
    return number


def _prefix(model: nn.Module) -> int:
    if isinstance(model, Classifier) and model.facts.layout == "NLC":
        return model.facts.prefix_tokens
    return stated_prefix(model)


# The rows through which a gradient comes back from the answer.
def _rows(logits: Tensor, mode: Attention) -> Tensor:
    assert mode.mixed is not None
    weights = torch.rand(logits.shape, generator=torch.Generator().manual_seed(0)).to(logits)
    (gradient,) = torch.autograd.grad((logits * weights).sum(), mode.mixed)
    rows = (gradient.abs().sum(dim=(0, 1, 3)) > 0).to(logits.dtype)
    return rows / rows.sum().clamp(min=1)


def _refusal(got: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        "'model' must have attention from all tokens to all tokens in each layer for a rollout, "
        f"got {got}; use 'lrp', 'grad-cam' or 'integrated-gradients'"
    )
