"""A training that is stopped goes on where it was, and ends with the same weights. Runs in seconds."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from imgcls import Trainer
from imgcls.demo import digits


def trainer(out: Path, **options: Any) -> Trainer:
    net, image = {"name": "small-cnn", "base": 8, "depth": 2}, {"size": 16, "channels": 1}
    stages = [{"epochs": 3, "lr": 3e-3}]
    fixed: dict[str, Any] = {"splitter": "holdout", "augment": "light", "precision": "fp32"}
    return Trainer(digits(), backbone=net, image=image, stages=stages, out=out, **fixed, **options)


def stop(event: Any) -> None:
    if event.step == 40:
        signal.raise_signal(signal.SIGTERM)  # as a scheduler sends it, or Ctrl-C


def main(out: str = "runs/resume") -> None:
    try:
        trainer(Path(out) / "stopped", callbacks=[stop]).fit()
    except SystemExit as error:
        print("stopped with exit code", error.code)
    trainer(Path(out) / "stopped").fit()  # the same call again
    trainer(Path(out) / "whole").fit()
    both = [load_file(next((Path(out) / name).rglob("best/*.safetensors"))) for name in ("stopped", "whole")]
    print("the same bits:", all(both[0][name].equal(weight) for name, weight in both[1].items()))


if __name__ == "__main__":
    main()
