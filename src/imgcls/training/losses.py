"""The training losses on logits; `imgcls.balancing.losses` names them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from imgcls.balancing.losses import Bce, Focal, LabelSmoothing, LogitAdjusted, Loss, to_loss
from imgcls.core.errors import ConfigError

__all__ = ["loss_terms", "num_outputs", "training_loss"]


def num_outputs(loss: Loss | str, num_classes: int, *, multilabel: bool = False) -> int:
    """Say how many logits a loss wants.

    Args:
        loss: The loss, or its name.
        num_classes: How many classes there are.
        multilabel: Whether a record may have several labels.

    Returns:
        One logit for `bce` of two classes, else one a class.

    Raises:
        ConfigError: if the loss is not for such labels.
    """
    is_bce = isinstance(to_loss(loss), Bce)
    if multilabel and not is_bce:
        raise ConfigError(f"'loss' must be 'bce' where records have several labels, got {to_loss(loss).name!r}")
    return 1 if is_bce and not multilabel else num_classes


def training_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    loss: Loss | str,
    weights: Tensor | None = None,
    record_weights: Tensor | None = None,
    log_priors: Tensor | None = None,
    pos_weight: Tensor | float | None = None,
) -> Tensor:
    """Compute the loss of a batch.

    Args:
        logits: As for `loss_terms`, and so are the others.
        targets: Class indices or soft targets.
        loss: The loss, or its name.
        weights: Weights of the classes (K,), or None.
        record_weights: Weights of the records (B,), or None.
        log_priors: Logarithms of the priors (K,), for the logit-adjusted loss.
        pos_weight: Weight of positives, for `bce`.

    Returns:
        The mean over the batch, weighted by the weights of classes and records; 0 where all
        weights of the batch are 0.
    """
    losses, own = loss_terms(
        logits,
        targets,
        loss=loss,
        class_weights=weights,
        record_weights=record_weights,
        log_priors=log_priors,
        pos_weight=pos_weight,
    )
    return (losses * own).sum() / own.sum().clamp_min(torch.finfo(own.dtype).tiny)


def loss_terms(
    logits: Tensor,
    targets: Tensor,
    *,
    loss: Loss | str,
    class_weights: Tensor | None = None,
    record_weights: Tensor | None = None,
    log_priors: Tensor | None = None,
    pos_weight: Tensor | float | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute the loss of each record, and its weight.

    They are apart so that parts of a batch can share one denominator: the loss of a batch is
    sum(losses * weights) / sum(weights).

    Args:
        logits: (B, K); for `bce` of two classes (B, 1), where the logit speaks for class 1.
        targets: Class indices (B,), or soft targets (B, K), float. For one logit also the soft target
            of class 1, (B,), float; for several labels 1 for each class of a record, (B, K).
        loss: The loss, or its name.
        class_weights: Weights of the classes (K,), or None. A record has the expected weight under its
            target; `label-smoothing` does not change it. Of several labels they weigh the mean over the labels.
        record_weights: Weights of the records (B,), or None.
        log_priors: Logarithms of the priors (K,), for the logit-adjusted loss.
        pos_weight: Factor of the loss of positives, for `bce`: a number, or one for each logit. As in torch it does
            not count in the weight of the record.

    Returns:
        Losses (B,) and weights (B,), float32 or, of such logits, float64.
    """
    chosen: Loss = to_loss(loss)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if isinstance(chosen, Bce):
        losses, weights = _bce_terms(logits, targets, class_weights, pos_weight)
    else:
        losses, weights = _softmax_losses(logits, targets, chosen, log_priors), _weights(logits, targets, class_weights)
    return losses, weights if record_weights is None else weights * record_weights.to(weights.dtype)


def _softmax_losses(logits: Tensor, targets: Tensor, loss: Loss, log_priors: Tensor | None) -> Tensor:
    if isinstance(loss, LogitAdjusted):
        assert log_priors is not None
        logits = logits + loss.tau * log_priors
    each = -functional.log_softmax(logits, dim=1)
    if isinstance(loss, Focal):
        # 1 - p, exact near 1; not quite 0, where the slope of a power below 1 is infinite.
        each = each * (-torch.expm1(-each)).clamp_min(torch.finfo(each.dtype).tiny) ** loss.gamma
    losses = _expected(each, targets)
    if isinstance(loss, LabelSmoothing):
        losses = (1 - loss.epsilon) * losses + loss.epsilon * each.mean(dim=1)
    return losses


# Of values (B, K) that of each record's class, or the mean under its soft target.
def _expected(values: Tensor, targets: Tensor) -> Tensor:
    if targets.is_floating_point():
        return (targets * values).sum(dim=1)
    return values.gather(1, targets[:, None])[:, 0]


def _weights(logits: Tensor, targets: Tensor, class_weights: Tensor | None) -> Tensor:
    if class_weights is None:
        return torch.ones_like(logits[:, 0])
    return _expected(class_weights.to(logits.dtype).expand(len(logits), -1), targets)


def _bce_terms(
    logits: Tensor, targets: Tensor, class_weights: Tensor | None, pos_weight: Tensor | float | None
) -> tuple[Tensor, Tensor]:
    factor = None if pos_weight is None else torch.as_tensor(pos_weight, dtype=logits.dtype, device=logits.device)
    shares = targets.to(logits.dtype)
    if logits.shape[1] == 1:
        shares = shares.reshape(len(logits), -1)[:, -1:]  # of soft targets of two classes, that of class 1
        both = torch.cat([1 - shares, shares], dim=1)
        weights = _weights(logits, both, class_weights)
    else:
        weights = torch.ones_like(logits[:, 0])
    losses = functional.binary_cross_entropy_with_logits(logits, shares, pos_weight=factor, reduction="none")
    if logits.shape[1] == 1 or class_weights is None:
        return losses.mean(dim=1), weights
    return losses @ class_weights.to(logits.dtype) / class_weights.sum(), weights
