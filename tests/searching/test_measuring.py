"""Trials that leave precision open: what one of them measured holds for the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from imgcls import Float, Searcher, Trainer, preparing
from imgcls.core.folders import read_json
from imgcls.runtime.device import Runtime
from imgcls.testing import blobs

pytestmark = pytest.mark.usefixtures("one_thread")


def searcher(out: Path, space: dict[str, Any], trials: int) -> Searcher:
    trainer = Trainer(
        blobs(size=8),
        backbone={"name": "small-cnn", "base": 4, "depth": 2},
        image={"size": 8, "channels": 1},
        splitter="holdout",
        stages=[{"epochs": 1, "lr": 0.01}],
        device="cpu",
        decision=0.5,
    )
    return Searcher(trainer, space=space, backend="random", trials=trials, out=out)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The networks that were measured; each measurement comes out otherwise."""
    found: list[Any] = []

    def choose(model: Any, *_: Any, **__: Any) -> Runtime:
        found.append(model.body)
        return Runtime(precision=["bf16", "fp32"][len(found) % 2], channels_last=True)

    monkeypatch.setattr(preparing, "choose_runtime", choose)
    return found


def precisions(out: Path) -> list[str]:
    return [read_json(path)["runtime"]["precision"] for path in sorted(out.glob("trial_*/environment.json"))]


def test_trials_of_one_network_are_measured_once_also_when_the_study_goes_on(
    tmp_path: Path, measured: list[Any]
) -> None:
    one = searcher(tmp_path, {"stages.0.lr": Float(1e-3, 1e-1, log=True)}, trials=2)
    one.run()
    attrs.evolve(one, trials=3).run()
    assert len(measured) == 1
    assert precisions(tmp_path) == ["fp32"] * 3


def test_another_network_is_measured_for_itself(tmp_path: Path, measured: list[Any]) -> None:
    searcher(tmp_path, {"backbone.base": [4, 8]}, trials=2).run()
    assert len(measured) == 2
    assert precisions(tmp_path) == ["fp32", "bf16"]
    assert [json.loads(key)[0]["base"] for key in read_json(tmp_path / "runtime.json")] == [4, 8]
