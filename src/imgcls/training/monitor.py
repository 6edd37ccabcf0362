"""The metrics of an epoch, computed on the device by torchmetrics; the numbers are those of `evaluation`."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional import classification

from imgcls.core.errors import ConfigError, nearest
from imgcls.evaluation.metrics import metric

__all__ = ["MONITORS", "epoch_metrics", "monitor_direction"]

#: Probabilities are clipped here before the logarithm of the loss, as in `evaluation`.
_CLIP = 1e-12

#: What can be monitored, and whether more is better.
MONITORS = {
    name: metric(name).direction
    for name in ("loss", "accuracy", "balanced_accuracy", "f1_macro", "roc_auc", "average_precision")
}


def monitor_direction(name: str) -> str:
    """Say whether more or less of a metric is better.

    Args:
        name: The metric.

    Returns:
        `max` or `min`.

    Raises:
        ConfigError: if it is none that is computed each epoch.
    """
    if name not in MONITORS:
        raise ConfigError(f"'monitor' must be a metric of every epoch, got {name!r}; {nearest(name, MONITORS)}")
    return MONITORS[name]


def epoch_metrics(logits: Tensor, targets: Tensor, *, positive: int | None) -> dict[str, float]:
    """Compute the metrics of validation records.

    Args:
        logits: (N, K), or (N, 1) for class 1 of two.
        targets: Class indices (N,).
        positive: The positive class of two, or None for more.

    Returns:
        The value of each of `MONITORS`; where a class has no record, all but loss and
        accuracy are NaN.
    """
    logs = _log_probs(logits.double())
    probs, num_classes = logs.exp(), logs.shape[1]
    preds = probs.argmax(dim=1)
    values = {
        "loss": functional.nll_loss(logs.clamp(min=math.log(_CLIP)), targets),
        "accuracy": classification.multiclass_accuracy(preds, targets, num_classes, average="micro"),
    }
    if torch.bincount(targets, minlength=num_classes).all():
        values |= {
            "balanced_accuracy": classification.multiclass_accuracy(preds, targets, num_classes, average="macro"),
            "f1_macro": classification.multiclass_f1_score(preds, targets, num_classes, average="macro"),
            **_ranking(probs, targets, positive),
        }
    return {name: float(values.get(name, math.nan)) for name in MONITORS}


def _log_probs(logits: Tensor) -> Tensor:
    if logits.shape[1] == 1:
        return functional.logsigmoid(torch.cat([-logits, logits], dim=1))
    return functional.log_softmax(logits, dim=1)


def _ranking(probs: Tensor, targets: Tensor, positive: int | None) -> dict[str, Tensor]:
    num_classes = probs.shape[1]
    if positive is not None:
        scores, truth = probs[:, positive], (targets == positive).long()
        return {
            "roc_auc": classification.binary_auroc(scores, truth),
            "average_precision": classification.binary_average_precision(scores, truth),
        }
    return {
        "roc_auc": classification.multiclass_auroc(probs, targets, num_classes),
        "average_precision": classification.multiclass_average_precision(probs, targets, num_classes),
    }
