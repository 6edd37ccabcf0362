"""The run behind the page "Chest X-rays, start to end": trains examples/chest_xray.yaml and writes its table.

    python benchmarks/chest_xray.py DATA [--out runs/chest]

DATA holds the folder `chest_xray` and the file `weights/mobilenetv2_100.safetensors`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from imgcls import Run, Trainer, replace
from imgcls.core.config import from_yaml

ROOT = Path(__file__).parent.parent

#: What the page shows: metric and threshold rule.
SHOWN = [
    ("roc_auc", ""),
    ("average_precision", ""),
    ("accuracy", "0.5"),
    *((metric, rule) for rule in ("max_f1", "sensitivity>=0.95") for metric in ("sensitivity", "specificity")),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", default="runs/chest")
    options = parser.parse_args()
    config = from_yaml((ROOT / "examples" / "chest_xray.yaml").read_text(encoding="utf-8"))
    config["data"]["root"] = str(options.data / "chest_xray")
    config["backbone"]["weights"] = str(options.data / "weights" / "mobilenetv2_100.safetensors")
    started = time.time()
    run = replace(Trainer.from_config(config), {"out": options.out}).fit()
    minutes = (time.time() - started) / 60
    found = run.explain("grad-cam", limit=16, errors=True)
    print(f"{len(found)} worst errors drawn, report: {run.report()}")
    print(f"trained in {minutes:.1f} minutes")
    result = {"rows": [_row(run, *line) for line in SHOWN], "machine": _machine(run)}
    (ROOT / "docs" / "results" / "chest_xray.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


def _row(run: Run, metric: str, rule: str) -> dict[str, Any]:
    value, low, high = run.value(metric, threshold=rule)
    cuts = {threshold.rule: threshold.value for threshold in run.thresholds if threshold.model == "mean"}
    return {
        "metric": metric.replace("_", " "),
        "rule": rule or "none",
        "threshold": cuts.get(rule, ""),
        "validation": run.value(metric, split="val", threshold=rule)[0],
        "test": value,
        "95 % interval of test": f"{low:.3f} to {high:.3f}",
    }


def _machine(run: Run) -> str:
    runtime = json.loads((run.folder / "environment.json").read_text(encoding="utf-8"))["runtime"]
    return f"{runtime['threads']} CPU cores, {runtime['precision']}, torch {torch.__version__.split('+')[0]}"


if __name__ == "__main__":
    main()
