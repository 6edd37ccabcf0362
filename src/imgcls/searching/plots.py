"""Pictures of a search: its course, what mattered, and where the good trials lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imgcls.core.folders import whole
from imgcls.search.parameters import Choice, Fixed, Int, Parameter
from imgcls.search.plain import canonical
from imgcls.search.space import Space
from imgcls.search.trials import Entry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw"]

#: How trials of each kind look in the course.
_MARKS = {"complete": ("o", "#4477aa"), "pruned": ("v", "#999999"), "paused": ("s", "#999999")}

#: Panels of parameters at most; more would be too small to read.
_PANELS = 12

#: Letters of a value on an axis.
_LETTERS = 18


def draw(
    folder: Path,
    entries: Sequence[Entry],
    space: Space,
    *,
    metric: str,
    direction: str,
    importance: Mapping[str, Mapping[str, float]],
) -> list[Path]:
    """Draw a search.

    Args:
        folder: Where the pictures go.
        entries: The trials.
        space: Where they come from.
        metric: What was searched for.
        direction: `maximize` or `minimize`.
        importance: What `importances` gave.

    Returns:
        The files: `history.png`, and as far as there is something to see `importance.png`, `parallel.png` and
        `slices.png`.
    """
    done = [entry for entry in entries if _has_value(entry, "complete")]
    ended = [entry for entry in entries if _has_value(entry, *_MARKS)]
    paths = [path for path, one in space.items() if not isinstance(one, Fixed)][:_PANELS]
    makers: dict[str, Callable[[], Figure | None]] = {
        "history": lambda: _history(entries, metric, direction),
        "importance": lambda: _importance(importance),
        "parallel": lambda: _parallel(
            done, [one for one in ended if one not in done], space, paths, metric=metric, direction=direction
        ),
        "slices": lambda: _slices(ended, space, paths, metric),
    }
    found = []
    for name, make in makers.items():
        figure = make()
        if figure is not None:
            folder.mkdir(parents=True, exist_ok=True)
            with whole(folder / f"{name}.png") as temporary:
                figure.savefig(temporary, format="png", dpi=120)
            found.append(folder / f"{name}.png")
    return found


def _has_value(entry: Entry, *states: str) -> bool:
    outcome = entry.outcome
    return outcome is not None and outcome.valued and outcome.state in states and math.isfinite(outcome.values[0])


def _value(entry: Entry) -> float:
    assert entry.outcome is not None
    return entry.outcome.values[0]


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _history(entries: Sequence[Entry], metric: str, direction: str) -> Figure:
    figure = _figure(7, 4)
    axes = figure.subplots()
    for state, (mark, colour) in _MARKS.items():
        some = [entry for entry in entries if _has_value(entry, state)]
        if some:
            axes.plot([one.trial.number for one in some], list(map(_value, some)), mark, color=colour, label=state)
    done = [entry for entry in entries if _has_value(entry, "complete") and entry.outcome and entry.outcome.allowed]
    if done:
        better = np.maximum if direction == "maximize" else np.minimum
        numbers = [entry.trial.number for entry in done]
        axes.step(numbers, better.accumulate(list(map(_value, done))), where="post", color="#cc6677", label="best")
    failed = [entry.trial.number for entry in entries if entry.outcome is not None and not entry.outcome.valued]
    for place, number in enumerate(failed):
        axes.axvline(number, color="#dddddd", zorder=0, label=None if place else "failed")
    axes.set(xlabel="trial", ylabel=metric, title="Course of the search")
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    axes.locator_params(axis="x", integer=True)
    return figure


def _importance(importance: Mapping[str, Mapping[str, float]]) -> Figure | None:
    if not importance:
        return None
    paths = sorted(
        {path for shares in importance.values() for path in shares},
        key=lambda path: max(shares.get(path, 0.0) for shares in importance.values()),
    )
    figure = _figure(7, 1.2 + 0.3 * len(paths) * len(importance))
    axes = figure.subplots()
    height = 0.8 / len(importance)
    for turn, (method, shares) in enumerate(importance.items()):
        places = np.arange(len(paths)) + turn * height
        axes.barh(places, [shares.get(path, 0.0) for path in paths], height=height, label=method)
    axes.set_yticks(np.arange(len(paths)) + 0.4 - height / 2, paths)
    axes.set(xlabel="share", title="What mattered, by method")
    axes.legend(loc="lower right")
    return figure


def _parallel(
    entries: Sequence[Entry],
    unfinished: Sequence[Entry],
    space: Space,
    paths: Sequence[str],
    *,
    metric: str,
    direction: str,
) -> Figure | None:
    if len(entries) < 2 or not paths:
        return None
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    values = np.array(list(map(_value, entries)))
    scale = ScalarMappable(
        Normalize(values.min(), values.max()), colormaps["viridis" if direction == "maximize" else "viridis_r"]
    )
    figure = _figure(max(6.0, 1.6 * len(paths) + 1.5), 4.5)
    axes = figure.subplots()
    for entry in unfinished:  # which have no value to compare
        heights = [_height(space[path], entry.trial.params.get(path)) for path in paths]
        axes.plot(range(len(paths)), heights, color=_MARKS["pruned"][1], linewidth=0.7, alpha=0.4)
    order = np.argsort(values if direction == "maximize" else -values)  # the best ones on top
    for place in order:
        heights = [_height(space[path], entries[place].trial.params.get(path)) for path in paths]
        axes.plot(range(len(paths)), heights, color=scale.to_rgba(values[place]), alpha=0.7)
    for place, path in enumerate(paths):
        axes.axvline(place, color="#bbbbbb", linewidth=0.8, zorder=0)
        for height, text in _ticks(space[path]):
            box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1}
            axes.annotate(text, (place, height), fontsize=7, xytext=(3, 0), textcoords="offset points", bbox=box)
    axes.set_xticks(range(len(paths)), paths, rotation=20, ha="right", fontsize=8)
    axes.set_yticks([])
    axes.set(xlim=(-0.2, len(paths) - 0.4), title="Trials by their parameters (grey: pruned; below: not active)")
    figure.colorbar(scale, ax=axes, label=metric)
    return figure


# From 0 to 1 along the axis of a parameter, below it where the parameter is not active.
def _height(one: Parameter, value: Any) -> float:
    if value is None and not one.holds(None):
        return -0.1
    if isinstance(one, Choice):
        texts = [canonical(known) for known in one.values]
        return texts.index(canonical(value)) / max(len(texts) - 1, 1) if canonical(value) in texts else -0.1
    low, high, value = getattr(one, "low"), getattr(one, "high"), float(value)  # noqa: B009 (of Float and Int)
    if getattr(one, "log", False):
        low, high, value = math.log(low), math.log(high), math.log(value)
    return float(np.clip((value - low) / (high - low), 0.0, 1.0))


def _ticks(one: Parameter) -> list[tuple[float, str]]:
    if isinstance(one, Choice):
        return [(_height(one, value), text) for value, text in zip(one.values, _texts(one.values), strict=True)]
    ends = [getattr(one, "low"), getattr(one, "high")]  # noqa: B009
    return [(_height(one, value), f"{value:g}") for value in ends]


# Specs of one name are told apart by the options in which they differ.
def _texts(values: Sequence[Any]) -> list[str]:
    specs = [value for value in values if isinstance(value, Mapping)]
    names = [value.get("name") for value in specs]
    keys = dict.fromkeys(key for value in specs for key in value if len({canonical(one.get(key)) for one in specs}) > 1)
    if len({canonical(name) for name in names}) == len(names):
        return list(map(_short, values))
    return [
        _short(", ".join(f"{key} {value.get(key)}" for key in keys)) if value in specs else _short(value)
        for value in values
    ]


def _short(value: Any) -> str:
    value = value.get("name", value) if isinstance(value, Mapping) else value
    text = value if isinstance(value, str) else canonical(value)
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1]}…"


def _slices(entries: Sequence[Entry], space: Space, paths: Sequence[str], metric: str) -> Figure | None:
    shown = [path for path in paths if any(path in entry.trial.params for entry in entries)]
    if not shown:
        return None
    columns = min(4, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = _figure(3.0 * columns + 0.5, 2.8 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for place, panel in enumerate(panels.flat):
        if place < len(shown):
            _slice(panel, entries, shown[place], space[shown[place]])
        else:
            panel.set_visible(False)
    if len({entry.outcome.state for entry in entries if entry.outcome is not None}) > 1:
        panels[0, 0].legend(fontsize=7)
    for row in panels:
        row[0].set_ylabel(metric)
    return figure


def _slice(axes: Axes, entries: Sequence[Entry], path: str, one: Parameter) -> None:
    for state, (mark, colour) in _MARKS.items():
        some = [entry for entry in entries if _has_value(entry, state) and path in entry.trial.params]
        given = [entry.trial.params[path] for entry in some]
        places = [_place(one, value) for value in given] if isinstance(one, Choice) else given
        if some:
            axes.scatter(places, list(map(_value, some)), alpha=0.7, s=18, marker=mark, color=colour, label=state)
    _scale(axes, path, one)


def _scale(axes: Axes, path: str, one: Parameter) -> None:
    axes.set_title(path, fontsize=9)
    if isinstance(one, Choice):
        texts = _texts(one.values)
        axes.set_xticks(range(len(texts)), texts, rotation=20, ha="right", fontsize=7)
        axes.set_xlim(-0.5, len(texts) - 0.5)
    elif getattr(one, "log", False):
        axes.set_xscale("log")
    elif isinstance(one, Int):
        axes.locator_params(axis="x", integer=True)


def _place(one: Choice, value: Any) -> float:
    texts = [canonical(known) for known in one.values]
    return float(texts.index(canonical(value))) if canonical(value) in texts else -0.4
