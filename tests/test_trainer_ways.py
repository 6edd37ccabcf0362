"""Ways of training: sizes of stages, short runs, what is said of a model, runs that must repeat to the bit."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from imgcls import Run, Trainer, preparing
from imgcls.core.errors import ConfigError
from imgcls.core.folders import read_json
from imgcls.models.base import Classifier
from imgcls.runtime.device import Runtime
from imgcls.runtime.interruption import Interrupted
from imgcls.testing import blobs
from imgcls.training.events import EpochEnd, StepEnd

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL: Mapping[str, Any] = {
    "backbone": {"name": "small-cnn", "base": 4, "depth": 2},
    "image": {"size": 8, "channels": 1},
    "splitter": {"name": "holdout", "val": 0.3, "test": 0.3},
    "stages": [{"epochs": 1, "lr": 0.03}],
    "batch_size": 8,
    "device": "cpu",
    "precision": "fp32",
}


def trainer(**changes: Any) -> Trainer:
    return Trainer(blobs(size=8), **{**SMALL, **changes})


@pytest.fixture
def fitted(tmp_path: Path) -> Callable[..., Run]:
    return lambda **changes: trainer(**{"out": tmp_path / "run", **changes}).fit()


def steps_of(told: list[StepEnd | EpochEnd]) -> list[tuple[int, int]]:
    """Stage and epoch of each step."""
    return [(event.stage, event.epoch) for event in told if isinstance(event, StepEnd)]


# Sizes of stages


def test_each_stage_trains_on_its_size_and_validation_keeps_its_own(
    fitted: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, int]] = []
    forward = Classifier.forward

    def noted(model: Classifier, images: torch.Tensor) -> torch.Tensor:
        seen.append((model.training, images.shape[-1]))
        return forward(model, images)

    monkeypatch.setattr(Classifier, "forward", noted)
    fitted(stages=[{"epochs": 1, "lr": 0.03, "size": 12}, {"epochs": 1, "lr": 0.03}])
    assert [size for training, size in seen if training] == [12] * 3 + [8] * 3
    assert {size for training, size in seen if not training} == {8}


# Short runs


@pytest.mark.parametrize(("limit", "steps"), [(2, 2), (99, 3)])
def test_an_epoch_has_so_many_steps_at_most(limit: int, steps: int, fitted: Callable[..., Run]) -> None:
    told: list[StepEnd | EpochEnd] = []
    stages = [{"epochs": 2, "lr": 0.03}, {"epochs": 1, "lr": 0.01}]
    run = fitted(limit=limit, stages=stages, callbacks=[told.append])
    assert len(run.folds[0].train) == 24
    assert steps_of(told) == [(0, 0)] * steps + [(0, 1)] * steps + [(1, 2)] * steps


def test_a_fast_run_takes_two_steps_in_each_stage_and_does_the_rest(
    fitted: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    told: list[StepEnd | EpochEnd] = []
    stages = [{"epochs": 5, "train": "head"}, {"epochs": 7, "lr": 0.01, "warmup": 9, "schedule": "cosine"}]
    run = fitted(fast_run=True, stages=stages, callbacks=[told.append])
    assert steps_of(told) == [(0, 0)] * 2 + [(1, 1)] * 2
    assert np.isfinite(run.value("roc_auc")[0])
    assert "its numbers mean nothing" in caplog.text
    assert "its numbers mean nothing" in (run.folder / "logs" / "warning.jsonl").read_text()


@pytest.mark.parametrize(
    ("name", "value"),
    [("optimizer", "sgd"), ("schedule", "constant"), ("augment", "light"), ("balancer", {"sampler": "weighted"})],
)
def test_what_every_stage_has_of_its_own_is_said_to_have_no_effect(
    name: str, value: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = f"'{name}' of the Trainer has no effect, since every stage has its own"
    own = {"epochs": 1, name: value}
    trainer(fast_run=True, stages=[own], out=tmp_path / "one", **{name: value}).fit()
    assert said in caplog.text
    caplog.clear()
    trainer(fast_run=True, stages=[own, {"epochs": 1}], out=tmp_path / "two", **{name: value}).fit()
    trainer(fast_run=True, stages=[own], out=tmp_path / "three").fit()
    assert said not in caplog.text


def test_a_profile_is_of_the_first_fold(fitted: Callable[..., Run]) -> None:
    run = fitted(profile=True, limit=1, stages=[{"epochs": 5, "lr": 0.03}])
    assert "convolution" in (run.folder / "fold_0" / "profile.txt").read_text()
    assert json.loads((run.folder / "fold_0" / "trace.json").read_text())["traceEvents"]


# What is said of a model


@pytest.mark.parametrize(("epochs", "lr", "collapsed"), [(1, 1e-9, [0]), (8, 0.03, [])])
def test_a_model_that_gives_all_records_one_class_is_warned_of_with_its_fold(
    epochs: int, lr: float, collapsed: list[int], fitted: Callable[..., Run]
) -> None:
    run = fitted(stages=[{"epochs": epochs, "lr": lr}])
    assert len(set(run.predictions("val").probs.argmax(axis=1))) == 2 - len(collapsed)
    told = map(json.loads, (run.folder / "logs" / "warning.jsonl").read_text().splitlines())
    assert [line["fold"] for line in told if "is the most probable class of every" in str(line)] == collapsed


# Bits


@pytest.mark.parametrize("wanted", [True, False])
def test_torch_is_told_to_repeat_itself_inside_of_the_training_alone(wanted: bool, fitted: Callable[..., Run]) -> None:
    found: set[bool] = set()
    fitted(deterministic=wanted, callbacks=[lambda _: found.add(torch.are_deterministic_algorithms_enabled())])
    assert found == {wanted}
    assert not torch.are_deterministic_algorithms_enabled()


def test_torch_is_as_before_after_a_training_that_failed(fitted: Callable[..., Run]) -> None:
    def fails(_: StepEnd | EpochEnd) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        fitted(deterministic=True, callbacks=[fails])
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_was_measured_at_the_beginning_holds_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(event: StepEnd | EpochEnd) -> None:
        raise Interrupted

    out = tmp_path / "run"
    monkeypatch.setattr(preparing, "choose_runtime", lambda *_, **__: Runtime(precision="bf16"))
    with pytest.raises(Interrupted):
        trainer(out=out, precision="auto", callbacks=[stops]).fit()
    monkeypatch.setattr(preparing, "choose_runtime", lambda *_, **__: pytest.fail("measured again"))
    trainer(out=out, precision="auto").fit()
    assert read_json(out / "environment.json")["runtime"]["precision"] == "bf16"


# Refusals


def test_single_records_are_refused_where_batch_norm_trains(fitted: Callable[..., Run]) -> None:
    with pytest.raises(ConfigError, match=r"'batch_size' must be at least 2 .* 'body\.blocks\.0\.1', got 1; a single"):
        fitted(batch_size=1)


def test_single_records_train_a_head_whose_batch_norm_is_frozen(fitted: Callable[..., Run]) -> None:
    told: list[StepEnd | EpochEnd] = []
    fitted(batch_size=1, limit=3, stages=[{"epochs": 1, "train": "head"}], callbacks=[told.append])
    assert [event.records for event in told if isinstance(event, StepEnd)] == [1, 1, 1]
