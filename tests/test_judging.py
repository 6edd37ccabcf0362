"""What a run says of its own predictions: calibration, thresholds of classes, sets, abstention, baselines, ledger."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from imgcls import Dataset, Run, Trainer, load_run
from imgcls.core.errors import ConfigError, SplitError
from imgcls.evaluation.calibration import calibrate, fit_calibration
from imgcls.evaluation.decisions import decisions
from imgcls.evaluation.predictions import Predictions
from imgcls.testing import blobs, write_image_folder

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL: dict[str, Any] = {
    "backbone": {"name": "small-cnn", "base": 4, "depth": 2},
    "image": {"size": 8, "channels": 1},
    "splitter": {"name": "stratified-group-kfold", "k": 3},
    "stages": [{"epochs": 2, "lr": 0.03}],
    "batch_size": 8,
    "device": "cpu",
    "precision": "fp32",
}


def opened(folder: Path) -> Dataset:
    return Dataset.from_folder(folder, group="(g[0-9]+)-")


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGCLS_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("IMGCLS_QUIET", "1")
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_folder(tmp_path_factory.mktemp("images"), blobs(size=8, groups=24))


@pytest.fixture(scope="module")
def run(images: Path, quiet: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three calibrated folds with one test set."""
    out = tmp_path_factory.mktemp("project") / "run"
    return Trainer(opened(images), out=out, test=0.3, calibration="platt", **SMALL).fit()


@pytest.fixture(scope="module")
def many(quiet: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three classes, decided by thresholds of each."""
    folder = write_image_folder(tmp_path_factory.mktemp("many"), blobs(size=8, groups=24, classes=3))
    out = tmp_path_factory.mktemp("runs") / "run"
    return Trainer(opened(folder), out=out, decision={"name": "youden"}, **SMALL).fit()


# Calibration


def test_each_fold_is_calibrated_by_its_own_validation_records(run: Run) -> None:
    for number in range(3):
        raw = Predictions.load(run.folder / f"fold_{number}/predictions_val.npz")
        assert run.calibrations[number] == fit_calibration(raw, "platt", model=str(number))
    assert [one.model for one in run.calibrations] == ["0", "1", "2", "mean"]


def test_test_predictions_are_the_mean_of_calibrated_folds(run: Run) -> None:
    parts = [Predictions.load(run.folder / f"fold_{number}/predictions_test.npz") for number in range(3)]
    expected = Predictions.mean_of_folds([calibrate(part, run.calibrations) for part in parts])
    np.testing.assert_allclose(run.predictions("test").probs, expected.probs)


def test_predict_is_calibrated_as_the_test_was(run: Run, images: Path) -> None:
    found = run.predictions("test")
    table = load_run(run.folder).predict([images / name for name in found.ids])
    np.testing.assert_allclose(table[["prob_a", "prob_b"]], found.probs, atol=1e-5)


def test_thresholds_are_fitted_to_calibrated_probabilities(run: Run) -> None:
    val = run.predictions("val")
    (cut,) = [t.value for t in run.thresholds if (t.model, t.rule) == ("mean", "max_f1")]
    assert cut in val.mean_of_repeats().scores


def test_one_model_for_all_records_is_calibrated_by_all_of_them(run: Run) -> None:
    refitted = run.refit()
    assert refitted.predictor.calibrations[0].curves == run.calibrations[-1].curves


def test_an_unknown_calibration_is_refused(images: Path) -> None:
    with pytest.raises(
        ConfigError, match="'calibration' must be one of 'temperature', 'platt', 'isotonic', got 'beta'"
    ):
        Trainer(opened(images), calibration="beta")


# Thresholds


def test_classes_are_decided_by_their_own_thresholds(many: Run) -> None:
    cuts = {t.class_name: t.value for t in many.thresholds if t.model == "mean"}
    assert set(cuts) == {"a", "b", "c"}
    assert {t.rule for t in many.thresholds} == {"youden"}
    table = many.predict([many.data.path(at) for at in range(12)])
    shares = table[["prob_a", "prob_b", "prob_c"]].to_numpy() / [cuts[name] for name in "abc"]
    assert table["decision"].tolist() == [("a", "b", "c")[at] for at in shares.argmax(axis=1)]


def test_the_test_is_judged_at_thresholds_of_classes(many: Run) -> None:
    found = many.predictions("test")
    right = (decisions(found, many.thresholds, "youden") == found.labels).mean()
    assert many.value("accuracy", threshold="youden")[0] == pytest.approx(right)
    many.report()


def test_a_number_decides_nothing_among_more_than_two_classes(many: Run) -> None:
    with pytest.raises(
        ConfigError, match=r"'decision' must be a rule that is fitted for more than two classes, got 0.5"
    ):
        Trainer(many.data, decision=0.5)


def test_a_rule_on_a_handful_of_records_is_refused_before_the_training(tmp_path: Path) -> None:
    few = opened(write_image_folder(tmp_path / "few", blobs(size=8, groups=10, per_group=1)))
    options = {**SMALL, "splitter": {"name": "holdout", "val": 0.3, "test": 0.3}}
    with pytest.raises(
        SplitError, match=r"validate on at least 5 records of each class .* 'max_f1', got [12] of '[ab]'"
    ):
        Trainer(few, out=tmp_path / "run", **options).fit()
    for decision in (0.5, {"name": "max_f1", "force": True}):
        assert len(Trainer(few, decision=decision, **options).folds()) == 1


def test_a_rule_for_each_of_many_classes_needs_records_of_each(tmp_path: Path) -> None:
    few = opened(write_image_folder(tmp_path / "few", blobs(size=8, groups=15, per_group=1, classes=3)))
    options = {**SMALL, "splitter": {"name": "holdout", "val": 0.4, "test": 0.2}}
    with pytest.raises(SplitError, match=r"at least 5 records of each class .* 'youden', .*; leave 'decision' out"):
        Trainer(few, decision="youden", out=tmp_path / "run", **options).fit()
    assert len(Trainer(few, **options).folds()) == 1


# Predictions


def test_train_predictions_are_those_of_the_records_of_each_fold(run: Run) -> None:
    found = run.predictions("train")
    for number, fold in enumerate(run.folds):
        assert sorted(found.ids[found.fold == number]) == sorted(run.data.ids[fold.train])
    again = load_run(run.folder).predictions("train")
    np.testing.assert_array_equal(again.probs, found.probs)
    assert found.split == "train"


def test_train_predictions_are_what_predict_says(images: Path, quiet: None, tmp_path: Path) -> None:
    splitter = {"name": "holdout", "val": 0.3, "test": 0.3}
    one = Trainer(opened(images), out=tmp_path / "run", **{**SMALL, "splitter": splitter}).fit()
    found = one.predictions("train")
    table = one.predict([images / name for name in found.ids])
    np.testing.assert_allclose(table[["prob_a", "prob_b"]], found.probs, atol=1e-5)


@pytest.mark.parametrize("split", ["val", "test"])
def test_predictions_are_a_table_with_names_of_files(run: Run, split: str) -> None:
    table = pd.read_csv(run.folder / f"predictions_{split}.csv", dtype={"label": str})
    found = run.predictions(split)
    assert table["id"].tolist() == found.ids.tolist()
    np.testing.assert_allclose(table[["prob_a", "prob_b"]], found.probs)


# Sets, abstention


def test_predict_adds_sets_and_abstention(run: Run, images: Path) -> None:
    found = run.predictions("test")
    files = [images / name for name in found.ids]
    sets, rejection = run.conformal(0.2), run.rejection(coverage=0.5)
    table = run.predict(files, sets=sets, reject=rejection)
    assert table["set"].tolist() == sets.names(table[["prob_a", "prob_b"]].to_numpy())
    assert run.predict(files, sets=0.2)["set"].tolist() == table["set"].tolist()
    assert 0 < table["rejected"].mean() < 1
    assert "set" not in run.predict(files)
    with pytest.raises(ConfigError, match=r"'threshold' must be left out with 'reject', .* got 0.5"):
        run.predict(files, threshold=0.5, reject=rejection)


def test_sets_are_fitted_to_groups_of_validation_records(run: Run) -> None:
    val = run.predictions("val")
    assert val.groups is not None
    assert run.conformal(0.1).num_groups == len(set(val.groups.tolist()))
    assert run.risk_coverage("val").coverage[-1] == 1


# Errors, baselines, ledger


def test_doubtful_labels_and_errors_are_listed(run: Run) -> None:
    assert list(run.hard_errors) == ["idx", "error_type", "threshold", "path", "y_true", "y_score", "y_pred"]
    doubts = run.label_errors
    assert len(doubts) >= 20
    assert set(doubts["split"]) == {"val", "test"}
    assert set(doubts["path"]) <= set(run.data.ids)
    assert doubts["margin"].is_monotonic_increasing


def test_baselines_stand_beside_every_result(run: Run) -> None:
    table = run.baselines()
    assert set(table["baseline"]) == {"class prior", "looks", "file name", "permuted labels"}
    value = run.value("roc_auc")[0]
    assert table[table["metric"] == "roc_auc"]["model"].to_numpy() == pytest.approx(value)


def test_a_probe_of_features_is_a_baseline_too(run: Run, tmp_path: Path) -> None:
    copy = load_run(shutil.copytree(run.folder, tmp_path / "copy"))
    features = np.random.default_rng(0).normal(size=(len(run.data), 3))
    assert "linear probe" in set(copy.baselines(probe=features)["baseline"])
    (copy.folder / "baselines_probe.csv").unlink()
    assert "linear probe" in set(copy.baselines(probe=True)["baseline"])
    assert load_run(copy.folder).baselines().equals(run.baselines())


def test_each_configuration_that_opens_a_test_set_is_counted(images: Path, quiet: None, tmp_path: Path) -> None:
    first = Trainer(opened(images), out=tmp_path / "one", test=0.3, **SMALL).fit()
    assert first.test_openings is not None
    assert (first.test_openings.count, first.test_openings.configurations) == (1, 1)
    other = Trainer(opened(images), out=tmp_path / "two", test=0.3, **{**SMALL, "batch_size": 16}).fit()
    for run in (first, load_run(first.folder), other):
        assert run.test_openings is not None
        assert (run.test_openings.count, run.test_openings.configurations) == (2, 2)
    assert "opened 2 times by 2 configurations" in other.report().read_text(encoding="utf-8")
    Trainer(opened(images), out=tmp_path / "two", test=0.3, **{**SMALL, "batch_size": 16}).fit()  # opens it again
    assert first.test_openings.count == 2


def test_another_set_that_is_judged_is_opened_once_by_each_run(images: Path, run: Run, tmp_path: Path) -> None:
    copy = load_run(shutil.copytree(run.folder, tmp_path / "copy"))
    other = opened(images).subset(np.arange(20))
    found = [copy.evaluate(other, resamples=0).facts["test_openings"] for _ in range(2)]
    assert [(one["count"], one["configurations"]) for one in found] == [(1, 1), (1, 1)]
    again = load_run(shutil.copytree(run.folder, tmp_path / "again"))
    opening = again.evaluate(other, resamples=0).facts["test_openings"]
    assert (opening["count"], opening["configurations"]) == (2, 1)


def test_the_configuration_of_a_judged_set_is_that_of_the_training(run: Run, images: Path) -> None:
    run.evaluate(opened(images).subset(np.arange(20)), resamples=0)
    lines = (run.folder.parent / "test_ledger.jsonl").read_text(encoding="utf-8").splitlines()
    assert len({json.loads(line)["configuration"] for line in lines}) == 1
    assert len(lines) >= 2


def test_a_run_without_test_records_opens_none(images: Path, quiet: None, tmp_path: Path) -> None:
    splitter = {"name": "stratified-group-kfold", "k": 3, "report": "val"}
    run = Trainer(opened(images), out=tmp_path / "run", test=None, **{**SMALL, "splitter": splitter}).fit()
    assert run.test_openings is None
    assert set(run.baselines()["split"]) == {"val"}
    assert list(tmp_path.glob("*.jsonl")) == []
