"""The evaluation behind the page "Chest X-rays, evaluated": tables and figures of the run of `chest_xray.py`.

    python benchmarks/chest_evaluation.py RUN

RUN is the run's folder, such as runs/chest; its images must be where they were. Writes
docs/results/chest_evaluation.json and the figures docs/images/chest_*.svg, which show numbers and no images.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from imgcls import Run, load_run
from imgcls.evaluation.errors import confused_pairs
from imgcls.evaluation.summary import reevaluate

DOCS = Path(__file__).parent.parent / "docs"

#: What the first table shows, with the rule that decides.
SHOWN = [
    *((name, "") for name in ("roc_auc", "average_precision", "brier", "loss", "ece")),
    *((name, "max_f1") for name in ("accuracy", "balanced_accuracy", "mcc", "f1", "hter")),
    *((name, "max_f1") for name in ("sensitivity", "specificity", "ppv", "npv")),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    run = load_run(parser.parse_args().run)
    parts = (_metrics, _thresholds, _patients, _kinds, _predictive, _sets, _abstention, _baselines, _errors, _facts)
    found = {part.__name__.strip("_"): list(part(run)) for part in parts}
    text = json.dumps({"rows": found.pop("metrics"), **found}, indent=1) + "\n"
    (DOCS / "results" / "chest_evaluation.json").write_text(text, encoding="utf-8")
    folder = DOCS / "images"
    folder.mkdir(exist_ok=True)
    for path in run.figures(folder / "drawn"):
        path.replace(folder / f"chest_{path.name}")
    (folder / "chest_learning.svg").unlink()  # of one epoch, which makes no curve
    (folder / "drawn").rmdir()
    print(text)


def _shown(value: float, low: float = np.nan, high: float = np.nan) -> str:
    return f"{value:.3f}" if np.isnan(low) else f"{value:.3f} ({low:.3f} to {high:.3f})"


def _of(row: Any) -> str:
    return _shown(row["value"], row["low"], row["high"])


def _metrics(run: Run) -> Iterator[dict[str, Any]]:
    for metric, rule in SHOWN:
        cells = {split: _shown(*run.value(metric, split=split, threshold=rule)) for split in ("val", "test")}
        yield {"metric": metric, "validation": cells["val"], "test": cells["test"]}


def _thresholds(run: Run) -> Iterator[dict[str, Any]]:
    for one in run.thresholds:
        if one.model == "mean" and one.low is not None and one.high is not None:
            cells = {name: _shown(*run.value(name, threshold=one.rule)) for name in ("sensitivity", "specificity")}
            yield {"rule": one.rule, "threshold": _shown(one.value, one.low, one.high), **cells}


def _patients(run: Run) -> Iterator[dict[str, Any]]:
    table = run.evaluate(aggregation="mean").table
    pooled = table[(table["group"] == "") & (table["class"] == "")]
    for level, rows in pooled.groupby("level", sort=False):
        for metric, rule in (("roc_auc", ""), ("sensitivity", "max_f1"), ("specificity", "max_f1")):
            row = rows[(rows["metric"] == metric) & (rows["threshold"] == rule)].iloc[0]
            yield {
                "of": level,
                "metric": metric,
                "test": _of(row),
                "n": int(row["n"]),
            }


# Bacterial or viral, which the file names of this set tell.
def _kinds(run: Run) -> Iterator[dict[str, Any]]:
    found = run.predictions("test")
    kinds = [next((kind for kind in ("bacteria", "virus") if kind in one), "healthy") for one in found.ids]
    told = attrs.evolve(found, columns={**found.columns, "kind": np.array(kinds)})
    table = reevaluate(told, run.thresholds, groups="kind", decision=run.model.decision).table
    for kind, metric in (("bacteria", "sensitivity"), ("virus", "sensitivity"), ("healthy", "specificity")):
        rows = table[(table["group"] == f"kind={kind}") & (table["metric"] == metric) & (table["class"] == "")]
        row = rows[rows["threshold"] == "max_f1"].iloc[0]
        yield {
            "kind": kind,
            "metric": metric,
            "test": _of(row),
            "n": int(row["n"]),
        }


def _predictive(run: Run) -> Iterator[dict[str, Any]]:
    table = run.evaluate(prevalence=[0.02, 0.1, 0.3]).table
    for share in ("0.02", "0.1", "0.3"):
        row: dict[str, Any] = {"prevalence": share}
        for name in ("ppv", "npv"):
            one = table[(table["metric"] == f"{name}@{share}") & (table["threshold"] == "max_f1")].iloc[0]
            row[name] = _shown(one["value"], one["low"], one["high"])
        yield row


def _sets(run: Run) -> Iterator[dict[str, Any]]:
    for name, options in (("lac", {}), ("lac, per class", {"per_class": True}), ("aps", {"method": "aps"})):
        coverage = run.conformal(0.1, **options).coverage(run.predictions("test"))
        for row in coverage.to_dict("records"):
            held = _shown(row["coverage"], row["low"], row["high"])
            yield {
                "sets": name,
                "of": row["class"] or "all",
                "held the truth": held,
                "classes a set": _shown(row["size"]),
            }


def _abstention(run: Run) -> Iterator[dict[str, Any]]:
    curve = run.risk_coverage("test")
    for share in (1.0, 0.9, 0.8, 0.7, 0.5):
        at = int(np.argmin(np.abs(np.asarray(curve.coverage) - share)))
        yield {"decisions taken": f"{share:.0%}", "wrong": _shown(curve.risk[at], curve.low[at], curve.high[at])}


def _baselines(run: Run) -> Iterator[dict[str, Any]]:
    table = run.baselines(probe=True)
    for row in table[table["metric"] == "roc_auc"].to_dict("records"):
        ahead = _shown(row["difference"], row["difference_low"], row["difference_high"])
        area = _shown(row["value"], row["low"], row["high"])
        yield {"baseline": row["baseline"], "ROC AUC": area, "the model is ahead by": ahead}


def _errors(run: Run) -> Iterator[dict[str, Any]]:
    found = run.predictions("test")
    for pair in confused_pairs(found, run.thresholds, "max_f1").to_dict("records"):
        yield {
            "true": pair["y_true"],
            "said": pair["y_pred"],
            "images": int(pair["count"]),
            "share": f"{pair['share']:.3f}",
        }


def _facts(run: Run) -> Iterator[dict[str, Any]]:
    opened = run.test_openings
    suspected = int(run.label_errors["suspected"].sum())
    yield {"test openings": opened.count if opened else 0, "suspected labels": suspected}


if __name__ == "__main__":
    main()
