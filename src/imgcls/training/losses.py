"""Losses on logits; a loss is named in the Balancer and computed here."""

from __future__ import annotations

import torch
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


def training_loss(
    logits: Tensor, targets: Tensor, *, loss: str, weights: Tensor | None, record_weights: Tensor | None = None
) -> Tensor:
    """Compute the loss of a batch.

    Args:
        logits: (B, K), or (B, 1) for `bce`, where the logit speaks for class 1.
        targets: Class indices (B,).
        loss: `cross-entropy` or `bce`.
        weights: Weights of the classes (K,), or None.
        record_weights: Weights of the records (B,), or None.

    Returns:
        The mean over the batch, weighted by the weights of classes and records; 0 where all
        weights of the batch are 0.
    """
    if loss == "cross-entropy" and record_weights is None:
        return functional.cross_entropy(logits, targets, weight=weights)
    each = torch.ones_like(logits[:, 0]) if record_weights is None else record_weights.to(logits.dtype)
    each = each if weights is None else each * weights[targets]
    if loss == "cross-entropy":
        losses = functional.cross_entropy(logits, targets, reduction="none")
    else:
        losses = functional.binary_cross_entropy_with_logits(logits[:, 0], targets.to(logits.dtype), reduction="none")
    return (losses * each).sum() / each.sum().clamp_min(torch.finfo(each.dtype).tiny)
