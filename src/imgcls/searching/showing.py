"""What a search found, in words, from its folder alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from imgcls.core.errors import RunError
from imgcls.core.folders import read_json
from imgcls.search.ledger import load
from imgcls.search.trials import Entry
from imgcls.searching.optimism import Optimism
from imgcls.searching.results import rows

__all__ = ["shown"]

#: Trials in the table.
_BEST = 15


def shown(folder: Path) -> str:
    """Say what a search found, also while it is under way.

    Args:
        folder: Its folder.

    Returns:
        The best trials, the states of all, how much the best flatters, what mattered.

    Raises:
        RunError: if there is no search.
    """
    entries = [entry for _, entry in sorted(load(folder / "study").items())]
    if not entries:
        raise RunError(f"'folder' must hold a search with trials, got none in {str(folder)!r}")
    return "\n".join(_lines(folder, entries))


def _lines(folder: Path, entries: list[Entry]) -> Iterator[str]:
    import pandas as pd

    direction = read_json(folder / "study" / "study.json")["directions"][0]
    table = pd.DataFrame(rows(entries)).drop(columns=["reason"])
    value = "value" if "value" in table else "value_0"
    allowed = [entry.outcome is not None and entry.outcome.allowed for entry in entries]
    done = table[(table["state"] == "complete") & pd.Series(allowed)]
    best = done.sort_values(value, ascending=direction == "minimize", kind="stable")
    yield best.head(_BEST).to_string(index=False) if len(best) else "No trial is complete."
    yield ", ".join(f"{count} {state}" for state, count in table["state"].value_counts().items())
    if (folder / "search.json").exists():
        yield from _facts(folder)
    if (folder / "study" / "optuna.db").exists():
        yield f"To look at it: optuna-dashboard sqlite:///{folder / 'study' / 'optuna.db'}"


def _facts(folder: Path) -> Iterator[str]:
    facts = read_json(folder / "search.json")
    if facts["optimism"] is not None:
        yield f"Best {facts['monitor']}: {Optimism(**facts['optimism'])}"
    if facts["nested"] is not None:
        yield "Nested, on outer folds: {value:.4f} (95 % interval {low:.4f} to {high:.4f})".format(**facts["nested"])
    for method, shares in facts["importance"].items():
        ordered = sorted(shares.items(), key=lambda one: -one[1])
        yield f"What mattered ({method}): " + ", ".join(f"{path} {share:.2f}" for path, share in ordered)
    yield f"Best configuration: {folder / 'best.yaml'}; pictures: {folder / 'plots'}"
