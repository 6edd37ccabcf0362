"""A search that a test kills, in a process of its own.

python crashes.py FOLDER BACKEND EXECUTOR WORKERS RANKS TRIALS
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from imgcls import Choice, Float, ImageSpec, Searcher, Stage, Trainer
from imgcls.testing import blobs

SPACE = {"stages.0.lr": Float(1e-4, 1e-1, log=True), "optimizer": Choice("adamw", "sgd")}


def searcher(out: Path, *, backend: Any = "random", trials: int = 4, **options: Any) -> Searcher:
    trainer = Trainer(
        blobs(),
        backbone={"name": "small-cnn", "base": 4, "depth": 2},
        image=ImageSpec(size=8, channels=1),
        splitter="holdout",
        stages=[Stage(epochs=4, lr=1e-2)],
        precision="fp32",
        decision=0.5,
    )
    return Searcher(trainer, space=SPACE, backend=backend, trials=trials, out=out, **options)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, backend, executor, workers, ranks, trials = sys.argv[1:]
    where: Any = {"name": "ray", "cpus": 1} if executor == "ray" else executor
    options: dict[str, Any] = {"executor": where, "workers": int(workers), "ranks": int(ranks), "trials": int(trials)}
    searcher(Path(folder), backend=backend, **options).run()
