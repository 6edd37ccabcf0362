"""Which figures a run has, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from imgcls.core.errors import ConfigError, RunError, nearest
from imgcls.evaluation.breakdown import by_value, values_of
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.rejecting import risk_coverage
from imgcls.evaluation.reliability import reliability
from imgcls.report.charts import draw_confusion, draw_forest, draw_histogram, draw_learning
from imgcls.report.curves import precision_recall, roc, shown_classes, sweep
from imgcls.report.drawing import Drawing
from imgcls.report.figures import draw_precision_recall, draw_reliability, draw_risk, draw_roc, draw_sweep
from imgcls.report.material import Material
from imgcls.report.summaries import confusion_rates, forest, learning, score_histogram

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FIGURES", "deciding_cuts", "draw", "drawings", "main_metric", "parts"]

#: With more curves, bands would hide each other.
_BANDS = 3

#: Groups are drawn so often for bands and intervals of figures.
_RESAMPLES = 300

#: Columns that parts are told of, the values that one may have, and the folds that are named one by one.
_COLUMNS, _VALUES, _FOLDS = 3, 8, 12


def draw(material: Material, name: str) -> Drawing:
    """Draw one figure.

    Args:
        material: The run.
        name: One of `FIGURES`.

    Returns:
        The figure, with its numbers.

    Raises:
        ConfigError: if there is no figure of that name.
        RunError: if the run has nothing that it could show.
    """
    if name not in FIGURES:
        known = ", ".join(FIGURES)
        raise ConfigError(f"'name' must be one of {known}, got {name!r}; {nearest(name, FIGURES)}")
    found = FIGURES[name](material)
    if found is None:
        raise RunError(f"'name' must be a figure that the run has something for, got {name!r}")
    return found


def drawings(material: Material) -> Iterator[Drawing]:
    """Draw all figures that a run has something for.

    Args:
        material: The run.

    Yields:
        The figures.
    """
    for make in FIGURES.values():
        found = make(material)
        if found is not None:
            yield found


def main_metric(predictions: Predictions) -> str:
    """Say by which metric parts are compared.

    Args:
        predictions: Those that are reported.

    Returns:
        The area under the ROC curve, or of several classes the balanced accuracy.
    """
    several = predictions.positive is None and not predictions.multilabel
    return "balanced_accuracy" if several else "roc_auc"


def deciding_cuts(material: Material) -> list[tuple[str, float]]:
    """Find the threshold that decides for two classes, of the mean of the folds.

    Args:
        material: The run.

    Returns:
        Its name and value; nothing where there is none.
    """
    return [(t.rule, t.value) for t in material.thresholds if t.model == "mean" and t.rule == material.decision][:1]


def parts(material: Material) -> pd.DataFrame | None:
    """Gather the metrics of all parts of what is reported: folds, groups of images, values of columns.

    Args:
        material: The run.

    Returns:
        Rows as of `evaluate`, of all records first; None without numbers.
    """
    import pandas as pd

    final, table = material.final, material.metrics
    if final is None or table is None or material.reported is None:
        return None
    own = table[(table["split"] == final.split) & (table["group"] == "")]
    folds = own[(own["level"] == "image") & own["fold"].str.isdecimal()]
    folds = folds if folds["fold"].nunique() <= _FOLDS else folds.iloc[:0]
    groups = own[(own["level"] == "group") & own["fold"].isin(["all", "mean"])]
    groups = groups[groups["fold"] == groups["fold"].iloc[-1]] if len(groups) else groups
    known = tuple(t for t in material.thresholds if t.rule == material.decision)
    by_column = [by_value(final, column, known, resamples=_RESAMPLES) for column in _told_apart(final)]
    found: pd.DataFrame = pd.concat([material.reported, groups, folds, *by_column], ignore_index=True)
    return found


# Columns with few values, each of several records; numbers that are measured are no parts.
def _told_apart(predictions: Predictions) -> list[str]:
    found = []
    for name, values in predictions.columns.items():
        if values.dtype.kind in "iubU" and 2 <= len(np.unique(values)) <= _VALUES:
            counts = np.unique(values_of(predictions, name), return_counts=True)[1]
            found += [name] if counts.min() > 1 else []
    return found[:_COLUMNS]


def _roc(material: Material) -> Drawing | None:
    final = material.final
    shown = [] if final is None else shown_classes(final)
    if final is None or not shown:
        return None
    draws = _RESAMPLES if len(shown) <= _BANDS else 0
    return draw_roc([roc(final, final.classes[index], resamples=draws) for index in shown])


def _precision_recall(material: Material) -> Drawing | None:
    final = material.final
    shown = [] if final is None else shown_classes(final)
    if final is None or not shown:
        return None
    draws = _RESAMPLES if len(shown) <= _BANDS else 0
    shares = [float(final.has(index).mean()) for index in shown]
    return draw_precision_recall(
        [precision_recall(final, final.classes[index], resamples=draws) for index in shown], shares
    )


def _reliability(material: Material) -> Drawing | None:
    final = material.final
    if final is None or final.multilabel:
        return None
    return draw_reliability(reliability(final, resamples=_RESAMPLES))


def _confusion(material: Material) -> Drawing | None:
    final = material.final
    if final is None or final.multilabel:
        return None
    return draw_confusion(confusion_rates(final, material.thresholds, _rule(material), resamples=_RESAMPLES))


# The rule that decides, where it has thresholds.
def _rule(material: Material) -> str:
    return material.decision if any(t.rule == material.decision for t in material.thresholds) else ""


def _scores(material: Material) -> Drawing | None:
    final = material.final
    if final is None:
        return None
    return draw_histogram(score_histogram(final), deciding_cuts(material) if final.positive else ())


def _thresholds(material: Material) -> Drawing | None:
    final = material.final
    if final is None or final.positive is None or not shown_classes(final):
        return None
    return draw_sweep(sweep(final, resamples=_RESAMPLES), deciding_cuts(material))


def _risk(material: Material) -> Drawing | None:
    final = material.final
    if final is None or final.multilabel:
        return None
    return draw_risk(risk_coverage(final, material.thresholds, _rule(material), resamples=_RESAMPLES))


def _forest(material: Material) -> Drawing | None:
    table, final = parts(material), material.final
    if table is None or final is None:
        return None
    found = forest(table, main_metric(final))
    return draw_forest(found) if len(found.names) > 1 else None


def _learning(material: Material) -> Drawing | None:
    monitor = material.facts.get("monitor") or _monitored(material)
    if not material.histories or monitor is None:
        return None
    return draw_learning(learning(material.histories, str(monitor)))


# What an unfinished run watches: what it was told to, else the first metric there is.
def _monitored(material: Material) -> str | None:
    if material.options.get("monitor"):
        return str(material.options["monitor"])
    columns = [column for table in material.histories.values() for column in table.columns]
    usual = ("val_average_precision", "val_f1_macro", "val_balanced_accuracy", "val_accuracy")
    return next((name.removeprefix("val_") for name in usual if name in columns), None)


#: What draws each figure; None where the run has nothing for it.
FIGURES: Mapping[str, Callable[[Material], Drawing | None]] = {
    "roc": _roc,
    "precision_recall": _precision_recall,
    "reliability": _reliability,
    "confusion": _confusion,
    "scores": _scores,
    "thresholds": _thresholds,
    "risk_coverage": _risk,
    "forest": _forest,
    "learning": _learning,
}
