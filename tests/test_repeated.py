"""Runs whose folds are repeated: each record counts once a repeat, in numbers, predictions and the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgcls import ImageSpec, Run, Stage, Trainer, load_run
from imgcls.evaluation import results
from imgcls.testing import blobs

KFOLD = {"name": "stratified-group-kfold", "k": 2}


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "RESAMPLES", 20)


def trained(out: Path, splitter: dict[str, Any], **options: Any) -> Run:
    Trainer(
        blobs(),
        backbone={"name": "small-cnn", "base": 4, "depth": 2},
        image=ImageSpec(size=16, channels=1),
        splitter={"name": "repeated", "splitter": splitter, "times": 2},
        stages=[Stage(epochs=1, lr=1e-2)],
        precision="fp32",
        out=out,
        **options,
    ).fit()
    return load_run(out)


def test_a_rotating_test_is_averaged_over_repeats(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", KFOLD)
    predictions = run.predictions("test")
    assert [len(set(predictions.ids[predictions.repeat == repeat])) for repeat in (0, 1)] == [60, 60]
    assert set(zip(predictions.fold.tolist(), predictions.repeat.tolist(), strict=True)) == {
        (0, 0),
        (1, 0),
        (2, 1),
        (3, 1),
    }
    assert set(run.predictions("val").repeat) == {0, 1}
    right = predictions.probs.argmax(axis=1) == predictions.labels
    value, low, high = run.value("accuracy")
    assert value == pytest.approx(np.mean([right[predictions.repeat == repeat].mean() for repeat in (0, 1)]))
    assert low <= value <= high
    page = run.report().read_text(encoding="utf-8")
    assert (
        "On 60 test images of 15 groups, each record by the fold that did not train on it, mean of the values of 2"
        in page
    )
    assert "<h3>Single repeats</h3>" in page
    assert "Each record counts once for each repeat that predicted it." in page


def test_a_fixed_test_meets_the_mean_of_all_folds(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", KFOLD, test=0.3)
    predictions = run.predictions("test")
    assert len(predictions) == len(set(predictions.ids))
    assert (set(predictions.fold), set(predictions.repeat)) == ({-1}, {-1})
    tested = run.metrics[run.metrics["split"] == "test"]
    assert set(tested["fold"]) == {"mean", "folds", *"0123"}
    assert not run.used_for_selection


def test_validation_that_is_reported_says_so(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", {**KFOLD, "report": "val"})
    assert run.used_for_selection
    table = run.metrics[(run.metrics["metric"] == "accuracy") & (run.metrics["threshold"] == "max_f1")]
    assert set(table["fold"]) == {"all", "repeat 0", "repeat 1", "folds", *"0123"}
    page = run.report().read_text(encoding="utf-8")
    assert "Used for selection: there are no test records" in page
    assert "<td>val (used for selection)</td>" in page
