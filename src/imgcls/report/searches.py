"""The search that a run belongs to, where there was one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import attrs

from imgcls.core.errors import ImgclsError
from imgcls.core.folders import read_json

__all__ = ["SearchSummary", "search_of"]

#: Trials that are shown, and how far above a run its search is looked for.
_TRIALS, _LEVELS = 10, 3

#: The pictures that a search draws, and what they show.
_PLOTS = {
    "history": "The value of each trial, in the order in which they ran, and the best so far",
    "importance": "How much of the differences between trials each parameter explains",
    "parallel": "The parameters of each trial, coloured by its value",
    "slices": "The value of each trial, over each parameter",
}


@attrs.frozen(kw_only=True)
class SearchSummary:
    """What a search found.

    Attributes:
        folder: Its folder.
        facts: What its `search.json` says: monitor, direction, best, optimism, importance, states.
        columns: The heads of the table of its best trials.
        rows: Their cells.
        plots: The pictures that the search drew, by what they show.
    """

    folder: Path
    facts: dict[str, Any]
    columns: list[str]
    rows: list[list[str]]
    plots: dict[str, Path]


def search_of(folder: Path) -> SearchSummary | None:
    """Find the search that a run belongs to.

    Args:
        folder: The run's folder.

    Returns:
        The summary; None where there was no search, or its files cannot be read.
    """
    whole = folder.resolve()
    for place in [whole, *whole.parents][: _LEVELS + 1]:
        if (place / "search.json").exists() and (place / "trials.csv").exists():
            try:
                return _read(place)
            except (OSError, ValueError, KeyError, TypeError, ImgclsError):
                return None
    return None


def _read(place: Path) -> SearchSummary:
    import pandas as pd

    facts = read_json(place / "search.json")
    table = pd.read_csv(place / "trials.csv")
    value = "value" if "value" in table else "value_0"
    table = table.drop(columns=["reason", "std", "folds", "epochs", "seconds"], errors="ignore")
    table = table.sort_values(value, ascending=facts["direction"] == "minimize", na_position="last").head(_TRIALS)
    rows = [[_text(cell) for cell in row] for row in table.itertuples(index=False)]
    plots = {text: place / "plots" / f"{name}.png" for name, text in _PLOTS.items()}
    return SearchSummary(
        folder=place,
        facts=facts,
        columns=[str(name) for name in table.columns],
        rows=rows,
        plots={text: file for text, file in plots.items() if file.is_file()},
    )


def _text(cell: Any) -> str:
    if isinstance(cell, float):
        return "" if math.isnan(cell) else f"{cell:.5g}"
    return str(cell)
