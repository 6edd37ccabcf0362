"""Curves of a run, drawn from their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from imgcls.core.spacing import evenly
from imgcls.evaluation.rejecting import RiskCoverage
from imgcls.evaluation.reliability import Reliability
from imgcls.report.curves import Curve, Sweep
from imgcls.report.drawing import COLORS, INK, MANY, Drawing, legend, named, panels, short

__all__ = [
    "draw_precision_recall",
    "draw_reliability",
    "draw_risk",
    "draw_roc",
    "draw_sweep",
]

#: A line has at most so many points; more make the page large and show nothing.
_POINTS = 400

_WIDE = (5.6, 3.8)


def draw_roc(curves: Sequence[Curve]) -> Drawing:
    """Draw ROC curves.

    Args:
        curves: One a class.

    Returns:
        The figure.
    """
    figure, axis = panels(5.6 if len(curves) == 1 else 7.0, 4.4)
    axis.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
    _lines(figure, axis, curves)
    named(
        axis,
        xlabel="1 - specificity (false alarms among records without the class)",
        ylabel="sensitivity (share that is found)",
        aspect="equal",
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
    )
    told = [
        f"{curve.class_name}: sensitivity {np.interp(0.1, curve.x, curve.y):.2f} at 1 - specificity 0.1"
        for curve in curves[:MANY]
    ]
    return Drawing(name="roc", title="ROC curve", text="; ".join(told), data=tuple(curves), figure=figure)


def draw_precision_recall(curves: Sequence[Curve], shares: Sequence[float] = ()) -> Drawing:
    """Draw precision-recall curves.

    Args:
        curves: One a class.
        shares: How frequent the class of each is, which is the precision of chance; drawn for a single curve.

    Returns:
        The figure.
    """
    figure, axis = panels(5.6 if len(curves) == 1 else 7.0, 4.4)
    if len(shares) == 1:
        axis.axhline(shares[0], color=INK, linewidth=0.8, linestyle=":")
    _lines(figure, axis, curves)
    named(
        axis,
        xlabel="recall (share that is found)",
        ylabel="precision (share of calls that are right)",
        xlim=(-0.01, 1.01),
        ylim=(0, 1.02),
    )
    told = [f"{curve.class_name}: precision {_at(curve, 0.9):.2f} at recall 0.9" for curve in curves[:MANY]]
    return Drawing(
        name="precision_recall",
        title="Precision-recall curve",
        text="; ".join(told),
        data=tuple(curves),
        figure=figure,
    )


def _at(curve: Curve, recall: float) -> float:
    return float(curve.y[min(int(np.searchsorted(curve.x, recall - 1e-12)), len(curve.y) - 1)])


def _lines(figure: Any, axis: Any, curves: Sequence[Curve]) -> None:
    drawn = []
    for place, curve in enumerate(curves):
        color = COLORS[place % len(COLORS)] if place < MANY else "#8a8f98"
        if np.isfinite(curve.low).any():
            axis.fill_between(curve.grid, curve.low, curve.high, color=color, alpha=0.22, linewidth=0)
        kept = evenly(len(curve.x), _POINTS)
        width, style = (0.8, "-") if place >= MANY else (1.8, "-" if place < len(COLORS) else "--")
        drawn += axis.plot(
            curve.x[kept], curve.y[kept], color=color, linewidth=width, linestyle=style, zorder=1.5 + (place < MANY)
        )
    names = [curve.class_name for curve in curves]
    if len(names) == 1:
        legend(axis, drawn, names, loc="best")
    else:
        legend(figure, drawn, names, loc="outside right upper")


def draw_reliability(found: Reliability) -> Drawing:
    """Draw a reliability curve.

    Args:
        found: The curve.

    Returns:
        The figure.
    """
    figure, axis = panels(5.6, 4.4)
    what = found.class_name or "the most probable class"
    axis.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
    errors = np.nan_to_num(np.abs(np.stack([found.kept - found.low, found.high - found.kept])))
    sizes = 16 + 80 * found.counts / found.counts.max()
    axis.errorbar(found.promised, found.kept, yerr=errors, color=COLORS[0], linewidth=1.4, capsize=3)
    axis.scatter(found.promised, found.kept, s=sizes, color=COLORS[0], linewidths=0, zorder=3)
    named(
        axis,
        xlabel=f"promised: mean probability of {short(what)}",
        ylabel="kept: share for which it came true",
        aspect="equal",
        xlim=(-0.03, 1.03),
        ylim=(-0.03, 1.03),
    )
    text = f"Probability of {what}: on average kept and promised shares differ by {found.error:.3f}"
    return Drawing(name="reliability", title="Reliability", text=text, data=found, figure=figure)


def draw_sweep(found: Sweep, cuts: Sequence[tuple[str, float]] = ()) -> Drawing:
    """Draw what thresholds do.

    Args:
        found: The numbers.
        cuts: Thresholds to mark, by name.

    Returns:
        The figure.
    """
    figure, axis = panels(*_WIDE)
    words = {"sensitivity": "sensitivity", "specificity": "specificity", "ppv": "precision (ppv)", "f1": "F1"}
    drawn = []
    for color, name in zip(COLORS, words, strict=False):
        if np.isfinite(found.low[name]).any():
            axis.fill_between(found.thresholds, found.low[name], found.high[name], color=color, alpha=0.18, linewidth=0)
        drawn += axis.plot(found.thresholds, found.values[name], color=color, linewidth=1.6)
    for _, value in cuts:
        axis.axvline(value, color=INK, linewidth=1, linestyle="--")
    named(axis, xlabel=f"threshold of the probability of {short(found.class_name)}", xlim=(0, 1), ylim=(0, 1.02))
    legend(figure, drawn, list(words.values()), loc="outside upper center", ncols=4)
    marks = "; ".join(f"{name} at {value:.3f}" for name, value in cuts)
    return Drawing(
        name="thresholds",
        title="Sensitivity, specificity, precision and F1 over the threshold",
        text=f"Marked: {marks}" if marks else "",
        data=found,
        figure=figure,
    )


def draw_risk(found: RiskCoverage) -> Drawing:
    """Draw the risk-coverage curve.

    Args:
        found: The curve.

    Returns:
        The figure.
    """
    figure, axis = panels(5.6, 3.8)
    axis.fill_between(found.coverage, found.low, found.high, color=COLORS[0], alpha=0.22, linewidth=0)
    axis.plot(found.coverage, found.risk, color=COLORS[0], linewidth=1.8)
    named(
        axis,
        xlabel="coverage (share of records that are decided, the surest first)",
        ylabel="share of wrong decisions",
        xlim=(0, 1.01),
    )
    axis.set_ylim(bottom=0)
    half = float(np.interp(0.5, found.coverage, found.risk))
    text = f"All decided: {found.risk[-1]:.3f} are wrong; the surer half: {half:.3f}"
    return Drawing(name="risk_coverage", title="Risk and coverage", text=text, data=found, figure=figure)
