"""What `imgcls.fit` reaches within a time, beside the defaults of the Trainer, on two sets.

    python benchmarks/fit.py [DATA] [--minutes 20] [--sets chest_xray magnetic_tile] [--size 160] [--runs runs/fit]

DATA, or the variable IMGCLS_TEST_DATA, names a folder with `chest_xray`, `magnetic_tile` and
`weights/mobilenetv2_100.safetensors`. Both train on the same records and are scored on the same test records, which
neither saw. `fit` chooses among the whole network, a part of it and a small one from random weights; the Trainer has
the whole network, two epochs of its head, eight of everything, in five folds, whose models predict together. Intervals
are 95 % of 10,000 resamples of groups, the same for both, so that the difference is paired. Runs that are there already
are read instead of trained. Writes docs/results/fit.json.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

import imgcls
from imgcls import Dataset, Run, Trainer, load_run
from imgcls.evaluation.intervals import resampled
from imgcls.evaluation.metrics import measure
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.resampling import units
from imgcls.evaluation.weighted import Cases

RESULT = Path(__file__).parent.parent / "docs" / "results" / "fit.json"
RESAMPLES = 10_000

#: Tables, columns of groups and of splits, test sets.
SETS: dict[str, dict[str, Any]] = {
    "chest_xray": {"group": "group_from_filename", "split": "split", "positive": "PNEUMONIA"},
    "magnetic_tile": {"group": "group_inferred"},
}
METRICS = ("roc_auc", "balanced_accuracy")

Floats = NDArray[np.float64]


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    known = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {"rows": [], "probes": []}
    for name in options.sets:
        found = _compared(name, options)
        for part, rows in found.items():
            known[part] = [row for row in known[part] if row["set"] != name] + rows
    runtime = f"{torch.get_num_threads()} CPU cores, torch {torch.__version__.split('+')[0]}"
    known |= {"machine": runtime, "recipe": f"{options.size} x {options.size}, {options.minutes:g} minutes for fit"}
    RESULT.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(known, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("IMGCLS_TEST_DATA"))
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--runs", type=Path, default=Path("runs/fit"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--records", type=int, help="so many alone, to try the script")
    parser.add_argument("--epochs", type=int, help="of everything, for the Trainer, to try the script")
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the folder of the data, or set IMGCLS_TEST_DATA")
    options.data = Path(options.data)
    return options


def _set(name: str, options: argparse.Namespace) -> Dataset:
    root = options.data / name
    frame = pd.read_csv(root / "index.csv")
    data = Dataset.from_frame(frame, root=root, image="image", label="label", **SETS[name])
    return data if options.records is None else data.sample(options.records, stratified=True)


def _whole(options: argparse.Namespace) -> dict[str, Any]:
    file = options.data / "weights" / "mobilenetv2_100.safetensors"
    return {"name": "mobilenetv2_100", "weights": str(file), "options": {"pad_type": "same"}}


def _compared(name: str, options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    data, runs = _set(name, options), options.runs
    test = "predefined" if data.splits is not None else 0.2
    both = {
        "imgcls.fit": _fitted(data, runs / f"{name}-fit", test, options),
        "Trainer's defaults": _trained(data, runs / f"{name}-trainer", test, options),
    }
    choice = json.loads((runs / f"{name}-fit" / "fit.json").read_text(encoding="utf-8"))
    steps = {who: int(run.history.groupby("fold")["step"].max().sum()) for who, run in both.items()}
    names = {"imgcls.fit": _backbone(choice["backbones"][choice["number"]]), "Trainer's defaults": "mobilenetv2_100"}
    parts = [run.predictions("test") for run in both.values()]
    values, low, high = _scores(parts)
    rows = []
    for at, who in enumerate([*both, "fit less defaults"]):
        ends = zip(METRICS, values[at], low[at], high[at], strict=True)
        shown = {
            metric.replace("roc_auc", "test ROC AUC").replace("_", " "): f"{value:.3f} ({a:.3f} to {b:.3f})"
            for metric, value, a, b in ends
        }
        rows.append({"set": name, "how": who, "backbone": names.get(who, ""), "steps": steps.get(who, ""), **shown})
    return {"rows": rows, "probes": [_probe(name, choice, row) for row in choice["backbones"]]}


def _backbone(row: dict[str, Any]) -> str:
    cut = row["backbone"].get("cut")
    return f"{row['name']} up to {cut}" if cut else str(row["name"])


def _probe(name: str, choice: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    known = row.get("low") is not None
    ends = f" ({row['low']:.3f} to {row['high']:.3f})" if known else ""
    score = f"{row['value']:.3f}{ends}" if "value" in row else row["left_out"]
    each = {"set": name, "backbone": _backbone(row), f"probe: {choice['metric']}": score}
    return {**each, "ms an image": row["ms_per_image"], "epochs there was time for": row.get("epochs", "not timed")}


def _fitted(data: Dataset, out: Path, test: Any, options: argparse.Namespace) -> Run:
    if (out / "run.json").exists():
        return load_run(out)
    whole = _whole(options)
    backbones = [{**whole, "cut": "stride16"}, whole, {"name": "small-cnn"}]
    return imgcls.fit(
        data, minutes=options.minutes, backbones=backbones, test=test, image={"size": options.size}, out=out
    )


def _trained(data: Dataset, out: Path, test: Any, options: argparse.Namespace) -> Run:
    if (out / "run.json").exists():
        return load_run(out)
    trainer = Trainer(data, backbone=_whole(options), test=test, image={"size": options.size}, out=out)
    return (trainer if options.epochs is None else imgcls.replace(trainer, {"stages.1.epochs": options.epochs})).fit()


# Of both and of their difference: values, low and high ends, each (3, M).
def _scores(parts: list[Predictions]) -> tuple[Floats, Floats, Floats]:
    first = parts[0]
    order = [np.argsort(part.ids) for part in parts]
    parts = [part.take(by) for part, by in zip(parts, order, strict=True)]
    assert np.array_equal(parts[0].ids, parts[1].ids)
    positive = 1 if first.positive_index is None else first.positive_index
    cases = [Cases(labels=part.labels, probs=part.probs, positive=positive) for part in parts]

    def statistic(weights: Floats) -> Floats:
        fit, own = (np.stack([measure(name, one, weights=weights) for name in METRICS], axis=1) for one in cases)
        return np.concatenate([fit, own, fit - own], axis=1)

    drawn = resampled(statistic, units(parts[0].groups, len(first)), resamples=RESAMPLES, seed=0)
    ends = np.nanpercentile(drawn, [2.5, 97.5], axis=0)  # a resample may lack a rare class
    found = statistic(np.ones((1, len(first))))[0], *ends
    values, low, high = (one.reshape(3, len(METRICS)) for one in found)
    return values, low, high


if __name__ == "__main__":
    main()
