"""A small run whose report is looked at."""

from __future__ import annotations

import pytest

from imgcls import ImageSpec, Run, Stage, Trainer
from imgcls.report.material import Material
from imgcls.testing import blobs


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Trainer(
        blobs(),
        backbone={"name": "small-cnn", "base": 4, "depth": 2},
        image=ImageSpec(size=16, channels=1),
        splitter={"name": "stratified-group-kfold", "k": 2},
        stages=[Stage(epochs=2, lr=1e-2)],
        decision="sensitivity>=0.9",
        precision="fp32",
        out=str(tmp_path_factory.mktemp("report") / "run"),
    ).fit()
    run.explain("grad-cam", limit=2)
    return run


@pytest.fixture(scope="session")
def material(run: Run) -> Material:
    return Material.read(run.folder)


@pytest.fixture(scope="session")
def page(run: Run) -> str:
    return run.report().read_text(encoding="utf-8")
