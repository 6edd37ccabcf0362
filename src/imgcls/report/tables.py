"""The numbers of a run as rows of a page: what matters most first, all of them behind."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from imgcls.report.material import Material
from imgcls.report.names import nice

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["baseline_rows", "cell", "glance", "label_rows", "row_of", "rows_of_all", "rows_of_classes", "rows_of_folds"]

#: How a part is called beside its numbers: validation records always chose the checkpoint.
_LABELS = {"test": "test", "val": "val (used for selection)"}

#: What is shown first: of two classes, of several labels, of more than two classes; with whether a threshold decides.
_FIRST: Mapping[str, tuple[tuple[str, bool], ...]] = {
    "two": (
        *(("roc_auc", False), ("average_precision", False)),
        *((name, True) for name in ("sensitivity", "specificity", "ppv", "npv", "balanced_accuracy", "f1", "mcc")),
        *(("accuracy", True), ("brier", False), ("ece", False)),
    ),
    "labels": (
        *(("average_precision", False), ("roc_auc", False)),
        *((name, True) for name in ("f1_macro", "f1_micro", "exact_match", "accuracy")),
    ),
    "many": (
        *((name, True) for name in ("accuracy", "balanced_accuracy", "f1_macro", "mcc", "kappa")),
        *(("roc_auc", False), ("average_precision", False), ("loss", False), ("ece", False)),
    ),
}

#: What the table of several labels shows of each, whatever the threshold and at the one that decides.
_FREE, _DECIDED = ("roc_auc", "average_precision"), ("sensitivity", "specificity", "ppv", "npv", "f1")


def cell(row: Mapping[Any, Any]) -> str:
    """Write a value with its interval.

    Args:
        row: With value, low and high.

    Returns:
        Such as "0.912 (0.880 to 0.941)"; "n/a" for none.
    """
    value, low, high = (float(row[name]) for name in ("value", "low", "high"))
    if math.isnan(value):
        return "n/a"
    return f"{value:.3f}" if math.isnan(low) else f"{value:.3f} ({low:.3f} to {high:.3f})"


def glance(material: Material) -> tuple[list[str], list[dict[str, Any]]]:
    """Lay out what matters most, beside the same of validation records and of groups.

    Args:
        material: The run.

    Returns:
        The heads of the columns, and rows with `metric`, the `rule` that decides, and `cells`; first those that no rule
        decides.
    """
    final, table, reported = material.final, material.metrics, material.reported
    if final is None or table is None or reported is None:
        return [], []
    selected = "validation (used for selection)"
    columns = {selected if final.split == "val" else "test": reported}
    if final.split == "test":
        columns[selected] = _whole(table, "val", "image")
    columns[f"{final.split}, by group"] = _whole(table, final.split, "group")
    columns = {name: part for name, part in columns.items() if len(part)}
    kind = "two" if final.positive else "labels" if final.multilabel else "many"
    rows = []
    for metric, decided in _FIRST[kind]:
        rule = material.decision if decided else ""
        found = [_find(part, metric, rule) for part in columns.values()]
        if found[0] is not None:
            cells = ["" if one is None else cell(one) for one in found]
            rows.append({"metric": nice(metric), "rule": rule, "cells": cells})
    return list(columns), sorted(rows, key=lambda row: bool(row["rule"]))


def _whole(table: pd.DataFrame, split: str, level: str) -> pd.DataFrame:
    rows = table[(table["split"] == split) & (table["level"] == level) & (table["group"] == "")]
    return rows[rows["fold"] == ("mean" if "mean" in set(rows["fold"]) else "all")]


def _find(table: pd.DataFrame, metric: str, rule: str) -> dict[Any, Any] | None:
    rows = table[(table["metric"] == metric) & (table["threshold"] == rule) & (table["class"] == "")]
    return None if rows.empty else rows.to_dict("records")[0]


def baseline_rows(material: Material) -> list[dict[str, Any]]:
    """Lay out what is reached without the model.

    Args:
        material: The run.

    Returns:
        Rows with `name`, `metric`, `reached`, `model` and `difference`.
    """
    if material.baselines is None:
        return []
    return [
        {
            "name": row["baseline"],
            "metric": nice(str(row["metric"])),
            "reached": cell(row),
            "model": f"{row['model']:.3f}",
            "difference": cell(
                {key: row[f"difference{end}"] for key, end in (("value", ""), ("low", "_low"), ("high", "_high"))}
            ),
        }
        for row in material.baselines.to_dict("records")
    ]


def row_of(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Write a row of metrics in words.

    Args:
        row: Of `metrics`.

    Returns:
        The same with text for numbers.
    """
    numbers = {name: "n/a" if row[name] != row[name] else f"{row[name]:.3f}" for name in ("value", "low", "high")}
    words = {"metric": str(row["metric"]).replace("_", " "), "split": _LABELS.get(row["split"], row["split"])}
    ends = f"{numbers['low']} to {numbers['high']}" if numbers["low"] != "n/a" else "none"
    return {**row, **numbers, **words, "ends": ends}


def rows_of_all(material: Material) -> list[dict[str, Any]]:
    """List every number of all folds together, of all classes.

    Args:
        material: The run.

    Returns:
        Rows, test before validation, images before groups.
    """
    table = material.metrics
    if table is None:
        return []
    chosen = table[(table["class"] == "") & table["fold"].isin(["all", "mean"])]
    chosen = chosen.sort_values(["split", "level"], kind="stable", key=_image_first)
    return [row_of(row) for row in chosen.to_dict("records")]


def _image_first(column: pd.Series) -> pd.Series:
    return column != "image" if column.name == "level" else column


def rows_of_folds(material: Material, *, repeats: bool) -> list[dict[str, Any]]:
    """List the main numbers of single folds, or of single repeats.

    Args:
        material: The run.
        repeats: Whether repeats are wanted.

    Returns:
        Rows.
    """
    table = material.of_images
    if table is None:
        return []
    wanted = {str(material.facts.get("monitor", "")), "accuracy", "balanced_accuracy", "roc_auc"}
    table = table[(table["class"] == "") & (table["threshold"] == "") & table["metric"].isin(wanted)]
    table = table[~table["fold"].isin(["all", "mean"])]
    return [row_of(row) for row in table[table["fold"].str.startswith("repeat") == repeats].to_dict("records")]


def rows_of_classes(material: Material) -> list[dict[str, Any]]:
    """List what is told of each class.

    Args:
        material: The run.

    Returns:
        Rows; of several labels what the table of the labels does not tell.
    """
    table, final = material.reported, material.final
    if table is None or final is None:
        return []
    if final.multilabel:
        table = table[~table["metric"].isin([*_FREE, *_DECIDED])]
    return [row_of(row) for row in table[table["class"] != ""].to_dict("records")]


def label_rows(material: Material) -> list[dict[str, Any]]:
    """Lay out several labels: a row for each, with the metrics that matter.

    Args:
        material: The run.

    Returns:
        Rows with `class`, `n` and `cells` (name and text); nothing where records have one label.
    """
    final = material.final
    if material.reported is None or final is None or not final.multilabel:
        return []
    return list(_labels(material, final.classes))


def _labels(material: Material, classes: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    wanted = [("", name) for name in _FREE] + [(material.decision, name) for name in _DECIDED]
    for name in classes:
        found = {metric: material.value(metric, threshold=rule, of=name) for rule, metric in wanted}
        known = {metric: row for metric, row in found.items() if row is not None}
        cells = [(metric.replace("_", " "), cell(row)) for metric, row in known.items()]
        yield {"class": name, "n": next((row["n"] for row in known.values()), ""), "cells": cells}
