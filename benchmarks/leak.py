"""What a leak is worth: magnetic tiles divided at random, and tile by tile.

    python benchmarks/leak.py [DATA] [--seeds 0 1 2] [--runs runs/leak]

DATA, or the variable IMGCLS_TEST_DATA, names a folder with `magnetic_tile` and `weights/mobilenetv2_100.safetensors`.
Each tile was shot up to six times in different light. Divided at random, most test shots have others of their tile
among the training shots; divided by tile, none has. Everything else of the trainings is the same. Every shot is tested
once a seed, by the fold that did not train on it. Values are means over the seeds; intervals are 95 % of 10,000
bootstrap resamples of tiles, the same tiles for both divisions, so that their difference is paired. Runs that are there
already are read instead of trained. Writes docs/results/leak.json.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from imgcls import Dataset, Run, Stage, Trainer, load_run
from imgcls.evaluation.intervals import interval
from imgcls.evaluation.weighted import ratio

RESULT = Path(__file__).parent.parent / "docs" / "results" / "leak.json"
RESAMPLES = 10_000

#: How the records are divided; the first one looks at no tiles.
DIVISIONS = {"at random": "stratified-kfold", "by tile": "stratified-group-kfold"}

#: Small, so that a processor can do it.
SIZE = 64
STAGES = (Stage(epochs=1, train="head", lr=5e-3), Stage(epochs=3, train="all", lr=1e-3))

Floats = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("IMGCLS_TEST_DATA"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/leak"))
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the folder of the data, or set IMGCLS_TEST_DATA")
    tiles = Dataset.from_csv(options.data / "magnetic_tile" / "index.csv", group="group_inferred")
    runs = {name: [_run(options, name, seed) for seed in options.seeds] for name in DIVISIONS}
    right = {name: np.mean([_right(run, tiles) for run in several], axis=0) for name, several in runs.items()}
    result: dict[str, Any] = {"rows": _rows(right, tiles), "recipe": _recipe(options.seeds), "facts": _facts(tiles)}
    result["machine"] = _machine(runs["by tile"][0])
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


def _run(options: argparse.Namespace, name: str, seed: int) -> Run:
    splitter = DIVISIONS[name]
    folder = options.runs / f"{splitter}-{seed}"
    if (folder / "run.json").exists():
        return load_run(folder)
    index = options.data / "magnetic_tile" / "index.csv"
    # Without its tiles the set can be divided at random; with them that is refused.
    data = Dataset.from_csv(index, group="group_inferred" if name == "by tile" else None)
    weights = options.data / "weights" / "mobilenetv2_100.safetensors"
    return Trainer(
        data,
        backbone={"name": "mobilenetv2_100", "weights": str(weights), "options": {"pad_type": "same"}},
        splitter={"name": splitter, "k": 5},
        image={"size": SIZE},
        stages=STAGES,
        monitor="accuracy",  # defined where a part of whole tiles has no MT_Fray, of which there are seven
        precision="fp32",
        seed=seed,
        out=folder,
    ).fit()


# Whether each record of the set was decided right by the fold that tested it.
def _right(run: Run, tiles: Dataset) -> Floats:
    predictions = run.predictions("test")
    places = {name: place for place, name in enumerate(predictions.ids.tolist())}
    found = predictions.take([places[name] for name in tiles.ids.tolist()])
    return (found.probs.argmax(axis=1) == found.labels).astype(np.float64)


def _rows(right: dict[str, Floats], tiles: Dataset) -> list[dict[str, Any]]:
    names = list(DIVISIONS)
    hits = np.column_stack([right[name] for name in names])
    member = np.eye(len(tiles.classes))[tiles.labels]

    def statistic(weights: Floats) -> Floats:
        share = (weights @ hits) / weights.sum(axis=1, keepdims=True)
        recall = [ratio((weights * column) @ member, weights @ member).mean(axis=1) for column in hits.T]
        pair = np.column_stack([share, *recall])
        return np.column_stack([pair, pair[:, 0] - pair[:, 1], pair[:, 2] - pair[:, 3]])

    values = statistic(np.ones((1, len(tiles))))[0]
    low, high = interval(statistic, num_records=len(tiles), groups=tiles.groups, resamples=RESAMPLES)
    shown = [f"{value:.3f} ({start:.3f} to {end:.3f})" for value, start, end in zip(values, low, high, strict=True)]
    of = [*names, "difference"]
    return [
        {"metric": "accuracy", **dict(zip(of, [shown[0], shown[1], shown[4]], strict=True))},
        {"metric": "balanced accuracy", **dict(zip(of, [shown[2], shown[3], shown[5]], strict=True))},
        *_class_rows(hits, tiles, of),
    ]


def _class_rows(hits: Floats, tiles: Dataset, of: list[str]) -> list[dict[str, Any]]:
    rows = []
    for number, name in enumerate(tiles.classes):
        shares = hits[tiles.labels == number].mean(axis=0)
        cells = [*(f"{share:.3f}" for share in shares), f"{shares[0] - shares[1]:.3f}"]
        rows.append({"metric": f"sensitivity of {name}", **dict(zip(of, cells, strict=True))})
    return rows


def _facts(tiles: Dataset) -> dict[str, Any]:
    groups = tiles.groups
    assert groups is not None
    counts = {name: len(set(groups[tiles.labels == at].tolist())) for at, name in enumerate(tiles.classes)}
    always = max(np.bincount(tiles.labels)) / len(tiles)
    return {
        "records": len(tiles),
        "tiles": len(set(groups.tolist())),
        "tiles of each class": counts,
        "accuracy of always the most frequent class": round(float(always), 3),
    }


def _recipe(seeds: list[int]) -> str:
    epochs = " and ".join(f"{stage.epochs} of {stage.train}" for stage in STAGES)
    return f"mobilenetv2_100 from ImageNet weights, {SIZE} x {SIZE}, epochs: {epochs}, 5 folds, seeds {seeds}"


def _machine(run: Run) -> str:
    runtime = json.loads((run.folder / "environment.json").read_text(encoding="utf-8"))["runtime"]
    return f"{runtime['threads']} CPU cores, {runtime['precision']}, torch {torch.__version__.split('+')[0]}"


if __name__ == "__main__":
    main()
