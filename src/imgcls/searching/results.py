"""What a search leaves: tables, the best configuration, how much it flatters, pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from imgcls.core import config
from imgcls.core.folders import write_json, write_text
from imgcls.search.importance import importances
from imgcls.search.space import Space
from imgcls.search.table import best, table
from imgcls.search.trials import Entry
from imgcls.searching.conducting import folder_of
from imgcls.searching.nesting import Estimate
from imgcls.searching.optimism import Optimism, over_folds, over_records
from imgcls.searching.plots import draw

__all__ = ["optimism_of", "rows", "summary", "write_results"]

#: Trials whose records are resampled at most, the best ones.
_RESAMPLED = 50


def rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Lay out the trials: what `search.table.table` has, and what is known of each training.

    Args:
        entries: The trials.

    Returns:
        Rows by number, of trial 0 with what the Trainer has outside of the space, with `std` of the value over folds,
        `low` and `high` of a 95 % t interval of its mean (a little narrow, since folds share training records),
        `folds`, `epochs` and `seconds` before `reason`.
    """
    found = []
    for row, entry in zip(table(entries), sorted(entries, key=lambda one: one.trial.number), strict=True):
        facts = entry.outcome.facts if entry.outcome else {}
        values = _numbers(facts.get("values", []))
        reason = row.pop("reason")
        own = facts.get("own", {})
        row |= {path: value for path, value in own.items() if path in row and row[path] is None}
        more = {
            "std": _std(values),
            **_interval(values),
            "folds": len(values),
            "epochs": facts.get("epochs"),
            "seconds": facts.get("seconds"),
        }
        found.append({**row, **more, "reason": reason})
    return found


def summary(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Lay out what trials reached, by every metric of the validation records.

    Args:
        entries: The trials.

    Returns:
        A row for each trial with values: `number`, `state`, parameters, and of each metric `<name>_mean` and
        `<name>_std` over the folds that it trained, and what was measured of its model.
    """
    paths = list(dict.fromkeys(path for entry in entries for path in entry.trial.params))
    found = []
    for entry in entries:
        if entry.outcome is None or not entry.outcome.valued:
            continue
        facts = entry.outcome.facts
        metrics = facts.get("metrics", [])
        names = dict.fromkeys(name for fold in metrics for name in fold)
        row: dict[str, Any] = {"number": entry.trial.number, "state": entry.outcome.state}
        params = {**facts.get("own", {}), **entry.trial.params}
        row |= {path: params.get(path) for path in paths}
        for name in names:
            values = _numbers([fold.get(name) for fold in metrics])
            row |= {f"{name}_mean": float(np.mean(values)) if values else None, f"{name}_std": _std(values)}
        found.append({**row, **facts.get("extras", {})})
    return found


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def _interval(values: Sequence[float]) -> dict[str, float | None]:
    if len(values) < 2:
        return {"low": None, "high": None}
    from scipy.stats import t

    reach = float(t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    mean = float(np.mean(values))
    return {"low": mean - reach, "high": mean + reach}


def _std(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def optimism_of(entries: Sequence[Entry], out: Path, *, monitor: str, direction: str, seed: int) -> Optimism | None:
    """Estimate how much the best trial flatters.

    Args:
        entries: The trials.
        out: The folder of the search.
        monitor: The metric.
        direction: `maximize` or `minimize`.
        seed: Of resamples.

    Returns:
        The estimate, or None where there is none.
    """
    done = [entry for entry in entries if best([entry], direction=direction) is not None]
    values = [entry.outcome.facts.get("values", []) for entry in done if entry.outcome]
    if not values or len({len(one) for one in values}) > 1:
        return None
    if len(values[0]) > 1:
        return over_folds(np.array(values, dtype=np.float64), direction=direction)
    sign = -1.0 if direction == "maximize" else 1.0
    done.sort(key=lambda entry: sign * (entry.outcome.values[0] if entry.outcome else 0.0))
    paths = [folder_of(out, entry.trial) / "fold_0" / "predictions_val.npz" for entry in done[:_RESAMPLED]]
    there = [path for path in paths if path.exists()]
    return over_records(there, monitor=monitor, direction=direction, seed=seed)


def write_results(
    out: Path,
    entries: Sequence[Entry],
    space: Space,
    *,
    monitor: str,
    direction: str,
    optimism: Optimism | None,
    estimate: Estimate | None,
    configuration: dict[str, Any] | None,
) -> None:
    """Write the files that people read.

    Args:
        out: The folder of the search.
        entries: The trials.
        space: Where they come from.
        monitor: The metric.
        direction: `maximize` or `minimize`.
        optimism: How much the best value flatters.
        estimate: What the outer folds said, or None.
        configuration: That of the best Trainer, or None.
    """
    import pandas as pd

    write_text(out / "trials.csv", pd.DataFrame(rows(entries)).to_csv(index=False))
    write_text(out / "hparams_summary.csv", pd.DataFrame(summary(entries)).to_csv(index=False))
    write_text(out / "space.yaml", config.to_yaml(space.to_dict()))
    if configuration is not None:
        write_text(out / "best.yaml", config.to_yaml(configuration))
    shares = importances(entries, space, direction=direction)
    winner = best(entries, direction=direction)
    facts = {
        "monitor": monitor,
        "direction": direction,
        "best": None if winner is None else winner.trial.number,
        "optimism": None if optimism is None else attrs.asdict(optimism),
        "nested": None if estimate is None else attrs.asdict(estimate),
        "importance": shares,
        "states": _counts(entries),
    }
    write_json(out / "search.json", facts)
    draw(out / "plots", entries, space, metric=monitor, direction=direction, importance=shares)


def _counts(entries: Sequence[Entry]) -> dict[str, int]:
    states = [entry.outcome.state if entry.outcome else "unfinished" for entry in entries]
    return {state: states.count(state) for state in dict.fromkeys(states)}
