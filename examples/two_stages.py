"""Transfer in two stages: a network that knows the digits 0 to 4 learns 5 to 9, first its head. Runs in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from imgcls import Dataset, Run, Stage, Trainer
from imgcls.demo import digits


def fit(data: Dataset, out: Path, *, stages: list[Stage], **weights: object) -> Run:
    net, image = {"name": "timm", "model": "test_resnet", **weights}, {"size": 32, "channels": 1}
    return Trainer(data, backbone=net, image=image, splitter="holdout", stages=stages, out=out).fit()


def main(out: str = "runs/two-stages", epochs: int = 4) -> None:
    data, folder = digits(), Path(out)
    pixels = np.stack([data[place].image[..., 0] for place in range(len(data))])

    def part(chosen: np.ndarray) -> Dataset:
        return Dataset.from_arrays(pixels[chosen], data.labels[chosen], groups=data.frame["group"][chosen])

    fit(part(data.labels < 5), folder / "before", stages=[Stage(epochs=epochs, lr=3e-3)], pretrained=False)

    head = Stage(epochs=epochs, train="head", lr=1e-2)  # the backbone is frozen, its statistics too
    everything = Stage(epochs=epochs, train="all", lr=3e-3, lr_scale=0.1)  # the backbone ten times more slowly
    weights = str(folder / "before" / "fold_0" / "checkpoints" / "best")
    after = fit(part(data.labels >= 5), folder / "after", stages=[head, everything], weights=weights)
    print(after.history[["stage", "epoch", "val_accuracy"]].to_string(index=False))
    print("accuracy on 5 to 9, and its 95 % interval:", after.value("accuracy"))


if __name__ == "__main__":
    main()
