"""Whether relevance flows through the whole of a model, and where it does not."""

from __future__ import annotations

import copy
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from imgcls.core.errors import UnsupportedModelError, listing
from imgcls.explain.isolation import isolated
from imgcls.explain.propagation import Propagation, flat, live, swapped

__all__ = ["Completeness", "completeness", "leaks", "refuse"]

#: How far the sum of all relevance may lie from the score, in parts of it.
TOLERANCE = 1e-6


@attrs.frozen(kw_only=True)
class Completeness:
    """What came of a run of LRP-0 in double precision.

    Attributes:
        ratio: What the pixels and all constants get, over the score; 1 where nothing is lost.
        unchanged: Whether the model said the same in that run.
        names: The functions that ran.
    """

    ratio: float
    unchanged: bool
    names: frozenset[str]

    def holds(self) -> bool:
        """Say whether relevance flows through the whole model.

        Returns:
            Whether the ratio is 1 and the model said the same.
        """
        return self.unchanged and abs(self.ratio - 1) <= TOLERANCE


def completeness(model: nn.Module, image: Tensor) -> Completeness:
    """Measure how much of a score arrives at the pixels and the constants by LRP-0.

    By LRP-0 nothing is lost: the pixels and what biases, embeddings and the like add get the
    score together. A function that is not treated right breaks this.

    Args:
        model: The isolated model, of which a copy is run in double precision.
        image: (1, C, H, W).

    Returns:
        The measurement, for the largest logit.
    """
    model, leaf = _in_double(model, image)
    sources: list[Tensor] = []
    with torch.no_grad():
        plain = model(leaf.detach())
    mode = Propagation(None, sources=sources)
    with mode:
        logits = model(leaf)
    score = logits.flatten()[logits.detach().abs().flatten().argmax()]
    gradients = torch.autograd.grad(score, [leaf, *sources], allow_unused=True) if score.requires_grad else []
    parts = [(x * g).sum() for x, g in zip([leaf, *sources], gradients, strict=False) if g is not None]
    total = float(sum(parts, torch.zeros(())).detach())
    expected = float(score.detach())
    error = float((logits.detach() - plain).abs().max())
    return Completeness(
        ratio=1.0 if total == expected else total / expected if expected else torch.inf,
        unchanged=error <= TOLERANCE * float(plain.abs().max()),
        names=frozenset(mode.names),
    )


def leaks(model: nn.Module, image: Tensor) -> list[str]:
    """Name the functions of a model that lose or make relevance.

    Args:
        model: The isolated model.
        image: (1, C, H, W).

    Returns:
        Each function with the modules that it runs in, the first to run first.
    """
    model, leaf = _in_double(model, image)
    audit = _Audit()
    for module in model.modules():
        module.register_forward_pre_hook(audit.enter)
        module.register_forward_hook(audit.leave)
    with Propagation(None, sources=[], audit=audit):
        model(leaf)
    return [f"{name} in {listing(sorted(owners), limit=3)}" for name, owners in audit.found.items()]


def _in_double(model: nn.Module, image: Tensor) -> tuple[nn.Module, Tensor]:
    if image.device.type == "mps":  # which has no double precision
        model, image = copy.deepcopy(model).cpu(), image.cpu()
    return isolated(model, torch.float64), image.detach().to(torch.float64).requires_grad_()


# Runs each function once more by itself and compares what goes in with what comes out.
class _Audit:
    def __init__(self) -> None:
        self.inside: list[str] = []
        self.found: dict[str, set[str]] = {}

    def enter(self, module: nn.Module, _: Any) -> None:
        self.inside.append(type(module).__name__)

    def leave(self, _: nn.Module, __: Any, ___: Any) -> None:
        self.inside.pop()

    def __call__(self, mode: Propagation, func: Any, name: str, args: Any, kwargs: Any) -> None:
        before, mode.sources = mode.sources, []
        leaves: list[Tensor] = []

        def leaf(value: Any) -> Any:
            if not live(value):
                return value
            leaves.append(value.detach().clone().requires_grad_())
            if value in mode.gates:
                mode.gates[leaves[-1]] = True
            return leaves[-1]

        try:
            again, named = swapped([args, kwargs], leaf)
            outputs = [out for out in flat(mode.run(func, name, again, named)) if live(out) and out not in mode.gates]
            if outputs and not _keeps(outputs, [*leaves, *mode.sources]):
                self.found.setdefault(name, set()).add(self.inside[-1] if self.inside else "forward")
        finally:
            mode.sources = before


def _keeps(outputs: list[Tensor], inputs: list[Tensor]) -> bool:
    rng = torch.Generator().manual_seed(0)
    arriving = [torch.rand(out.shape, generator=rng, dtype=out.dtype).to(out.device) for out in outputs]
    gradients = torch.autograd.grad(outputs, inputs, arriving, allow_unused=True)
    went = [(x.detach() * g).sum() for x, g in zip(inputs, gradients, strict=True) if g is not None]
    came = torch.stack([(out.detach() * g).sum() for out, g in zip(outputs, arriving, strict=True)])
    error = (torch.stack(went).sum() if went else 0) - came.sum()
    return abs(float(error)) <= TOLERANCE * float(came.abs().sum())


def refuse(model: nn.Module, image: Tensor, measured: Completeness) -> UnsupportedModelError:
    """Make the error for a model through which relevance does not flow.

    Args:
        model: The isolated model.
        image: (1, C, H, W).
        measured: What was measured.

    Returns:
        The error, which names the functions that lose or make relevance.
    """
    if not measured.unchanged:
        got, cause = "other logits", "a value is changed in place and what the function returns is not used"
    else:
        got = f"a share of {measured.ratio:.6g}"
        cause = "; ".join(leaks(model, image)) or "no single function explains it"
    return UnsupportedModelError(
        f"'model' must keep all relevance under LRP-0, got {got}: {cause}; use 'grad-cam', 'integrated-gradients' or "
        "'occlusion'"
    )
