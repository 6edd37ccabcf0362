"""One page about several runs: what each reached, and whether they differ on the records that all of them judged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from imgcls.core.folders import write_text
from imgcls.evaluation.metrics import METRICS
from imgcls.report.charts import draw_forest
from imgcls.report.curves import roc, shown_classes
from imgcls.report.drawing import Drawing
from imgcls.report.figures import draw_roc
from imgcls.report.gallery import main_metric
from imgcls.report.material import Material
from imgcls.report.names import nice
from imgcls.report.page import environment
from imgcls.report.summaries import Forest
from imgcls.report.tables import cell
from imgcls.report.words import cautions

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["write_comparison"]

#: A difference with a p below this is called clear.
_CHANCE = 0.05


def write_comparison(path: Path, table: pd.DataFrame, pairs: pd.DataFrame, runs: Mapping[str, Material]) -> Path:
    """Write the page.

    Args:
        path: The HTML file.
        table: `Comparison.table`: a row a run and metric.
        pairs: `Comparison.pairs`: a row a pair of runs and test.
        runs: The runs by name.

    Returns:
        The file.
    """
    metric = _metric(runs)
    shown = {
        "runs": runs,
        "verdict": list(_verdict(pairs, metric)),
        "rows": _rows(table, list(runs)),
        "pairs": [_pair(row) for row in pairs.to_dict("records")],
        "figures": [one for one in (_roc(runs), _differences(pairs, metric)) if one is not None],
        "cautions": {name: cautions(one) for name, one in runs.items()},
        "differing": _differing(runs),
    }
    write_text(path, environment().get_template("versus.html").render(**shown))
    return path


def _metric(runs: Mapping[str, Material]) -> str:
    final = next(iter(runs.values())).final
    return "roc_auc" if final is None else main_metric(final)


# A pair may have several tests of a metric; the bootstrap is there for each.
def _verdict(pairs: pd.DataFrame, metric: str) -> Iterator[str]:
    rows = pairs[(pairs["metric"] == metric) & (pairs["test"] == "bootstrap")]
    for row in rows.to_dict("records"):
        gap, low, high = (float(row[name]) for name in ("difference", "low", "high"))
        better = gap > 0 if METRICS[metric].direction == "max" else gap < 0
        winner, loser = (row["second"], row["first"]) if better else (row["first"], row["second"])
        told = f"{row['second']} - {row['first']}: {gap:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}"
        told += "" if math.isnan(row["p_holm"]) else f", p {_related(row['p_holm'])}"
        told += " corrected for the number of pairs" if len(rows) > 1 else ""
        if not row["p_holm"] < _CHANCE:  # where nothing is known, nothing is clear
            yield f"{row['first']} and {row['second']} do not clearly differ in {nice(metric)} ({told})."
        else:
            yield f"{winner} is better than {loser} in {nice(metric)} ({told})."


# Each run decides by its own rule, so rules stand in the cells.
def _rows(table: pd.DataFrame, names: list[str]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, str]] = {}
    for row in table.to_dict("records"):
        rule = f" at {row['threshold']}" if row["threshold"] else ""
        found.setdefault(str(row["metric"]), {})[str(row["run"])] = cell(row) + rule
    return [{"metric": nice(metric), "cells": [told.get(name, "") for name in names]} for metric, told in found.items()]


def _pair(row: Mapping[Any, Any]) -> dict[str, str]:
    numbers = {name: float(row[name]) for name in ("difference", "low", "high", "p", "p_holm")}
    known = not math.isnan(numbers["low"])
    return {
        "pair": f"{row['second']} - {row['first']}",
        "metric": nice(str(row["metric"])),
        "test": str(row["test"]),
        "difference": f"{numbers['difference']:+.4f}",
        "ends": f"{numbers['low']:+.4f} to {numbers['high']:+.4f}" if known else "none",
        **{name: "" if math.isnan(numbers[name]) else _chance(numbers[name]) for name in ("p", "p_holm")},
        "n": f"{row['n']} of {row['groups']} groups",
    }


def _chance(value: float) -> str:
    return _related(value).removeprefix("= ")


def _related(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _roc(runs: Mapping[str, Material]) -> Drawing | None:
    curves = []
    for name, material in runs.items():
        final = material.final
        if final is None or final.positive is None or not shown_classes(final):
            return None
        curves.append(attrs.evolve(roc(final, resamples=0), class_name=name))  # named by the run, which differs
    return draw_roc(curves)


def _differences(pairs: pd.DataFrame, metric: str) -> Drawing | None:
    rows = pairs[(pairs["metric"] == metric) & (pairs["test"] == "bootstrap")]
    if rows.empty:
        return None
    found = Forest(
        metric=f"difference in {nice(metric)}",
        names=tuple(f"{row['second']} - {row['first']}" for row in rows.to_dict("records")),
        values=rows["difference"].to_numpy(dtype=np.float64),
        low=rows["low"].to_numpy(dtype=np.float64),
        high=rows["high"].to_numpy(dtype=np.float64),
        counts=rows["n"].to_numpy(dtype=np.int64),
    )
    return draw_forest(found, reference=0.0)


# Where the configurations differ, path by path.
def _differing(runs: Mapping[str, Material]) -> list[tuple[str, list[str]]]:
    flat = [dict(_leaves(material.options)) for material in runs.values()]
    paths = dict.fromkeys(path for one in flat for path in one)
    told = [(path, [str(one.get(path, "")) for one in flat]) for path in paths if path != "out"]
    return [(path, values) for path, values in told if len(set(values)) > 1]


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield path, value
        return
    for key, inner in items:
        yield from _leaves(inner, f"{path}.{key}" if path else str(key))
