"""Train on several GPUs, or in several processes of a CPU: torchrun --nproc_per_node 2 examples/under_torchrun.py."""

from __future__ import annotations

import os
import sys

from imgcls import Trainer
from imgcls.demo import digits


def main(out: str = "runs/distributed", epochs: int = 2) -> None:
    run = Trainer(
        digits(),
        backbone={"name": "small-cnn", "base": 16, "depth": 2},
        image={"size": 16, "channels": 1},
        splitter="holdout",
        stages=[{"epochs": epochs, "lr": 3e-3}],
        batch_size=64,  # of all processes together, so that their number changes nothing
        out=out,
    ).fit()
    if os.environ.get("RANK", "0") == "0":  # every process has the run; one tells of it
        print(os.environ.get("WORLD_SIZE", "1"), "processes; accuracy and its 95 % interval:", run.value("accuracy"))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/distributed")
