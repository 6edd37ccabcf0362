"""What metrics are called where people read them."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["nice"]

_NAMES: Mapping[str, str] = {
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "sensitivity": "sensitivity (found of those with the class)",
    "specificity": "specificity (spared of those without it)",
    "ppv": "PPV (an alarm is right)",
    "npv": "NPV (no alarm is right)",
    "f1": "F1",
    "f1_macro": "F1, mean over classes",
    "f1_micro": "F1 over all answers",
    "mcc": "Matthews correlation",
    "kappa": "Cohen's kappa",
    "brier": "Brier score (less is better)",
    "ece": "calibration error (less is better)",
    "loss": "log loss (less is better)",
    "exact_match": "records with all labels right",
}


def nice(metric: str) -> str:
    """Name a metric.

    Args:
        metric: Its name in tables.

    Returns:
        Its name in sentences.
    """
    return _NAMES.get(metric, metric.replace("_", " "))
