"""The demonstration: real handwriting, cross-validated by writer, explained, on one page."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from imgcls.core.folders import new_folder
from imgcls.data.dataset import Dataset
from imgcls.data.spec import ImageSpec
from imgcls.run import Run
from imgcls.trainer import Trainer
from imgcls.training.stages import Stage

__all__ = ["digits", "run_demo"]

#: Samples of one writer follow each other in the set; 13 writers gave this half of it.
WRITERS = 13


def digits() -> Dataset:
    """Load the handwritten digits that come with scikit-learn.

    The writers are not recorded, but the samples of one follow each other; so the set is cut
    into 13 blocks, which serve as groups.

    Returns:
        1797 grey images of 8 x 8 pixels in 10 classes (Alpaydin and Kaynak, 1998).
    """
    from sklearn.datasets import load_digits

    raw = load_digits()
    arrays = np.round(raw.images * (255 / 16)).astype(np.uint8)
    blocks = np.arange(len(arrays)) * WRITERS // len(arrays)
    return Dataset.from_arrays(arrays, raw.target, groups=[f"block-{block:02d}" for block in blocks])


def run_demo(out: str | Path | None = None, *, epochs: int = 12) -> Run:
    """Train, evaluate, explain and report on the digits.

    Args:
        out: The run's folder; None takes the next free `runs/demo-001`.
        epochs: How many epochs each of the five folds trains.

    Returns:
        The finished run.
    """
    run = Trainer(
        digits(),
        backbone={"name": "small-cnn", "base": 32, "depth": 3},
        image=ImageSpec(size=16, channels=1),
        stages=[Stage(epochs=epochs, lr=3e-3)],
        batch_size=64,
        out=str(new_folder(out, prefix="demo")),
    ).fit()
    run.explain("grad-cam", limit=8)
    run.explain("grad-cam", limit=12, errors=True)
    run.report()
    return run
