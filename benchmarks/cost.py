"""How long a training or a search will take, predicted from a short fit and checked against longer ones.

    python benchmarks/cost.py [--threads 2] [--scale 1.0]

The model: seconds = start + images * epochs * folds * trials * (side / side0)**2 / rate / devices, where `images` are
those that an epoch trains and validates. `rate` (images a second) is that of the median epoch of a short fit at a side
of `side0` pixels, and `start` (seconds) what this fit took beside its epochs. Images are noise in memory: what they
show costs nothing. `--scale` makes the longer fits longer or shorter. Writes docs/results/cost.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pandas as pd
import torch

from imgcls import Dataset, Int, Searcher, Stage, Trainer
from imgcls.core.randomness import generator

RESULT = Path(__file__).parent.parent / "docs" / "results" / "cost.json"

#: The epochs of the short fit, and its images.
EPOCHS, IMAGES = 6, 500


@attrs.frozen(kw_only=True)
class Network:
    """What is trained, and the side of its images in pixels."""

    name: str
    backbone: dict[str, Any]
    side: int


@attrs.frozen(kw_only=True)
class Job:
    """What is predicted."""

    network: Network
    side: int
    images: int
    epochs: int
    folds: int = 1
    trials: int = 1


@attrs.frozen(kw_only=True)
class Speed:
    """Images a second, and seconds that do not depend on the epochs."""

    rate: float
    start: float


SMALL = Network(name="small-cnn", backbone={"name": "small-cnn", "base": 16, "depth": 3}, side=32)
MIDDLE = Network(name="resnet18", backbone={"name": "timm", "model": "resnet18", "pretrained": False}, side=64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    fit(Job(network=SMALL, side=SMALL.side, images=64, epochs=1))  # what is loaded once
    speeds = {network.name: measured(network) for network in (SMALL, MIDDLE)}
    result = {
        "rows": [row(job, speeds[job.network.name]) for job in jobs(options.scale)],
        "speeds": {name: attrs.asdict(speed) for name, speed in speeds.items()},
        "machine": f"{platform.machine()}, {options.threads} threads, torch {torch.__version__}, no GPU",
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


def jobs(scale: float) -> list[Job]:
    many = round(2000 * scale)
    return [
        Job(network=SMALL, side=32, images=many, epochs=10),
        Job(network=SMALL, side=32, images=many, epochs=6, folds=3),
        Job(network=SMALL, side=32, images=many, epochs=5, trials=4),
        Job(network=MIDDLE, side=64, images=many // 2, epochs=6),
        Job(network=MIDDLE, side=96, images=many // 2, epochs=4),
    ]


def trainer(job: Job, out: Path) -> Trainer:
    rng = generator(0, "cost", job.images)
    pixels = rng.integers(0, 256, (job.images, job.side, job.side), dtype=np.uint8)
    return Trainer(
        Dataset.from_arrays(pixels, np.arange(job.images) % 2),
        backbone=job.network.backbone,
        image={"size": job.side, "channels": 1},
        splitter="holdout" if job.folds == 1 else {"name": "stratified-kfold", "k": job.folds},
        stages=[Stage(epochs=job.epochs)],
        precision="fp32",
        out=out,
    )


def fit(job: Job) -> tuple[float, int, list[float]]:
    """Give the seconds of a job, the images that an epoch of a fold trains and validates, and the seconds of epochs."""
    with tempfile.TemporaryDirectory() as name:
        own = trainer(job, Path(name) / "run")
        fold = own.folds()[0]
        started = time.perf_counter()
        if job.trials == 1:
            own.fit()
        else:
            Searcher(own, space={"batch_size": Int(28, 36)}, trials=job.trials, out=Path(name) / "search").run()
        seconds = time.perf_counter() - started
        history = next(Path(name).glob("**/fold_0/history.csv"))
        return seconds, len(fold.train) + len(fold.val), pd.read_csv(history)["seconds"].tolist()


def measured(network: Network) -> Speed:
    seconds, images, epochs = fit(Job(network=network, side=network.side, images=IMAGES, epochs=EPOCHS))
    return Speed(rate=images / statistics.median(epochs), start=max(0.0, seconds - sum(epochs)))


def predicted(job: Job, speed: Speed, images: int) -> float:
    once = images * job.epochs * (job.side / job.network.side) ** 2 / speed.rate
    return job.trials * (speed.start + job.folds * once)


def row(job: Job, speed: Speed) -> dict[str, Any]:
    seconds, images, _ = fit(job)
    expected = predicted(job, speed, images)
    return {
        "network": job.network.name,
        "side": job.side,
        "images": job.images,
        "epochs": job.epochs,
        "folds": job.folds,
        "trials": job.trials,
        "predicted s": round(expected, 1),
        "measured s": round(seconds, 1),
        "measured / predicted": round(seconds / expected, 2),
    }


if __name__ == "__main__":
    main()
