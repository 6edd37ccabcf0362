"""Losses on logits; a loss is named in the Balancer and computed here."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

__all__ = ["num_outputs", "training_loss"]


def num_outputs(loss: str, num_classes: int) -> int:
    """Say how many logits a loss wants.

    Args:
        loss: `cross-entropy` or `bce`.
        num_classes: How many classes there are.

    Returns:
        One logit for `bce`, else one a class.
    """
    return 1 if loss == "bce" else num_classes


def training_loss(logits: Tensor, targets: Tensor, *, loss: str, weights: Tensor | None) -> Tensor:
    """Compute the loss of a batch.

    Args:
        logits: (B, K), or (B, 1) for `bce`, where the logit speaks for class 1.
        targets: Class indices (B,).
        loss: `cross-entropy` or `bce`.
        weights: Weights of the classes (K,), or None.

    Returns:
        The mean over the batch, weighted by the weights of the classes.
    """
    if loss == "cross-entropy":
        return functional.cross_entropy(logits, targets, weight=weights)
    each = None if weights is None else weights[targets]
    total = functional.binary_cross_entropy_with_logits(logits[:, 0], targets.to(logits.dtype), each, reduction="sum")
    return total / (len(targets) if each is None else each.sum())
