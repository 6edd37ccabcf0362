"""How fast a predictor is."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from imgcls import ImageSpec, ImgclsError, Run, Stage, Trainer
from imgcls.cli import app
from imgcls.inference.benchmarking import benchmark
from imgcls.inference.predictor import Predictor
from imgcls.runtime.timing import latencies, timed
from imgcls.searching.objectives import measured
from imgcls.testing import blobs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Trainer(
        blobs(),
        backbone={"name": "small-cnn", "base": 4, "depth": 2},
        image=ImageSpec(size=8, channels=1),
        splitter="holdout",
        stages=[Stage(epochs=1)],
        decision=0.5,
        out=tmp_path_factory.mktemp("runs") / "run",
    ).fit()


class _Slow(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        time.sleep(0.005)
        return images


def test_calls_are_timed_after_the_warm_ones() -> None:
    calls: list[int] = []

    def call() -> None:
        time.sleep(0.05 if len(calls) < 2 else 0.001)
        calls.append(1)

    found = timed(call, rounds=4, warm=2)
    assert len(found) == 4
    assert len(calls) == 6
    assert 0.001 <= found.min() <= found.max() < 0.05


def test_a_search_minimises_the_median_that_a_benchmark_tells_of_the_network() -> None:
    image = ImageSpec(size=8, channels=1)
    told = np.median(latencies(_Slow(), image, "cpu", rounds=9))
    found = measured(["latency"], _Slow(), image, "cpu")["latency"]
    assert found == pytest.approx(told, rel=0.3)
    assert found >= 5


def test_every_part_and_batch_size_is_measured(run: Run) -> None:
    found = run.benchmark(batch_sizes=[4, 1], rounds=5)
    assert [(row["part"], row["batch"]) for row in found.rows] == [("arrays", 1), ("arrays", 4), ("network", 1)]
    for row in found.rows:
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
    saved = json.loads((run.folder / "benchmark.json").read_text(encoding="utf-8"))
    assert saved["rows"] == list(found.rows)
    assert found.table.shape[0] == 3


def test_the_rate_is_images_and_not_batches(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Predictor, "probs", lambda *_: time.sleep(0.01))
    rows = benchmark(run.predictor, batch_sizes=(1, 8), rounds=3).rows
    assert rows[0]["images_per_second"] == pytest.approx(100, rel=0.2)
    assert rows[1]["images_per_second"] == pytest.approx(800, rel=0.2)


def test_memory_of_a_batch_is_what_it_needed_at_most(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"VmRSS": 100.0, "VmHWM": 228.0}
    monkeypatch.setattr("imgcls.inference.benchmarking._status", told.__getitem__)
    rows = benchmark(run.predictor, batch_sizes=(64,), rounds=2).rows
    assert rows[0]["memory_mib"] in {128.0, None}  # None where the system does not tell
    assert rows[0]["memory_mib_per_image"] in {2.0, None}


MEASURED = """
import numpy as np
from imgcls.inference import benchmarking
before = benchmarking._status("VmRSS")
with benchmarking._peak() as peak:
    np.ones(2**24)
print(-1 if peak() is None else peak() - before)
"""


def test_the_highest_memory_is_that_of_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True)
    grown = float(done.stdout)
    if grown < 0:
        pytest.skip("the system does not tell")
    assert grown == pytest.approx(128, abs=16)


@pytest.mark.parametrize("wrong", [{"batch_sizes": [0]}, {"batch_sizes": []}, {"rounds": 0}, {"device": "gpu7"}])
def test_wrong_options_are_refused(run: Run, wrong: dict[str, Any]) -> None:
    with pytest.raises(ImgclsError, match="must"):
        run.benchmark(**wrong)


def test_the_command_measures_files(run: Run, make_images: object) -> None:
    folder = make_images("a.png", "b.png")  # type: ignore[operator]
    words = ["benchmark", str(run.folder), str(folder), "--batch", "2", "--rounds", "2"]
    shown = CliRunner().invoke(app, words, catch_exceptions=False).stdout
    assert "files" in shown
    assert "p99_ms" in shown
    assert str(run.folder / "benchmark.json") in shown
