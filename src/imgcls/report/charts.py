"""Charts of counts and parts: confusion, scores by class, one metric of several parts, learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from imgcls.report.drawing import COLORS, INK, MANY, Drawing, legend, named, panels, short
from imgcls.report.names import nice
from imgcls.report.summaries import ConfusionRates, Forest, Learning, ScoreHistogram

__all__ = ["draw_confusion", "draw_forest", "draw_histogram", "draw_learning"]

_WIDE = (5.6, 3.8)


def draw_confusion(found: ConfusionRates) -> Drawing:
    """Draw a confusion matrix: counts, and with few classes the rates of each true class with intervals.

    Args:
        found: The table.

    Returns:
        The figure.
    """
    size = len(found.classes)
    cell = 1.25 if size <= 4 else 0.95 if size <= 8 else 0.48
    figure, axis = panels(1.8 + cell * size * 1.15, 1.2 + cell * size)
    for (row, column), rate in np.ndenumerate(found.rates):
        # A pale shade under words in the colour of the page's text, which is read in light and dark.
        color = COLORS[2] if row == column else COLORS[1]
        shade = 0.0 if np.isnan(rate) else 0.5 * float(rate)
        axis.add_patch(_square(column, row, color=color, alpha=shade))
        if found.counts[row, column] or size <= MANY:
            axis.text(
                column, row, _cell(found, row, column), ha="center", va="center", color=INK, fontsize=9, linespacing=1.5
            )
    names = [short(name) for name in found.classes]
    named(axis, xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), xlabel="decided", ylabel="true")
    axis.set(xticks=range(size), yticks=range(size))
    tilted = size > 4 and max(map(len, names)) > 4
    axis.set_xticklabels(names, rotation=45 if tilted else 0, ha="right" if tilted else "center", parse_math=False)
    axis.set_yticklabels(names, parse_math=False)
    right = int(np.trace(found.counts))
    text = f"{right} of {int(found.counts.sum())} decisions are right"
    if size <= 4:
        text += "; " + "; ".join(
            f"true {found.classes[row]}, decided {found.classes[column]}: {count}"
            for (row, column), count in np.ndenumerate(found.counts)
        )
    return Drawing(name="confusion", title="Confusion matrix", text=text, data=found, figure=figure)


def _square(column: int, row: int, *, color: str, alpha: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=color, alpha=alpha, linewidth=0)


def _cell(found: ConfusionRates, row: int, column: int) -> str:
    count, rate = int(found.counts[row, column]), found.rates[row, column]
    if len(found.classes) > 8 or np.isnan(rate):
        return str(count)
    low, high = found.low[row, column], found.high[row, column]
    ends = "" if np.isnan(low) or len(found.classes) > 4 else f"\n({low:.0%} to {high:.0%})"
    return f"{count}\n{rate:.0%}{ends}"


def draw_histogram(found: ScoreHistogram, cuts: Sequence[tuple[str, float]] = ()) -> Drawing:
    """Draw how scores are spread over the records of each class.

    Args:
        found: The counts.
        cuts: Thresholds to mark, by name.

    Returns:
        The figure.
    """
    figure, axis = panels(*_WIDE)
    drawn, names = [], list(found.counts)[:MANY]
    for place, name in enumerate(names):
        color, counts = COLORS[place % len(COLORS)], found.counts[name]
        shares = counts / max(1, counts.sum())
        if len(names) == 2:
            drawn.append(axis.stairs(shares, found.edges, color=color, fill=True, alpha=0.45))
        drawn_line = axis.stairs(shares, found.edges, color=color, linewidth=1.6)
        drawn += [] if len(names) == 2 else [drawn_line]
    for name, value in cuts:
        axis.axvline(value, color=INK, linewidth=1, linestyle="--")
        axis.annotate(
            name, (value, 1), xycoords=("data", "axes fraction"), xytext=(3, -9), textcoords="offset points",
            fontsize=8, color=INK, parse_math=False,
        )  # fmt: skip
    named(axis, xlabel=found.what, ylabel="share of the class", xlim=(0, 1))
    legend(figure, drawn, names, loc="outside upper center", ncols=min(4, len(names)))
    middles = (found.edges[1:] + found.edges[:-1]) / 2
    told = [
        f"{name}: mean {np.average(middles, weights=found.counts[name]):.2f}"
        for name in names
        if found.counts[name].sum()
    ]
    return Drawing(
        name="scores", title="Scores by true class", text=f"{found.what}; " + ", ".join(told), data=found, figure=figure
    )


def draw_forest(found: Forest, *, reference: float | None = None) -> Drawing:
    """Draw one metric of several parts.

    Args:
        found: The values.
        reference: Where a line is drawn; None takes the value of all records.

    Returns:
        The figure.
    """
    count = len(found.names)
    figure, axis = panels(5.6, 0.9 + 0.32 * count)
    places = np.arange(count)
    known = ~np.isnan(found.low)
    axis.hlines(places[known], found.low[known], found.high[known], color=COLORS[0], linewidth=1.6)
    axis.plot(found.values, places, "o", color=COLORS[0], markersize=5)
    line = found.values[found.names.index("all")] if reference is None and "all" in found.names else reference
    if line is not None:
        axis.axvline(line, color=INK, linewidth=0.8, linestyle=":")
    named(axis, xlabel=nice(found.metric), ylim=(count - 0.5, -0.5))
    axis.locator_params(axis="x", nbins=6)
    axis.set_yticks(places)
    labels = [f"{short(name)} (n = {n})" for name, n in zip(found.names, found.counts, strict=True)]
    axis.set_yticklabels(labels, parse_math=False)
    told = [
        f"{name} not defined" if np.isnan(value) else f"{name} {value:.3f}"
        for name, value in zip(found.names, found.values, strict=True)
    ]
    return Drawing(
        name=f"forest_{found.metric}", title=nice(found.metric), text=", ".join(told), data=found, figure=figure
    )


def draw_learning(found: Learning) -> Drawing:
    """Draw loss and monitored metric over the epochs of each fold, kept checkpoints marked.

    Args:
        found: The epochs.

    Returns:
        The figure.
    """
    figure, (left, right) = panels(9, 3.4, columns=2)
    drawn = []
    for place, fold in enumerate(found.folds):
        color = COLORS[place % len(COLORS)]
        marker = "o" if len(fold.epochs) == 1 else None  # a single epoch makes no line
        left.plot(fold.epochs, fold.train_loss, color=color, linestyle="--", linewidth=1.2, marker=marker)
        left.plot(fold.epochs, fold.val_loss, color=color, linewidth=1.6, marker=marker)
        drawn += right.plot(fold.epochs, fold.monitored, color=color, linewidth=1.6)
        at = fold.epochs == fold.kept
        right.plot(fold.epochs[at], fold.monitored[at], "o", color=color)
    words = found.monitor.replace("_", " ")
    named(left, title="Loss: training (dashed), validation", xlabel="epoch")
    named(right, title=f"Validation {words}, kept epoch marked", xlabel="epoch")
    for axis in (left, right):
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    legend(figure, drawn, [f"fold {fold.fold}" for fold in found.folds], loc="outside right upper")
    kept = [f"fold {fold.fold} epoch {fold.kept} of {len(fold.epochs)}" for fold in found.folds if fold.kept]
    return Drawing(name="learning", title="Learning curves", text=f"Kept: {', '.join(kept)}", data=found, figure=figure)
