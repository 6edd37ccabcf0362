"""Predictions that are evaluated again: by the values of columns, by group of images, on records of another set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from imgcls.core.errors import DataError
from imgcls.core.folders import write_json, write_text
from imgcls.evaluation.aggregation import Aggregation, aggregate
from imgcls.evaluation.breakdown import by_value, worst
from imgcls.evaluation.decisions import confusion
from imgcls.evaluation.evaluate import evaluate
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.results import doubts
from imgcls.evaluation.thresholds import Threshold, fit_thresholds

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Evaluation", "reevaluate"]

#: What the console shows of each level.
_SHOWN = ("roc_auc", "average_precision", "accuracy", "balanced_accuracy", "f1_macro", "sensitivity", "specificity")

_UNFITTED = "groups are decided without fitted thresholds, since no validation records with groups are at hand"


@attrs.frozen(kw_only=True, eq=False)
class Evaluation:
    """Numbers of predictions.

    Attributes:
        table: As `evaluate` returns it, with rows of level "group" and of the values of columns behind.
        worst: The worst value of each column, by metric, as `worst` finds it.
        facts: What else there is to say: split, records, groups, classes, confusion, decision, aggregation, warnings.
    """

    table: pd.DataFrame
    worst: Mapping[str, Sequence[Mapping[str, Any]]]
    facts: Mapping[str, Any]

    def save(self, folder: Path | str) -> Path:
        """Write `metrics.csv` and `evaluation.json`.

        Args:
            folder: Where to.

        Returns:
            The folder.
        """
        where = Path(folder)
        where.mkdir(parents=True, exist_ok=True)
        write_text(where / "metrics.csv", self.table.to_csv(index=False))
        write_json(where / "evaluation.json", {"schema": 1, **self.facts, "worst": dict(self.worst)})
        return where

    def __str__(self) -> str:
        lines = [f"{self.facts['records']} records, decided by {self.facts['decision'] or 'the most probable class'}"]
        table = self.table[(self.table["class"] == "") & self.table["metric"].isin(_SHOWN)]
        table = table[table["fold"].isin(["all", "mean"]) & table["threshold"].isin(["", self.facts["decision"]])]
        for (level, group), rows in table.groupby(["level", "group"], sort=False):
            lines += ["", f"by {level}{', ' + str(group) if group else ''} (n = {rows['n'].iloc[0]})"]
            lines += [_line(row) for row in rows.to_dict("records")]
        for column, found in self.worst.items():
            names = ", ".join(f"{row['metric']} {row['value']:.3f} in {row['group']}" for row in found)
            lines += ["", f"Worst of {column}: {names or 'no value fares worse than the others'}"]
        return "\n".join([*lines, *(f"Warning: {text}" for text in self.facts["warnings"])])


def _line(row: Mapping[Any, Any]) -> str:
    name = str(row["metric"]).replace("_", " ") + (f" at {row['threshold']}" if row["threshold"] else "")
    if math.isnan(row["value"]):
        return f"  {name:42} not defined: {row['note']}"
    ends = f"{row['low']:.3f} to {row['high']:.3f}" if row["interval"] else row["note"]
    return f"  {name:42} {row['value']:.3f}  ({ends})"


def reevaluate(
    predictions: Predictions,
    thresholds: Sequence[Threshold] = (),
    *,
    validated: Predictions | None = None,
    decision: str = "",
    groups: str | Sequence[str] = (),
    aggregation: Aggregation | None = None,
    **choices: Any,
) -> Evaluation:
    """Evaluate predictions, and what they say of parts and groups.

    Args:
        predictions: N records of one split.
        thresholds: Of every model that made a prediction.
        validated: Validation predictions, on which thresholds of aggregated scores are fitted; without them, or their
            groups, groups are decided by the most probable class, and a warning says so.
        decision: The rule that decides.
        groups: Columns for whose values metrics are wanted.
        aggregation: How images of a group become its prediction, for rows of level "group"; None leaves them out.
        **choices: What `evaluate` takes besides.

    Returns:
        The numbers.

    Raises:
        ConfigError: if a column or an option is unknown.
        DataError: if there are no groups to aggregate, or each has one image.
    """
    import pandas as pd

    columns = [groups] if isinstance(groups, str) else list(groups)
    if validated is not None and validated.groups is None:
        validated = None
    tables = [evaluate(predictions, thresholds, **choices)]
    if aggregation is not None:
        tables.append(_by_group(predictions, validated, thresholds, aggregation, choices))
    parts = {column: by_value(predictions, column, thresholds, **choices) for column in columns}
    table = pd.concat([*tables, *parts.values()], ignore_index=True)
    facts = {
        "split": predictions.split,
        "records": len(set(predictions.ids.tolist())),
        "groups": None if predictions.groups is None else len(set(predictions.groups.tolist())),
        "classes": list(predictions.classes),
        "positive": predictions.positive,
        "multilabel": predictions.multilabel,
        "decision": decision,
        "aggregation": aggregation,
        "confusion": {decision or "argmax": confusion(predictions, thresholds, decision).tolist()},
        "warnings": doubts(table) + ([_UNFITTED] if aggregation and thresholds and validated is None else []),
    }
    found = {column: worst(part, threshold=decision) for column, part in parts.items()}
    return Evaluation(table=table, worst=found, facts=facts)


# Scores of groups are of another scale than those of images, so they have thresholds of their own.
def _by_group(
    predictions: Predictions,
    validated: Predictions | None,
    thresholds: Sequence[Threshold],
    aggregation: Aggregation,
    choices: Mapping[str, Any],
) -> pd.DataFrame:
    whole = aggregate(predictions, aggregation)
    if len(whole) == len(predictions):
        raise DataError("'predictions' must have groups of several images to be aggregated, got one image in each")
    rules = list(dict.fromkeys(threshold.rule for threshold in thresholds))
    cuts: list[Threshold] = []
    if validated is not None and rules:
        fitted = aggregate(validated, aggregation)
        for model in dict.fromkeys(threshold.model for threshold in thresholds):
            own = fitted.mean_of_repeats() if model == "mean" else fitted.take(fitted.fold == int(model))
            cuts += fit_thresholds(own, model=model, rules=rules, prior=choices.get("prior"))
    table = evaluate(whole, cuts, **choices)
    return table[table["fold"].isin(["all", "mean"])].assign(level="group")
