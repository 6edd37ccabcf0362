"""Training that begins with the weights of an earlier run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch

from imgcls import Dataset, Run, Trainer
from imgcls.core.errors import SplitError, WeightsError
from imgcls.data.folds import Fold
from imgcls.inference.starting import Start
from imgcls.models.base import Classifier
from imgcls.models.head import Head
from imgcls.models.small_cnn import SmallCnn
from imgcls.runtime.checkpoints import load_checkpoint
from imgcls.testing import blobs, write_image_folder

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = blobs(size=8)
SMALL: Mapping[str, Any] = {
    "backbone": {"name": "small-cnn", "base": 4, "depth": 2},
    "image": {"size": 8, "channels": 1},
    "splitter": {"name": "stratified-group-kfold", "k": 2},
    "stages": [{"epochs": 1, "lr": 0.03}],
    "batch_size": 8,
    "device": "cpu",
    "precision": "fp32",
}


def trainer(data: Dataset = DATA, **changes: Any) -> Trainer:
    return Trainer(data, **{**SMALL, **changes})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Run:
    return trainer(out=tmp_path_factory.mktemp("earlier") / "run", snapshots={"every": 1, "keep": 1}).fit()


def network(*, outputs: int = 2, base: int = 4, head: Head | None = None) -> Classifier:
    backbone = SmallCnn(base=base, depth=2)
    return backbone.build(outputs, in_channels=1, image_size=(8, 8), head=head or Head(), seed=7)


def weights(run: Run, fold: int) -> dict[str, torch.Tensor]:
    return load_checkpoint(run.folder / f"fold_{fold}" / "checkpoints" / "best").weights


def equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def started(path: Path, fold: Fold, number: int, *, data: Dataset = DATA) -> Mapping[str, torch.Tensor]:
    model = network()
    Start.over(path).load(model, data, fold, number)
    return model.state_dict()


@pytest.mark.parametrize("number", [0, 1])
def test_each_fold_begins_with_the_weights_of_its_fold(run: Run, number: int) -> None:
    found = started(run.folder, run.folds[number], number)
    assert equal(found, weights(run, number))
    assert not equal(found, weights(run, 1 - number))


def test_where_the_folds_stand_in_another_order_the_model_that_held_the_records_back_is_taken(run: Run) -> None:
    assert equal(started(run.folder, run.folds[1], 0), weights(run, 1))


def test_a_run_trains_on_from_these_weights(run: Run, tmp_path: Path) -> None:
    head = [{"epochs": 1, "train": "head", "lr": 1e-12}]  # the frozen backbone stays bit by bit
    later = trainer(out=tmp_path / "run", init_from=run, stages=head).fit()
    for number in (0, 1):
        old, new = weights(run, number), weights(later, number)
        assert all(torch.equal(old[name], new[name]) for name in old if name.startswith("body."))
        torch.testing.assert_close(new["head.0.weight"], old["head.0.weight"])


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_model_that_trained_on_what_a_fold_holds_back_is_refused(run: Run, part: str) -> None:
    trained = [fold.train for fold in run.folds]
    leak = np.array([trained[0][0], trained[1][0]])  # each model trained on one of them
    fold = attrs.evolve(run.folds[0], **{part: leak})
    with pytest.raises(SplitError, match=r"'init_from' must have a model .* what fold 0 validates or tests, got none"):
        started(run.folder, fold, 0)


def test_records_that_chose_the_weights_may_choose_again_but_never_test(run: Run) -> None:
    chosen = np.array([fold.val[0] for fold in run.folds])
    fold = attrs.evolve(run.folds[0], test=chosen)
    with pytest.raises(SplitError):
        started(run.folder, fold, 0)


def test_folds_that_leak_are_refused_before_anything_trains(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(SplitError, match="divide the set as that run did"):
        trainer(out=out, init_from=run, seed=1).fit()
    assert not out.exists()


def test_a_set_of_other_files_with_the_same_ids_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = Dataset.from_folder(write_image_folder(tmp_path, DATA), group="(g[0-9]+)-")
    folds = trainer(data).folds()
    options: dict[str, Any] = {"checkpoints": (tmp_path,), "chosen": (frozenset(),), "fingerprint": "another"}
    Start(**options, trained=(frozenset({"elsewhere.png"}),)).check(data, folds)
    assert not caplog.messages
    tested = np.intersect1d(folds[1].test, folds[0].train)[0]
    Start(**options, trained=(frozenset({str(data.ids[tested])}),)).check(data, folds)
    assert "trained on records with ids that fold 1 holds back" in caplog.text


def test_records_of_another_set_cannot_leak(run: Run) -> None:
    other = blobs(size=8, seed=1)
    assert other.fingerprint != DATA.fingerprint
    fold = attrs.evolve(run.folds[0], test=np.arange(len(other)))
    assert equal(started(run.folder, fold, 1, data=other), weights(run, 1))


@pytest.mark.parametrize("name", ["best", "epochs/0000"])
def test_one_checkpoint_serves_the_fold_that_it_does_not_know(run: Run, name: str) -> None:
    path = run.folder / "fold_1" / "checkpoints" / name
    assert equal(started(path, run.folds[1], 0), weights(run, 1))
    with pytest.raises(SplitError):
        started(path, run.folds[0], 0)


def test_another_backbone_is_refused(run: Run) -> None:
    with pytest.raises(WeightsError, match=r"'init_from' must hold weights of the same backbone, got .*body\.blocks"):
        Start.over(run.folder).load(network(base=8), DATA, run.folds[0], 0)


@pytest.mark.parametrize("classes", [("a", "c"), ("a", "b", "c")])
def test_other_classes_are_refused(run: Run, classes: tuple[str, ...]) -> None:
    images = np.zeros((60, 8, 8), dtype=np.uint8)
    other = Dataset.from_arrays(images, np.resize(classes, 60))
    with pytest.raises(WeightsError, match=r"'init_from' must be a run on the classes .*, got one on \['a', 'b'\]"):
        trainer(other, splitter="stratified-kfold", init_from=run).folds()


def test_a_head_of_another_form_begins_anew_and_that_is_said(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    model, fresh = network(head=Head(depth=2)), network(head=Head(depth=2)).state_dict()
    with caplog.at_level("INFO"):
        Start.over(run.folder).load(model, DATA, run.folds[0], 0)
    found, old = model.state_dict(), weights(run, 0)
    assert all(torch.equal(found[name], old[name]) for name in old if name.startswith("body."))
    assert all(torch.equal(found[name], fresh[name]) for name in fresh if name.startswith("head."))
    assert "a new head, since the heads differ in form" in caplog.text


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="'init_from' must be a run or the folder of a checkpoint"):
        Start.over(tmp_path)
