"""Trains in processes of its own and ends them in the midst; what test_kills.py runs.

Processes are forked, so that torch is imported once and not for each of them.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from imgcls import Dataset, Trainer

torch.set_num_threads(1)


def trainer(out: Path, **changes: Any) -> Trainer:
    options: dict[str, Any] = {
        "backbone": {"name": "small-cnn", "base": 4, "depth": 2},
        "head": {"depth": 2, "dropout": 0.3},
        "image": {"size": 8, "channels": 1, "mean": "dataset", "std": "dataset"},
        "splitter": {"name": "stratified-group-kfold", "k": 2},
        "stages": [{"epochs": 1, "lr": 0.02, "train": "head"}, {"epochs": 3, "lr": 0.02}],
        "augment": ["flip-lr", "mixup"],
        "batch_size": 8,
        "average": 2,
        "ema": {"decay": 0.9},
        "checkpoint_every": 2,
        "device": "cpu",
        "precision": "fp32",
        **changes,
    }
    return Trainer(Dataset.from_folder(out.parent / "images", group="(g[0-9]+)-"), out=out, **options)


def begin(out: Path, **changes: Any) -> int:
    """Fork a process that trains, in a group of its own."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.setsid()
        trainer(out, **changes).fit(resume="auto")
        code = 0
    except SystemExit as error:
        code = int(error.code or 0)
    finally:
        sys.stderr.flush()
        os._exit(code)


def code_of(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def killed(folder: Path, *, kills: int, seed: int, changes: dict[str, Any]) -> dict[str, Any]:
    """Train once without and then with so many kills at random times, in another folder when a run came to its end."""
    begun = time.monotonic()
    codes = [code_of(begin(folder / "whole", **changes))]
    seconds = time.monotonic() - begun
    delays, done = random.Random(seed), 0
    while codes.count(-signal.SIGKILL) < kills:
        process = begin(folder / f"killed_{done}", **changes)
        time.sleep(delays.uniform(0.0, 0.6 * seconds))
        os.kill(process, signal.SIGKILL)
        codes.append(code_of(process))
        done += codes[-1] == 0
    codes.append(code_of(begin(folder / f"killed_{done}", **changes)))
    return {"codes": codes, "runs": [f"killed_{number}" for number in range(done + 1)]}


def stopped(folder: Path, *, changes: dict[str, Any]) -> dict[str, Any]:
    """Train once without and once with signals to the group: before the training begins, and later."""
    codes, seconds = [code_of(begin(folder / "whole", **changes))], []
    for place in (".lock", "fold_0/balance.json", "fold_1/history.csv"):
        process = begin(folder / "killed", **changes)
        while not (folder / "killed" / place).exists():
            time.sleep(0.001)
        begun = time.monotonic()
        os.killpg(process, signal.SIGTERM)
        codes.append(code_of(process))
        seconds.append(time.monotonic() - begun)
    return {"codes": [*codes, code_of(begin(folder / "killed", **changes))], "seconds": seconds}


if __name__ == "__main__":
    task, folder, options = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    print(json.dumps((killed if task == "killed" else stopped)(folder, **options)))
