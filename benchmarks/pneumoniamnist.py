"""PneumoniaMNIST, official split: a resnet18 for 28 pixels from random weights, beside what MedMNIST published.

    python benchmarks/pneumoniamnist.py [DATA] [--seeds 0 1 2] [--runs runs/pneumoniamnist] [--threads 2]
    python benchmarks/pneumoniamnist.py [DATA] --search          the recipes that were tried, on validation alone

DATA, or the variable IMGCLS_TEST_DATA, names a folder with `pneumoniamnist/pneumoniamnist.npz`. `--search` trains each
recipe of `TRIED` on a set from which the test records were taken out, so that it cannot see them, and notes the values
of validation. Runs that are there already are read instead of trained. Both write their part of
docs/results/pneumoniamnist.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from imgcls import Dataset, Run, Stage, Trainer, load_run
from imgcls.evaluation.intervals import interval
from imgcls.evaluation.metrics import measure
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.weighted import Cases, Weighted
from imgcls.models.module import ModuleBackbone

RESULT = Path(__file__).parent.parent / "docs" / "results" / "pneumoniamnist.json"
RESAMPLES = 10_000

#: Yang et al. (2023), MedMNIST v2, table 3: ResNet-18 on images of 28 pixels.
PUBLISHED = {"test AUC": "0.944", "accuracy": "0.854"}

#: What is changed in turn; everything that a recipe does not name is the default of the Trainer.
TRIED: dict[str, dict[str, Any]] = {
    "no augmentation": {},
    "augment light": {"augment": "light"},
    "augment medium": {"augment": "medium"},
}
FOLDED: dict[str, dict[str, Any]] = {"augment light, five folds": {"augment": "light", "splitter": None}}

#: What is scored on the test records, with its epochs: the recipe with the best average precision on validation;
#: what is usually done for images that come from elsewhere, light augmentation for twice as long; and the same with
#: the folds that `imgcls init` writes for a set that names its test records, whose models are averaged.
TESTED = {"no augmentation": 6, "augment light": 12, "augment light, five folds": 12}

LR = 1e-3
TRIED_EPOCHS = 3

Floats = NDArray[np.float64]


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    known = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    found = _search(options) if options.search else _test(options)
    RESULT.write_text(json.dumps(known | found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("IMGCLS_TEST_DATA"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/pneumoniamnist"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--search", action="store_true")
    parser.add_argument("--epochs", type=int, help="others than those of the recipe, to try the script")
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the folder of the data, or set IMGCLS_TEST_DATA")
    return options


# --8<-- [start:network]
def network() -> nn.Module:
    """Make a resnet18 whose stem suits 28 pixels.

    Returns:
        It has a 3 x 3 convolution of stride 1 instead of 7 x 7 of stride 2, so that its maps are of 14, 7, 4 and 2
        pixels, and takes grey images.
    """
    import timm

    model: nn.Module = timm.create_model("resnet18", pretrained=False, num_classes=0, in_chans=1)
    model.conv1 = nn.Conv2d(1, 64, kernel_size=3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    return model


# --8<-- [end:network]


def _run(data: Dataset, folder: Path, recipe: str, *, seed: int, epochs: int, **options: Any) -> Run:
    backbone = ModuleBackbone(module=network, mean=(0.5,), std=(0.25,))
    if (folder / "run.json").exists():
        return load_run(folder, data=data, backbone=backbone)
    changed = {"splitter": "predefined"} | (TRIED | FOLDED)[recipe]
    return Trainer(
        data,
        backbone=backbone,
        image={"size": 28, "channels": 1},
        stages=[Stage(epochs=epochs, lr=LR)],
        precision="bf16",
        seed=seed,
        out=folder,
        **changed,
        **options,
    ).fit()


def _set(options: argparse.Namespace) -> Dataset:
    path = options.data / "pneumoniamnist" / "pneumoniamnist.npz"
    return Dataset.from_npz(path, classes=["normal", "pneumonia"], positive="pneumonia")


def _search(options: argparse.Namespace) -> dict[str, Any]:
    data = _set(options)
    assert data.splits is not None
    seen = data.subset(np.flatnonzero(data.splits != "test"))
    epochs = options.epochs or TRIED_EPOCHS
    rows = []
    for number, recipe in enumerate(TRIED):
        run = _run(seen, options.runs / f"tried-{number}", recipe, seed=0, epochs=epochs, test=None)
        history = run.history
        best = history[history["best"] == 1].iloc[-1]
        names = ("roc_auc", "average_precision", "loss", "accuracy")
        rows.append({"recipe": recipe, "epochs": epochs} | {name: f"{best[f'val_{name}']:.4f}" for name in names})
        print(rows[-1], flush=True)
    return {"tried": rows}


def _test(options: argparse.Namespace) -> dict[str, Any]:
    data, rows, found = _set(options), [], {}
    for number, (recipe, usual) in enumerate(TESTED.items()):
        epochs = options.epochs or usual
        folders = {seed: options.runs / f"tested-{number}-seed-{seed}" for seed in options.seeds}
        runs = [_run(data, folder, recipe, seed=seed, epochs=epochs) for seed, folder in folders.items()]
        parts = [run.predictions("test") for run in runs]
        name = f"{recipe}, {epochs} epochs"
        rows += [_row(f"{name}, seed {seed}", [part]) for seed, part in zip(options.seeds, parts, strict=True)]
        rows.append(_row(f"{name}, mean of {len(parts)} seeds", parts))
        found[name] = {
            "validation AUC": [round(run.value("roc_auc", split="val")[0], 4) for run in runs],
            "spread of test AUC over seeds": _spread(parts),
            "minutes": [round(run.facts["seconds"] / 60, 1) for run in runs],
            "machine": _machine(runs[0]),
        }
    return {"rows": [*rows, {"": "published (MedMNIST v2)", **PUBLISHED}], "recipes": found}


# The mean of what several models score one by one; resamples draw the same test records for all of them.
def _row(name: str, parts: Sequence[Predictions]) -> dict[str, str]:
    cases = [Cases(labels=part.labels, probs=part.probs, positive=1) for part in parts]

    def statistic(weights: Floats) -> Floats:
        found = [Weighted(cases=case, weights=weights) for case in cases]
        areas = np.mean([one.areas[0][:, 0] for one in found], axis=0)
        right = np.mean([(one.weights @ (one.cases.preds == one.cases.labels)) / one.total for one in found], axis=0)
        return np.stack([areas, right], axis=1)

    count = len(parts[0])
    values = statistic(np.ones((1, count)))[0]
    ends = interval(statistic, num_records=count, resamples=RESAMPLES)
    cells = [f"{value:.3f} ({low:.3f} to {high:.3f})" for value, low, high in zip(values, *ends, strict=True)]
    return {"": name, "test AUC": cells[0], "accuracy": cells[1]}


def _spread(parts: Sequence[Predictions]) -> float:
    areas = [measure("roc_auc", Cases(labels=part.labels, probs=part.probs)).item() for part in parts]
    return round(statistics.stdev(areas), 4) if len(areas) > 1 else 0.0


def _machine(run: Run) -> str:
    runtime = json.loads((run.folder / "environment.json").read_text(encoding="utf-8"))["runtime"]
    return f"{runtime['threads']} CPU cores, {runtime['precision']}, torch {torch.__version__.split('+')[0]}"


if __name__ == "__main__":
    main()
