"""What two stages are worth on chest X-rays: the head and then everything, beside the head alone and beside no weights.

    python benchmarks/stages.py [DATA] [--seeds 0 1 2] [--runs runs/stages] [--threads 2] [--epochs 4]
    python benchmarks/stages.py [DATA] --epochs 6 --augment light --runs runs/stages-light --out stages_light.json

DATA, or the variable IMGCLS_TEST_DATA, names a folder with `chest_xray` and `weights/mobilenetv2_100.safetensors`.
All three train for the same number of epochs on the same records in the same order. A fifth of the patients of the
training folder is kept for testing beside the test folder, which comes from elsewhere; of the rest each seed takes a
fifth of the patients to choose the epoch. Values are means over the seeds. Intervals are 95 % of 10,000 resamples, each
of which draws patients and seeds, the same for all three, so that differences are paired. Runs that are there already
are read instead of trained. Writes docs/results/stages.json, or another file beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from imgcls import Dataset, Run, Stage, Trainer, load_run
from imgcls.core.randomness import generator
from imgcls.evaluation.intervals import percentiles, units, weights
from imgcls.evaluation.metrics import measure
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.weighted import Cases, Weighted

RESULTS = Path(__file__).parent.parent / "docs" / "results"
RESAMPLES = 10_000

#: Learning rates are those of the Trainer's own stages; random weights need the higher one.
HEAD, ALL, SCRATCH = 3e-3, 3e-4, 1e-3
SIZE = 96
ARMS = ("two stages", "head alone", "random weights")

Floats = NDArray[np.float64]


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    data = _set(options.data)
    runs = {arm: [_run(data, options, arm, seed) for seed in options.seeds] for arm in ARMS}
    result = {
        "rows": [row for inside in (True, False) for row in _rows(runs, inside)],
        "each_seed": {place: _each(runs, place == "inside") for place in ("inside", "outside")},
        "recipe": f"mobilenetv2_100, {SIZE} x {SIZE}, {options.epochs} epochs, "
        f"augmentation {options.augment}, seeds {options.seeds}",
        "minutes": {arm: [round(run.facts["seconds"] / 60, 1) for run in several] for arm, several in runs.items()},
        "machine": _machine(runs[ARMS[0]][0]),
    }
    (RESULTS / options.out).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("IMGCLS_TEST_DATA"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/stages"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--augment", default="none", help="for all three alike")
    parser.add_argument("--out", default="stages.json", help="beside the other results")
    parser.add_argument("--records", type=int, help="so many alone, to try the script")
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the folder of the data, or set IMGCLS_TEST_DATA")
    options.data = Path(options.data)
    return options


# The same patients are kept for testing whatever the seed.
def _set(folder: Path) -> pd.DataFrame:
    frame = pd.read_csv(folder / "chest_xray" / "index.csv")
    kept = [zlib.crc32(group.encode()) % 5 == 0 for group in frame["group_from_filename"]]
    frame["split"] = np.where(kept, "test", frame["split"])
    return frame


def _stages(arm: str, epochs: int) -> list[Stage]:
    if arm == "head alone":
        return [Stage(epochs=epochs, train="head", lr=HEAD)]
    if arm == "random weights":
        return [Stage(epochs=epochs, train="all", lr=SCRATCH)]
    return [Stage(epochs=1, train="head", lr=HEAD), Stage(epochs=epochs - 1, train="all", lr=ALL)]


def _run(frame: pd.DataFrame, options: argparse.Namespace, arm: str, seed: int) -> Run:
    folder = options.runs / f"{arm.replace(' ', '-')}-{seed}"
    if (folder / "run.json").exists():
        return load_run(folder)
    if options.records is not None:
        frame = frame.sample(options.records, random_state=0)
    images = options.data / "chest_xray"
    data = Dataset.from_frame(frame, root=images, group="group_from_filename", split="split", positive="PNEUMONIA")
    file = options.data / "weights" / "mobilenetv2_100.safetensors"
    start = {"pretrained": False} if arm == "random weights" else {"weights": str(file)}
    return Trainer(
        data,
        backbone={"name": "mobilenetv2_100", "options": {"pad_type": "same"}, **start},
        test="predefined",
        splitter={"name": "holdout", "val": 0.2},
        image={"size": SIZE},
        stages=_stages(arm, options.epochs),
        augment=options.augment,
        seed=seed,
        out=folder,
    ).fit()


# The test predictions of one place: patients of the training folder, or the test folder.
def _part(run: Run, *, inside: bool) -> Predictions:
    found = run.predictions("test")
    return found.take(np.array([name.startswith("train/") == inside for name in found.ids.tolist()]))


def _rows(runs: Mapping[str, list[Run]], inside: bool) -> list[dict[str, str]]:
    parts = {arm: [_part(run, inside=inside) for run in several] for arm, several in runs.items()}
    values, low, high = _compared(parts)
    place = "kept patients of the training folder" if inside else "test folder"
    names = [*ARMS, *(f"two stages less {arm}" for arm in ARMS[1:])]
    return [
        {
            "test records": place,
            "training": name,
            "ROC AUC": f"{values[at]:.4f} ({low[at]:.4f} to {high[at]:.4f})",
            "average precision": f"{values[at + 5]:.4f} ({low[at + 5]:.4f} to {high[at + 5]:.4f})",
        }
        for at, name in enumerate(names)
    ]


# Of each resample the areas of all arms, averaged over the seeds that it drew.
def _compared(parts: Mapping[str, list[Predictions]]) -> tuple[Floats, Floats, Floats]:
    several = [[Cases(labels=part.labels, probs=part.probs, positive=1) for part in parts[arm]] for arm in ARMS]
    first, seeds = parts[ARMS[0]][0], len(several[0])
    assert all(np.array_equal(part.ids, first.ids) for each in parts.values() for part in each)
    drawn = generator(0, "seeds").multinomial(seeds, [1 / seeds] * seeds, size=RESAMPLES) / seeds
    owners, found, done = units(first.groups, len(first)), [], 0
    for block in weights(owners, resamples=RESAMPLES, seed=0):
        found.append(_areas(several, block, drawn[done : done + len(block)]))
        done += len(block)
    ends = percentiles(np.concatenate(found))
    return _areas(several, np.ones((1, len(first))), np.full((1, seeds), 1 / seeds))[0], *ends


# (B, 10): ROC AUC of the arms and two differences, then average precision likewise.
def _areas(several: list[list[Cases]], records: Floats, seeds: Floats) -> Floats:
    columns = []
    for kind in range(2):
        means = []
        for cases in several:
            each = [Weighted(cases=one, weights=records).areas[kind][:, 0] for one in cases]
            means.append((np.stack(each, axis=1) * seeds).sum(axis=1))
        columns += [*means, *(means[0] - other for other in means[1:])]
    return np.stack(columns, axis=1)


def _each(runs: Mapping[str, list[Run]], inside: bool) -> dict[str, list[float]]:
    return {arm: [_area(_part(run, inside=inside)) for run in several] for arm, several in runs.items()}


def _area(part: Predictions) -> float:
    return round(measure("roc_auc", Cases(labels=part.labels, probs=part.probs)).item(), 4)


def _machine(run: Run) -> str:
    runtime = json.loads((run.folder / "environment.json").read_text(encoding="utf-8"))["runtime"]
    return f"{runtime['threads']} CPU cores, {runtime['precision']}, torch {torch.__version__.split('+')[0]}"


if __name__ == "__main__":
    main()
