"""Torch's multi-head attention, opened so that its parts can be seen."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["multi_head"]

_SIGNATURE = (
    "query key value embed_dim_to_check num_heads in_proj_weight in_proj_bias bias_k bias_v add_zero_attn "
    "dropout_p out_proj_weight out_proj_bias training key_padding_mask need_weights attn_mask "
    "use_separate_proj_weight q_proj_weight k_proj_weight v_proj_weight static_k static_v average_attn_weights "
    "is_causal"
)

#: Options that no image classifier uses, which are left to torch's own function.
_RARE = "bias_k bias_v add_zero_attn key_padding_mask use_separate_proj_weight static_k static_v"


def multi_head(func: Any, args: Any, kwargs: Any) -> tuple[Tensor, Tensor | None]:
    """Compute what `multi_head_attention_forward` does by functions that a mode can see.

    Args:
        func: That function.
        args: Its arguments.
        kwargs: Its named arguments.

    Returns:
        The output of the shape of the queries (L, B, E), and the mean weights (B, L, S) if they
        are asked for.
    """
    given: dict[str, Any] = dict(zip(_SIGNATURE.split(), args, strict=False)) | kwargs
    if (
        any(given.get(name) is not None and given.get(name) is not False for name in _RARE.split())
        or given["query"].ndim != 3
    ):
        with torch._C.DisableTorchFunction():
            found: tuple[Tensor, Tensor | None] = func(*args, **kwargs)
        return found
    heads, mask = given["num_heads"], given.get("attn_mask")
    query, key, value = (_heads(part, heads) for part in _projected(given))
    mask = mask if mask is None or mask.ndim == 2 else mask.unflatten(0, (-1, heads))
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    joined = mixed.permute(2, 0, 1, 3).flatten(2)
    out = functional.linear(joined, given["out_proj_weight"], given["out_proj_bias"])
    return out, _weights(query, key, mask) if given.get("need_weights", True) else None


def _projected(given: dict[str, Any]) -> list[Tensor]:
    inputs = [given["query"], given["key"], given["value"]]
    weight, bias = given["in_proj_weight"], given["in_proj_bias"]
    if inputs[0] is inputs[1] and inputs[1] is inputs[2]:
        return list(functional.linear(inputs[0], weight, bias).chunk(3, dim=-1))
    biases = [None] * 3 if bias is None else bias.chunk(3)
    return [functional.linear(x, w, b) for x, w, b in zip(inputs, weight.chunk(3), biases, strict=True)]


# From (L, B, E) to (B, heads, L, E / heads).
def _heads(part: Tensor, heads: int) -> Tensor:
    return part.view(*part.shape[:2], heads, -1).permute(1, 2, 0, 3)


def _weights(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    with torch.no_grad():
        values = query.detach() @ key.detach().transpose(-2, -1) / query.shape[-1] ** 0.5
        values = values if mask is None else values + mask
        weights: Tensor = values.softmax(dim=-1).mean(dim=1)
    return weights
