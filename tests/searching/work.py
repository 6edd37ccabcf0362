"""Trials of all kinds, for processes that import this module."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from imgcls.core.errors import TrainingError
from imgcls.runtime.ranks import joined
from imgcls.searching.trial import FoldDone, Reached


def reached(value: float | None, **changes: Any) -> Reached:
    options: dict[str, Any] = {"values": [value], "metrics": [{"roc_auc": value}], "extras": {}, "stopped": ""}
    return Reached(**{**options, "epochs": 1, "seconds": 0.0, **changes})


def quick(shared: Any, tell: Any, *, params: dict[str, Any], budget: int | None, folder: Path) -> Reached:
    return reached(float(params.get("x", 0.0)), stopped="paused" if budget else "")


def fated(shared: Any, tell: Any, *, params: dict[str, Any], budget: int | None, folder: Path) -> Reached:
    fate = params["fate"]
    if fate == "raises":
        raise ValueError("no")
    if fate == "memory":
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
    if fate == "loss":
        raise TrainingError("the loss must be finite, got nan")
    if fate == "nan":
        return reached(None)
    if fate == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    return reached(0.5)


def dies_once(shared: Any, tell: Any, *, params: dict[str, Any], budget: int | None, folder: Path) -> Reached:
    mark = folder.parent / f"{folder.name}.died"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return reached(1.0)


def needs_parts(
    shared: Any, tell: Any, *, params: dict[str, Any], budget: int | None, folder: Path, parts: int = 1
) -> Reached:
    if params["fate"] == "hopeless":
        raise TrainingError("a step must fit into the memory of 'cuda:0', got too little even for 2 records at a time")
    if parts < 4:
        raise RuntimeError("CUDA out of memory. Tried to allocate 1 bytes")
    return reached(float(parts))


def with_folds(shared: Any, tell: Any, *, params: dict[str, Any], budget: int | None, folder: Path) -> Reached:
    values: list[float | None] = []
    for fold in range(3):
        values.append(float(params["x"]))
        if fold < 2 and tell.ask(FoldDone(fold=fold, value=float(params["x"]))):
            return reached(None, values=values, stopped="pruned")
    return reached(None, values=values)


def sees(shared: Any, tell: Any, *, params: dict[str, Any], budget: int | None, folder: Path) -> Reached:
    time.sleep(0.05)
    gpu = float(os.environ.get("CUDA_VISIBLE_DEVICES", "-1"))
    return reached(gpu, extras={"pid": float(os.getpid())})


def together(shared: Any, tell: Any, *, fate: str) -> list[Any]:
    with joined("cpu") as ranks:
        if ranks.rank == 1 and fate == "raises":
            raise ValueError("not in process 1")
        if ranks.rank == 1 and fate == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        ranks.wait()
        return [shared, ranks.rank, ranks.world]
