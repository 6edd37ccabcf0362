"""Predict images with a run, export it, and predict with the export alone. Needs imgcls[onnx]. Runs in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import imgcls
from imgcls.demo import digits


def main(out: str = "runs/export", epochs: int = 2) -> None:
    data = digits()
    run = imgcls.Trainer(
        data,
        backbone={"name": "small-cnn", "base": 8, "depth": 2},
        image={"size": 16, "channels": 1},
        splitter={"name": "stratified-group-kfold", "k": 2},
        stages=[{"epochs": epochs, "lr": 3e-3}],
        out=out,
    ).fit()
    files = [Path(out) / f"digit{place}.png" for place in range(5)]
    for place, file in enumerate(files):
        Image.fromarray(data[place].image[..., 0]).save(file)

    table = run.predict(files)  # the mean of the two folds
    print(table[["path", "decision"]])
    exported = imgcls.load_exported(run.export("onnx"))  # checked on real images while it is written
    columns = [f"prob_{name}" for name in data.classes]
    apart = np.abs(table[columns].to_numpy() - exported.predict(files)[columns].to_numpy()).max()
    print(f"without torch the probabilities are the same within {apart:.1e}")


if __name__ == "__main__":
    main()
