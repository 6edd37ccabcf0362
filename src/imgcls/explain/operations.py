"""What in a model keeps zennit's rules from conserving relevance."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from imgcls.core.errors import listing

__all__ = ["unruled"]

#: Functions of two signals that lie between modules, where a rule of zennit cannot reach.
_PAIRS = {
    "add": "addition of two signals (residual connection)",
    "sub": "difference of two signals",
    "mul": "product of two signals (gate, squeeze-and-excitation)",
    "matmul": "matrix product of two signals (attention)",
    "bmm": "matrix product of two signals (attention)",
    "einsum": "matrix product of two signals (attention)",
    "scaled_dot_product_attention": "attention",
}

#: Functions that zennit passes through as they are, though they change the sum.
_SINGLES = {
    "layer_norm": "layer norm",
    "group_norm": "group norm",
    "rms_norm": "RMS norm",
    "softmax": "softmax",
    "multi_head_attention_forward": "attention",
}


def unruled(model: nn.Module, images: Tensor) -> list[str]:
    """Name the operations of a model that break the conservation of relevance.

    Args:
        model: The model as zennit sees it, canonizers applied.
        images: (B, C, H, W), of which one is run; requires gradients.

    Returns:
        Each kind of operation with its number and the modules it happens in, empty where
        nothing is known.
    """
    watch = _Watch()
    handles = []
    for module in model.modules():
        handles += [module.register_forward_pre_hook(watch.enter), module.register_forward_hook(watch.leave)]
    try:
        with watch:
            model(images[:1])
    finally:
        for handle in handles:
            handle.remove()
    return [f"{len(owners)} x {cause} in {listing(sorted(set(owners)), limit=3)}" for cause, owners in watch.items()]


class _Watch(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self._inside: list[str] = []
        self._found: dict[str, list[str]] = defaultdict(list)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(getattr(func, "__name__", "")).strip("_")
        signals = [arg for arg in args if isinstance(arg, Tensor) and arg.requires_grad]
        # x += y and y + x arrive as __iadd__ and __radd__.
        cause = _SINGLES.get(name) or (_PAIRS.get(name.lstrip("ir")) if len(signals) > 1 else None)
        if cause is not None:
            self._found[cause].append(self._inside[-1] if self._inside else "forward")
        return func(*args, **(kwargs or {}))

    def enter(self, module: nn.Module, _: Any) -> None:
        self._inside.append(type(module).__name__)

    def leave(self, _: nn.Module, __: Any, ___: Any) -> None:
        self._inside.pop()

    def items(self) -> list[tuple[str, list[str]]]:
        return list(self._found.items())
