"""A marker burnt into real X-rays is found, and X-rays as they are give no warning."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from imgcls import Dataset, Trainer
from imgcls.report.explained import read_explained

pytestmark = [pytest.mark.realdata, pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

#: Images that are enough for a small network.
COUNT = 600


@pytest.mark.parametrize("marker", [False, True])
def test_a_marker_in_the_corner_of_x_rays_warns(marker: bool, tmp_path: Path) -> None:
    path = Path(os.environ["IMGCLS_TEST_DATA"]) / "pneumoniamnist" / "pneumoniamnist.npz"
    with np.load(path) as file:
        images, labels = file["train_images"][:COUNT].copy(), file["train_labels"][:COUNT, 0]
    if marker:
        images[labels == 1, 1:4, 1:4] = 255
    data = Dataset.from_arrays(images, np.array(["normal", "pneumonia"])[labels], positive="pneumonia")
    run = Trainer(
        data,
        backbone={"name": "small-cnn", "base": 8, "depth": 3},
        image={"size": 28, "channels": 1},
        splitter="holdout",
        stages=[{"epochs": 8, "lr": 0.01}],
        device="cpu",
        precision="fp32",
        out=tmp_path / "run",
    ).fit()
    run.explain("lrp-zennit", limit=None, box=(0.15, 0.1, 1, 0.9))
    warnings = read_explained(run.folder).warnings
    assert any("'pneumonia' is decided" in warning for warning in warnings) is marker, warnings
