"""Figures of a run as inline SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from imgcls.evaluation.predictions import Predictions

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MANY", "confusion_figure", "curves_figure", "learning_figure"]

#: Of more classes a legend names only the first ones, and a confusion matrix shows no zeros.
MANY = 12

#: Names longer than this many characters are cut in figures, where they would leave no room for the data.
_LONGEST = 28


def learning_figure(history: pd.DataFrame, monitor: str) -> str:
    """Draw loss and monitored metric over the epochs of every fold, kept checkpoints marked.

    Args:
        history: Rows of all folds with `fold`, `epoch`, `train_loss`, `val_<metric>`, `best`.
        monitor: The monitored metric.

    Returns:
        An SVG element.
    """
    figure, (left, right) = _figure(9, 3.2, columns=2)
    for number, rows in history.groupby("fold"):
        color = f"C{int(str(number)) % 10}"
        epochs = rows["epoch"] + 1
        left.plot(epochs, rows["train_loss"], color=color, linestyle="--", linewidth=1)
        left.plot(epochs, rows["val_loss"], color=color, linewidth=1.4)
        right.plot(epochs, rows[f"val_{monitor}"], color=color, linewidth=1.4)
        kept = rows[rows["best"] == 1].tail(1)
        right.plot(kept["epoch"] + 1, kept[f"val_{monitor}"], "o", color=color, label=f"fold {number}")
    left.set(title="Loss: training (dashed), validation", xlabel="epoch")
    right.set(title=f"Validation {monitor.replace('_', ' ')}, kept epoch marked", xlabel="epoch")
    right.legend(fontsize=8, frameon=False)
    return _svg(figure, "Learning curves: loss and monitored metric by epoch")


def curves_figure(predictions: Predictions) -> str:
    """Draw ROC and precision-recall curves, of the positive class or of each against the rest.

    Args:
        predictions: N records. Of many classes the first ones are named and the rest is grey.

    Returns:
        An SVG element.
    """
    figure, (left, right) = _figure(9, 3.6, columns=2)
    shown, drawn = _shown(predictions), []
    for place, index in enumerate(shown):
        hits, alarms = _cumulated(predictions.has(index), predictions.probs[:, index])
        style = _style(place)
        left.step(alarms / alarms[-1], hits / hits[-1], where="post", **style)
        drawn += right.step(hits / hits[-1], hits / (hits + alarms), where="pre", **style)
    left.plot([0, 1], [0, 1], color="gray", linewidth=0.8)
    left.set(title="ROC", xlabel="1 - specificity", ylabel="sensitivity", aspect="equal")
    right.set(title="Precision-recall", xlabel="recall", ylabel="precision", ylim=(0, 1.02))
    names = [predictions.classes[index] for index in shown]
    if len(names) == 1:
        _legend(right, drawn, names)
    elif names:
        _legend(figure, drawn, names, loc="outside center right")
    return _svg(figure, "ROC and precision-recall curves")


# A class that no record has, or every record, has no curve.
def _shown(predictions: Predictions) -> list[int]:
    positive = predictions.positive_index
    wanted = range(predictions.num_classes) if positive is None else [positive]
    return [index for index in wanted if 0 < predictions.has(index).sum() < len(predictions)]


def _style(place: int) -> dict[str, Any]:
    if place >= MANY:
        return {"color": "0.8", "linewidth": 0.8, "zorder": 1.5}
    return {"color": f"C{place % 10}", "linewidth": 1.4, "linestyle": "-" if place < 10 else "--"}


# Texts are set afterwards: a legend leaves out names that begin with an underscore.
def _legend(owner: Any, drawn: Sequence[Any], names: Sequence[str], **place: Any) -> None:
    title = f"first {MANY} of {len(names)} classes" if len(names) > MANY else None
    legend = owner.legend(
        drawn[:MANY], ["name"] * len(names[:MANY]), fontsize=8, frameon=False, title=title, title_fontsize=8, **place
    )
    for text, name in zip(legend.get_texts(), names, strict=False):
        text.set(text=_short(name), parse_math=False)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


# True and false positives at each distinct score, from the highest.
def _cumulated(truth: Any, scores: Any) -> tuple[Any, Any]:
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(np.append(-scores[order], np.inf)))
    return np.cumsum(truth[order])[last], np.cumsum(~truth[order])[last]


def confusion_figure(table: list[list[int]], classes: list[str]) -> str:
    """Draw a confusion matrix with counts, shaded by the share of each true class.

    Args:
        table: A row per true and a column per decided class.
        classes: The classes in the order of the table.

    Returns:
        An SVG element.
    """
    counts = np.array(table)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.2 + 0.42 * len(classes)
    figure, axis = _figure(side + 0.8, side, columns=1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axis.set(xticks=range(len(classes)), yticks=range(len(classes)), xlabel="decided", ylabel="true")
    names = [_short(name) for name in classes]
    axis.set_xticklabels(
        names, rotation=45 if max(map(len, names)) > 4 else 0, ha="right", fontsize=8, parse_math=False
    )
    axis.set_yticklabels(names, fontsize=8, parse_math=False)
    for (row, column), count in np.ndenumerate(counts):
        if count or len(classes) <= MANY:
            color = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, str(count), ha="center", va="center", color=color, fontsize=8)
    return _svg(figure, "Confusion matrix")


def _figure(width: float, height: float, *, columns: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns)


def _svg(figure: Any, title: str) -> str:
    import matplotlib as mpl

    buffer = io.StringIO()
    # Fixed names inside make the same figure the same text; words stay text.
    with mpl.rc_context({"svg.hashsalt": title, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    prefix = re.sub(r"[^a-z]+", "-", title.lower())
    # Ids must be unique on a page with several figures.
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
