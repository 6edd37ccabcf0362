"""One self-contained HTML page for the person who is responsible for the model."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from imgcls.core.folders import write_text
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.thresholds import Threshold
from imgcls.report.figures import confusion_figure, curves_figure, learning_figure

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Content", "write_page"]


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
            folds=_folds(content),
            classes=_classes(content),
            learning=learning_figure(content.history, str(content.facts["monitor"])),
            curves=curves_figure(content.predictions),
            confusion=confusion_figure(content.evaluation["confusion"][rule], content.evaluation["classes"]),
            rule=rule,
            pictures=[(_embedded(file), caption) for file, caption in content.pictures],
            grouped=content.predictions.groups is not None,
        ),
    )


def _embedded(file: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()


def _final(content: Content) -> pd.DataFrame:
    table = content.metrics[content.metrics["split"] == content.predictions.split]
    return table[table["fold"] == ("mean" if "mean" in set(table["fold"]) else "all")]


def _verdict(content: Content) -> list[str]:
    table, split = _final(content), content.predictions.split
    units = f"{len(content.predictions)} {'test' if split == 'test' else 'validation'} images"
    if content.predictions.groups is not None:
        units += f" of {len(set(content.predictions.groups.tolist()))} groups"
    headline = "average_precision" if content.predictions.positive is not None else "accuracy"
    lines = [f"{_words(table, headline)} on {units}, {content.evaluation['models']}."]
    if content.decision:
        positive = content.predictions.positive
        found, spared = (_words(table, name, content.decision) for name in ("sensitivity", "specificity"))
        lines.append(f"At the threshold of the rule {content.decision} for {positive}: {found}; {spared}.")
    if split == "val":
        lines.append("There are no test records: these numbers also chose checkpoint and thresholds, so they flatter.")
    if not content.facts["positive_given"] and content.predictions.positive is not None:
        lines.append(f"The positive class {content.predictions.positive} was taken because it is the rarer one.")
    return lines


def _words(table: pd.DataFrame, metric: str, rule: str = "") -> str:
    row = table[(table["metric"] == metric) & (table["threshold"] == rule) & (table["class"] == "")].iloc[0]
    return f"{metric.replace('_', ' ')} {row['value']:.3f} (95 % interval {row['low']:.3f} to {row['high']:.3f})"


def _overall(content: Content) -> list[dict[str, Any]]:
    table = content.metrics[(content.metrics["class"] == "") & content.metrics["fold"].isin(["all", "mean"])]
    return [_row(row) for _, row in table.sort_values("split", kind="stable").iterrows()]  # test before val


def _folds(content: Content) -> list[dict[str, Any]]:
    chosen = {str(content.facts["monitor"]), "accuracy", "balanced_accuracy"}
    table = content.metrics[(content.metrics["class"] == "") & (content.metrics["threshold"] == "")]
    table = table[~table["fold"].isin(["all", "mean"]) & table["metric"].isin(chosen)]
    return [_row(row) for _, row in table.iterrows()]


def _classes(content: Content) -> list[dict[str, Any]]:
    table = _final(content)
    return [_row(row) for _, row in table[table["class"] != ""].iterrows()]


def _row(row: Any) -> dict[str, Any]:
    numbers = {name: "n/a" if row[name] != row[name] else f"{row[name]:.3f}" for name in ("value", "low", "high")}
    return {**row.to_dict(), **numbers, "metric": str(row["metric"]).replace("_", " ")}
