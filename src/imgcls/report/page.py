"""One self-contained HTML page for the person who is responsible for the model."""

from __future__ import annotations

import base64
import math
from collections.abc import Hashable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from imgcls.core.folders import write_text
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.thresholds import Threshold
from imgcls.report.figures import MANY, confusion_figure, curves_figure, learning_figure

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Content", "write_page"]

_PARTS = {"test": "test", "val": "validation"}

#: How a part is called beside its numbers: validation records always choose the checkpoint.
_LABELS = {"test": "test", "val": "val (used for selection)"}

#: How far the share of a class in validation may be from that in the set without a word.
_UNLIKE = 0.1


@attrs.frozen(kw_only=True, eq=False)
class Content:
    """What the page shows.

    Attributes:
        name: The run's name.
        facts: What `run.json` says.
        metrics: The table of metrics.
        history: The epochs of all folds.
        predictions: The final predictions, of test or validation records.
        thresholds: All thresholds.
        decision: The rule that decides; empty takes the most probable class.
        evaluation: What `evaluation.json` says.
        balance: Counts of each part of each fold.
        environment: What `environment.json` says.
        config: The configuration as YAML.
        pictures: Files and captions of explained images.
        notes: Sentences that give cause to doubt the numbers.
    """

    name: str
    facts: Mapping[str, Any]
    metrics: pd.DataFrame
    history: pd.DataFrame
    predictions: Predictions
    thresholds: Sequence[Threshold]
    decision: str
    evaluation: Mapping[str, Any]
    balance: Sequence[Mapping[str, Any]]
    environment: Mapping[str, Any]
    config: str
    pictures: Sequence[tuple[Path, str]]
    notes: Sequence[str] = ()


def write_page(path: Path, content: Content) -> None:
    """Write the page.

    Args:
        path: The HTML file.
        content: What it shows.
    """
    from jinja2 import Environment

    template = resources.files("imgcls.report").joinpath("page.html").read_text(encoding="utf-8")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    rule = content.decision or "argmax"
    write_text(
        path,
        page.render(
            content=content,
            verdict=_verdict(content),
            overall=_overall(content),
            repeats=_single(content, repeats=True),
            folds=_single(content, repeats=False),
            repeated=int(content.evaluation.get("repeats", 1)),
            classes=_classes(content),
            learning=learning_figure(content.history, str(content.facts["monitor"])),
            curves=curves_figure(content.predictions),
            confusion=_confusion(content, rule),
            labels=_labels(content),
            rule=rule,
            decided=_decided_by(content),
            thresholds=_shown_thresholds(content),
            pictures=[(_embedded(file), caption) for file, caption in content.pictures],
            grouped=content.predictions.groups is not None,
            wide=len(content.evaluation["classes"]) > MANY,
        ),
    )


# Of several labels each class has a matrix of its own, whose numbers the table of the classes tells.
def _confusion(content: Content, rule: str) -> str:
    if content.predictions.multilabel:
        return ""
    return confusion_figure(content.evaluation["confusion"][rule], content.evaluation["classes"])


def _decided_by(content: Content) -> str:
    several = content.predictions.positive is None
    if content.decision:
        whose = ", each class by a threshold of its own" if several else ""
        return f"the rule {content.decision}{whose}"
    return "each class from 0.5" if content.predictions.multilabel else "the most probable class"


# Of several classes only those that decide: there is one for each class, rule and model.
def _shown_thresholds(content: Content) -> list[Threshold]:
    if content.predictions.positive is not None:
        return list(content.thresholds)
    return [t for t in content.thresholds if t.rule == content.decision and t.model == "mean"]


def _embedded(file: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()


def _final(content: Content) -> pd.DataFrame:
    table = content.metrics[content.metrics["split"] == content.predictions.split]
    return table[table["fold"] == ("mean" if "mean" in set(table["fold"]) else "all")]


def _verdict(content: Content) -> list[str]:
    positive = content.predictions.positive
    models, _, caution = str(content.evaluation["models"]).partition("; ")
    multilabel = content.predictions.multilabel
    headline = _words(content, "average_precision" if positive is not None or multilabel else "accuracy")
    headline = f"mean over classes, {headline}" if multilabel else headline
    lines = [f"On {_units(content)}, {models}: {headline}."]
    if content.predictions.multilabel:
        right, f1 = (_words(content, name, content.decision) for name in ("exact_match", "f1_macro"))
        lines.append(f"Decided by {_decided_by(content)}: {f1}; records with all labels right, {right}.")
        if blind := [t.class_name for t in _shown_thresholds(content) if not t.num_positives]:
            lines.append(f"No validation record has {', '.join(blind)}, so 0.5 decides there.")
    elif positive is None and content.decision:
        right, f1 = (_words(content, name, content.decision) for name in ("balanced_accuracy", "f1_macro"))
        lines.append(f"Decided by {_decided_by(content)}: {right}; {f1}.")
    elif content.decision:
        found, spared = (_words(content, name, content.decision) for name in ("sensitivity", "specificity"))
        lines.append(f"At the threshold of the rule {content.decision} for {positive}: {found}; {spared}.")
    if caution:
        lines.append(_sentence(caution))
    if content.predictions.split == "val":
        lines.append(_sentence(str(content.evaluation["selection"])))
    lines += _unlike(content)
    if not content.facts["positive_given"] and positive is not None:
        lines.append(f"The positive class {positive} was taken because it is the rarer one.")
    lines += content.notes
    if skipped := content.facts.get("skipped"):
        counts = ", ".join(f"{count} of {name}" for name, count in skipped.items())
        lines.append(f"Unreadable images were left out of training and judgement: {counts} (skipped.csv).")
    return lines


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


# What validation records say of thresholds and precision holds for the set only if classes are as frequent in both.
def _unlike(content: Content) -> list[str]:
    off = max((float(row["largest_deviation"]) for row in content.balance if row["split"] == "val"), default=0.0)
    if off <= _UNLIKE:
        return []
    found = f"The share of a class differs by up to {off:.2f} between validation records and the set"
    if content.evaluation.get("population"):
        return [f"{found}; validation metrics and thresholds count each class as often as there is outside of test."]
    return [f"{found}: precision, average precision, accuracy and thresholds from them are not those of the set."]


def _units(content: Content) -> str:
    groups = content.predictions.groups
    images = f"{len(set(content.predictions.ids.tolist()))} {_PARTS[content.predictions.split]} images"
    return images if groups is None else f"{images} of {len(set(groups.tolist()))} groups"


def _words(content: Content, metric: str, rule: str = "") -> str:
    table, name = _final(content), metric.replace("_", " ")
    row = table[(table["metric"] == metric) & (table["threshold"] == rule) & (table["class"] == "")].iloc[0]
    value, low, high = (float(row[column]) for column in ("value", "low", "high"))
    if math.isnan(value):
        return f"{name}: not defined, the {_PARTS[content.predictions.split]} records lack a class"
    if math.isnan(low):
        return f"{name} {value:.3f} (no interval: {_why_none(value, content.predictions)})"
    return f"{name} {value:.3f} (95 % interval {low:.3f} to {high:.3f})"


def _why_none(value: float, predictions: Predictions) -> str:
    units = predictions.ids if predictions.groups is None else predictions.groups
    if value in {0.0, 1.0} and len(set(units.tolist())) > 1:
        return "it is the same in every resample"
    return f"too few {'images' if predictions.groups is None else 'groups'}"


def _overall(content: Content) -> list[dict[str, Any]]:
    table = content.metrics[(content.metrics["class"] == "") & content.metrics["fold"].isin(["all", "mean"])]
    return [_row(row) for _, row in table.sort_values("split", kind="stable").iterrows()]  # test before val


def _single(content: Content, *, repeats: bool) -> list[dict[str, Any]]:
    chosen = {str(content.facts["monitor"]), "accuracy", "balanced_accuracy"}
    table = content.metrics[(content.metrics["class"] == "") & (content.metrics["threshold"] == "")]
    table = table[~table["fold"].isin(["all", "mean"]) & table["metric"].isin(chosen)]
    table = table[table["fold"].str.startswith("repeat") == repeats]
    return [_row(row) for _, row in table.iterrows()]


def _classes(content: Content) -> list[dict[str, Any]]:
    table = _final(content)
    if content.predictions.multilabel:  # the rest is in the table of the labels
        table = table[~table["metric"].isin([*_FREE, *_DECIDED])]
    return [_row(row) for _, row in table[table["class"] != ""].iterrows()]


#: What the table of several labels shows of each, whatever the threshold and at the one that decides.
_FREE, _DECIDED = ("roc_auc", "average_precision"), ("sensitivity", "specificity", "ppv", "npv", "f1")


# A row for each of several labels, with the values and intervals of the metrics that matter.
def _labels(content: Content) -> list[dict[str, Any]]:
    if not content.predictions.multilabel:
        return []
    table = _final(content)
    wanted = [("", name) for name in _FREE] + [(content.decision, name) for name in _DECIDED]
    found = {
        (str(row["class"]), str(row["threshold"]), str(row["metric"])): row
        for row in table[table["class"] != ""].to_dict("records")
    }
    return [
        {
            "class": name,
            "n": found[name, "", _FREE[0]]["n"],
            "cells": [(metric.replace("_", " "), _cell(found[name, rule, metric])) for rule, metric in wanted],
        }
        for name in content.predictions.classes
    ]


def _cell(row: Mapping[Hashable, Any]) -> str:
    numbers = [float(row[name]) for name in ("value", "low", "high")]
    if math.isnan(numbers[0]):
        return "n/a"
    value, low, high = (f"{number:.3f}" for number in numbers)
    return value if math.isnan(numbers[1]) else f"{value} ({low} to {high})"


def _row(row: Any) -> dict[str, Any]:
    numbers = {name: "n/a" if row[name] != row[name] else f"{row[name]:.3f}" for name in ("value", "low", "high")}
    words = {"metric": str(row["metric"]).replace("_", " "), "split": _LABELS[row["split"]]}
    return {**row.to_dict(), **numbers, **words}
