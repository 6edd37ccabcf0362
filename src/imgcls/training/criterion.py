"""The training loss of one fold, with the weights that classes and records have in it."""

from __future__ import annotations

from typing import final

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imgcls.balancing.losses import Loss
from imgcls.training.losses import loss_terms

__all__ = ["Criterion"]


@final
@attrs.frozen(kw_only=True, eq=False)
class Criterion:
    """What training minimises.

    Attributes:
        loss: The loss.
        class_weights: Weights of the classes (K,), or None.
        record_weights: Weight of each record of the set, (N,), or None.
        log_priors: Logarithms of the shares of the classes (K,), for losses that adjust logits.
        pos_weight: Weight of the positive class in binary cross-entropy, or None.
        mean_weight: The mean of the weights of classes and records over the draws of the stage.
    """

    loss: Loss
    class_weights: Tensor | None = None
    record_weights: Tensor | None = None
    log_priors: Tensor | None = None
    pos_weight: Tensor | None = None
    mean_weight: float = 1.0

    def terms(self, logits: Tensor, targets: Tensor, positions: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Compute the loss of each record, and how much each counts.

        Args:
            logits: (B, K), or (B, 1).
            targets: Class indices (B,), or shares (B, K).
            positions: Which records of the set, (B,).

        Returns:
            Losses and weights, both (B,); the weights have a mean of 1 over the draws of the stage.
        """
        own = self.record_weights
        losses, weights = loss_terms(
            logits,
            targets,
            loss=self.loss,
            class_weights=self.class_weights,
            record_weights=None if own is None else own[torch.from_numpy(positions).to(own.device)],
            log_priors=self.log_priors,
            pos_weight=self.pos_weight,
        )
        return losses, weights / self.mean_weight
