"""The metrics of an epoch, computed on the device by torchmetrics; the numbers are those of `evaluation`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional import classification

from imgcls.core.errors import ConfigError, nearest
from imgcls.evaluation.metrics import METRICS, metric

__all__ = ["MONITORS", "OPTIMISTIC", "epoch_metrics", "monitor_direction", "monitor_name"]

#: Probabilities are clipped here before the logarithm of the loss, as in `evaluation`.
_CLIP = 1e-12

#: Metrics that need a threshold are taken at the best one for the records of the epoch, which flatters them; their
#: names in the history say so.
OPTIMISTIC = MappingProxyType({"hter": "hter_best", "f1": "f1_best"})

#: What is computed of every epoch, whatever the classes.
_EVERY = ("loss", "accuracy", "balanced_accuracy", "f1_macro", "roc_auc", "average_precision")

#: What can be monitored, and whether more is better; the optimistic ones are for two classes.
MONITORS = MappingProxyType({**{name: metric(name).direction for name in _EVERY}, "hter_best": "min", "f1_best": "max"})


def monitor_name(name: str) -> str:
    """Find the name that a monitored metric has in the history.

    Args:
        name: What the user calls it.

    Returns:
        The name; `hter` and `f1` are those at the best threshold of the epoch.

    Raises:
        ConfigError: if it is none that is computed each epoch.

    Examples:
        >>> monitor_name("hter"), monitor_name("roc_auc")
        ('hter_best', 'roc_auc')
    """
    found = OPTIMISTIC.get(name, name)
    if found in MONITORS:
        return found
    if name in METRICS and METRICS[name].binary_only:
        raise ConfigError(
            f"'monitor' must be a metric that a threshold alone cannot make perfect, got {name!r}; take 'roc_auc', "
            "'average_precision', 'hter' or 'f1'"
        )
    known = [*MONITORS, *OPTIMISTIC]
    raise ConfigError(f"'monitor' must be a metric of every epoch, got {name!r}; {nearest(name, known)}")


def monitor_direction(name: str) -> str:
    """Say whether more or less of a metric is better.

    Args:
        name: The metric.

    Returns:
        `max` or `min`.

    Raises:
        ConfigError: if it is none that is computed each epoch.
    """
    return MONITORS[monitor_name(name)]


def epoch_metrics(logits: Tensor, targets: Tensor, *, positive: int | None) -> dict[str, float]:
    """Compute the metrics of validation records.

    Where records have several labels, each label is a question of its own, answered yes where its probability is at
    least 0.5. Loss and accuracy are then means over records and labels (accuracy is one minus the Hamming loss), and
    the other metrics are means over labels, without those for which they are not defined; NaN where none is left.

    Args:
        logits: (N, K), or (N, 1) for class 1 of two.
        targets: Class indices (N,), or of several labels 1 for each class that a record has, (N, K).
        positive: The positive class of two, or None for more.

    Returns:
        Values by name: those of `MONITORS`, the optimistic ones with a positive class only. Where one of several
        classes has no record, all but loss and accuracy are NaN.
    """
    if targets.ndim == 2:
        return _label_metrics(logits.double(), targets)
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
    names = _EVERY if positive is None else MONITORS
    return {name: float(values.get(name, math.nan)) for name in names}


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
            **_at_best(scores, truth),
        }
    return {
        "roc_auc": classification.multiclass_auroc(probs, targets, num_classes),
        "average_precision": classification.multiclass_average_precision(probs, targets, num_classes),
    }


def _at_best(scores: Tensor, truth: Tensor) -> dict[str, Tensor]:
    far, sensitivity, _ = classification.binary_roc(scores, truth)
    precision, recall, _ = classification.binary_precision_recall_curve(scores, truth)
    f1 = 2 * precision * recall / (precision + recall)
    return {"hter_best": ((far + 1 - sensitivity) / 2).min(), "f1_best": f1.nan_to_num().max()}


def _label_metrics(logits: Tensor, targets: Tensor) -> dict[str, float]:
    signs = 2 * targets - 1
    probs = logits.sigmoid()
    preds = (probs >= 0.5).long()
    present = targets.any(dim=0).nonzero()[:, 0].tolist()
    mixed = [label for label in present if not targets[:, label].all()]

    def mean(score: Callable[[Tensor, Tensor], Tensor], values: Tensor, labels: Iterable[int]) -> float:
        found = [score(values[:, label], targets[:, label]) for label in labels]
        return float(torch.stack(found).double().mean()) if found else math.nan

    return {
        "loss": float(-functional.logsigmoid(signs * logits).clamp(min=math.log(_CLIP)).mean()),
        "accuracy": float((preds == targets).double().mean()),
        "balanced_accuracy": mean(_balanced, preds, mixed),
        "f1_macro": mean(classification.binary_f1_score, preds, present),
        "roc_auc": mean(classification.binary_auroc, probs, mixed),
        "average_precision": mean(classification.binary_average_precision, probs, mixed),
    }


def _balanced(preds: Tensor, truth: Tensor) -> Tensor:
    return classification.multiclass_accuracy(preds, truth, 2, average="macro")
