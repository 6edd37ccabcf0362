import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from imgcls import Dataset, Run, Trainer, load_run
from imgcls.core.config import from_yaml
from imgcls.core.errors import ConfigError, DataError, RunError
from imgcls.core.folders import read_json, sha256, write_json
from imgcls.evaluation.evaluate import COLUMNS
from imgcls.evaluation.thresholds import RULES
from imgcls.runtime.checkpoints import load_checkpoint
from imgcls.testing import blobs, write_image_folder
from imgcls.training.monitor import MONITORS

pytestmark = pytest.mark.usefixtures("one_thread")


def trained(data: Dataset, out: Path, **changes: Any) -> Run:
    options: dict[str, Any] = {
        "backbone": {"name": "small-cnn", "base": 4, "depth": 2},
        "image": {"size": 8, "channels": 1},
        "splitter": {"name": "stratified-group-kfold", "k": 3},
        "stages": [{"epochs": 2, "lr": 0.03}],
        "batch_size": 8,
        "decision": "sensitivity>=0.9",
        "device": "cpu",
        "precision": "fp32",
    }
    return Trainer(data, out=out, **{**options, **changes}).fit()


def from_folder(folder: Path) -> Dataset:
    return Dataset.from_folder(folder, group="(g[0-9]+)-")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_folder(tmp_path_factory.mktemp("images"), blobs(size=8, groups=18))


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Three folds whose test part rotates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGCLS_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("IMGCLS_QUIET", "1")
        yield trained(from_folder(images), tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def copy(run: Run, tmp_path: Path) -> Path:
    """A copy of the run's folder, to be spoilt."""
    return Path(shutil.copytree(run.folder, tmp_path / "copy"))


# What lies on disk


def test_the_folder_holds_what_the_design_names(run: Run) -> None:
    names = {path.relative_to(run.folder).as_posix() for path in run.folder.rglob("*")}
    each = ("history.csv", "predictions_val.npz", "balance.json", "checkpoints/best", "checkpoints/last")
    assert names >= {
        *("config.yaml", "environment.json", "manifest.csv", "splits.json", "model.json", "predictions_test.npz"),
        *("evaluation.json", "thresholds.json", "metrics.csv", "hard_errors.csv", "run.json", "events.csv", "logs"),
        *(f"fold_{number}/{name}" for number in range(3) for name in each),
    }
    assert not [name for name in names if ".tmp" in name]


def test_run_json_is_written_last_and_has_every_checksum(run: Run) -> None:
    files = [path for path in run.folder.rglob("*") if path.is_file() and path.name not in {"run.json", ".lock"}]
    files = [path for path in files if "logs" not in path.parts]
    assert max(file.stat().st_mtime_ns for file in files) <= (run.folder / "run.json").stat().st_mtime_ns
    saved = read_json(run.folder / "run.json")
    # Weights carry their own; the card is to be written on by its author.
    kept = [file for file in files if file.suffix not in {".safetensors", ".md"}]
    sums = {file.relative_to(run.folder).as_posix(): sha256(file) for file in kept}
    assert saved["checksums"] == sums
    assert (saved["status"], saved["num_folds"], saved["schema"]) == ("complete", 3, 1)
    assert saved["fingerprint"] == run.data.fingerprint


def test_the_manifest_has_every_record(run: Run) -> None:
    manifest = pd.read_csv(run.folder / "manifest.csv", dtype=str)
    pd.testing.assert_frame_equal(manifest, run.data.frame[manifest.columns.tolist()].astype(object), check_dtype=False)
    assert {"id", "label", "group"} <= set(manifest.columns)


def test_the_splits_name_every_record_once_a_fold(run: Run) -> None:
    for fold in read_json(run.folder / "splits.json")["folds"]:
        assert sorted(name for part in fold.values() for name in part) == sorted(run.data.ids)


def test_the_environment_names_versions_runtime_and_seed(run: Run) -> None:
    saved = read_json(run.folder / "environment.json")
    assert saved["packages"]["torch"]
    assert saved["runtime"]["precision"] == "fp32"
    assert saved["seed"] == 42


def test_the_history_has_every_epoch_of_every_fold(run: Run) -> None:
    table = run.history
    assert table[["fold", "epoch"]].to_numpy().tolist() == [[fold, epoch] for fold in range(3) for epoch in range(2)]
    train = [f"train_{name}" for name in MONITORS]  # the first of them is the loss
    wanted = ["epoch", "stage", "step", "lr", *train, *(f"val_{name}" for name in MONITORS), "seconds", "best", "fold"]
    assert list(table.columns) == wanted


def test_the_kept_epoch_is_the_one_whose_numbers_validation_has(run: Run) -> None:
    for number in range(3):
        kept = load_checkpoint(run.folder / f"fold_{number}/checkpoints/best").facts
        history = run.history.query("fold == @number")
        assert kept["epoch"] == history[history["best"] == 1]["epoch"].max()
        val = run.predictions("val")
        fold = val.take(val.fold == number)
        found = metrics.average_precision_score(fold.labels == 1, fold.scores)
        assert kept["values"]["average_precision"] == pytest.approx(found)


# Predictions and numbers


def test_every_record_is_tested_once_by_a_model_that_did_not_train_on_it(run: Run) -> None:
    found = run.predictions("test")
    assert sorted(found.ids) == sorted(run.data.ids)
    for number, fold in enumerate(run.folds):
        assert set(found.ids[found.fold == number]) == set(run.data.ids[fold.test])


def test_validation_predictions_are_those_of_the_validation_records(run: Run) -> None:
    found = run.predictions("val")
    for number, fold in enumerate(run.folds):
        np.testing.assert_array_equal(found.ids[found.fold == number], run.data.ids[fold.val])


def test_predictions_carry_labels_and_groups_of_the_set(run: Run) -> None:
    found = run.predictions("test").frame().set_index("id")
    data = run.data.frame.set_index("id").loc[found.index]
    assert found["label"].tolist() == data["label"].tolist()
    assert found["group"].tolist() == data["group"].tolist()


SCIKIT: dict[str, Callable[[Any, Any], float]] = {
    "loss": metrics.log_loss,
    "accuracy": lambda labels, probs: metrics.accuracy_score(labels, probs.argmax(1)),
    "balanced_accuracy": lambda labels, probs: metrics.balanced_accuracy_score(labels, probs.argmax(1)),
    "f1_macro": lambda labels, probs: metrics.f1_score(labels, probs.argmax(1), average="macro"),
    "roc_auc": lambda labels, probs: metrics.roc_auc_score(labels, probs[:, 1]),
    "average_precision": lambda labels, probs: metrics.average_precision_score(labels, probs[:, 1]),
}


@pytest.mark.parametrize("name", SCIKIT)
def test_pooled_values_are_those_of_scikit_learn(name: str, run: Run) -> None:
    found = run.predictions("test")
    value, low, high = run.value(name)
    assert value == pytest.approx(SCIKIT[name](found.labels, found.probs))
    assert low <= value <= high


def test_the_table_has_its_columns_and_rows_of_every_fold(run: Run) -> None:
    table = run.metrics
    assert tuple(table.columns) == COLUMNS
    test = table[(table["split"] == "test") & (table["class"] == "") & (table["metric"] == "roc_auc")]
    assert test["fold"].tolist() == ["all", "0", "1", "2", "folds", "all"]
    assert test["n"].tolist()[:5] == [72, *(len(fold.test) for fold in run.folds), 72]
    assert test["level"].tolist() == [*["image"] * 5, "group"]
    assert set(table["threshold"]) == {"", "sensitivity>=0.9", *RULES}


@pytest.mark.parametrize("rule", ["sensitivity>=0.9", *RULES])
def test_each_record_is_held_against_the_threshold_of_its_own_model(rule: str, run: Run) -> None:
    found = run.predictions("test")
    cuts = {threshold.model: threshold.value for threshold in run.thresholds if threshold.rule == rule}
    decided = found.scores >= np.array([cuts[str(fold)] for fold in found.fold])
    positive = found.labels == 1
    assert run.value("sensitivity", threshold=rule)[0] == pytest.approx(decided[positive].mean())
    assert run.value("specificity", threshold=rule)[0] == pytest.approx(1 - decided[~positive].mean())


def test_thresholds_are_fitted_on_the_validation_records_of_their_model(run: Run) -> None:
    val = run.predictions("val")
    for threshold in run.thresholds:
        part = val if threshold.model == "mean" else val.take(val.fold == int(threshold.model))
        assert threshold.num_records == len(part)
        if threshold.rule.startswith("sensitivity"):
            reached = (part.scores >= threshold.value)[part.labels == 1].mean()
            assert reached == pytest.approx(threshold.achieved)
            assert reached >= float(threshold.rule.partition(">=")[2])
    assert {threshold.model for threshold in run.thresholds} == {"0", "1", "2", "mean"}


def test_the_confusion_counts_every_record(run: Run) -> None:
    saved = read_json(run.folder / "evaluation.json")
    found = run.predictions("test")
    expected = metrics.confusion_matrix(found.labels, found.probs.argmax(1))
    assert saved["confusion"]["argmax"] == expected.tolist()
    assert all(np.sum(cells) == 72 for cells in saved["confusion"].values())


def test_evaluated_again_the_intervals_are_the_same(run: Run) -> None:
    ends = ["value", "low", "high"]
    np.testing.assert_allclose(
        run.evaluate().table[ends], run.metrics.query("split == 'test' and level == 'image'")[ends]
    )


def test_a_value_is_the_one_of_the_table(run: Run) -> None:
    table = run.metrics.query("split == 'test' and fold == 'all' and metric == 'sensitivity' and threshold == 'max_f1'")
    row = table[table["class"] == ""].iloc[0]
    assert run.value("sensitivity", threshold="max_f1") == (row["value"], row["low"], row["high"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metric": "roc_uac"}, "'metric' must be one of the run, got 'roc_uac'; did you mean 'roc_auc'"),
        ({"metric": "sensitivity"}, "'metric' must be one of the run, got 'sensitivity'"),
        ({"metric": "roc_auc", "split": "train"}, "'split' must be one of the run, got 'train'"),
        ({"metric": "f1", "threshold": "max_f2"}, "'threshold' must .* got 'max_f2'; did you mean 'max_f1'"),
    ],
)
def test_an_unknown_value_is_refused_with_what_there_is(arguments: dict[str, str], message: str, run: Run) -> None:
    with pytest.raises(RunError, match=message):
        run.value(**arguments)


def test_a_value_over_all_folds_needs_records_of_one_fold_each(run: Run, copy: Path) -> None:
    table = run.metrics[(run.metrics["split"] == "test") | (run.metrics["fold"] != "all")]
    table.to_csv(copy / "metrics.csv", index=False)
    facts = read_json(copy / "run.json")
    write_json(copy / "run.json", {**facts, "checksums": {}})
    with pytest.raises(RunError, match="'split' must have numbers over all folds, got 'val'"):
        load_run(copy).value("roc_auc", split="val")


def test_predictions_of_other_splits_are_refused(run: Run) -> None:
    with pytest.raises(ConfigError, match="'split' must be 'train', 'val' or 'test', got 'all'"):
        run.predictions("all")


# Opening a run again


def test_a_run_is_opened_from_its_folder_alone(run: Run) -> None:
    again = load_run(run.folder)
    pd.testing.assert_frame_equal(again.metrics, run.metrics)
    assert again.thresholds == run.thresholds
    np.testing.assert_array_equal(again.predictions("val").logits, run.predictions("val").logits)
    assert again.data.fingerprint == run.data.fingerprint
    assert (again.data.positive, again.data.positive_given) == (run.data.positive, False)
    np.testing.assert_array_equal(again.folds[1].test, run.folds[1].test)


def test_the_configuration_on_disk_trains_the_same_folds(run: Run) -> None:
    config = from_yaml((run.folder / "config.yaml").read_text())
    folds = Trainer.from_config(config).folds()
    assert all(np.array_equal(one.val, other.val) for one, other in zip(folds, run.folds, strict=True))


def test_moved_images_are_found_by_root(run: Run, copy: Path, images: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(images, tmp_path / "elsewhere")
    facts = read_json(copy / "run.json")
    write_json(copy / "run.json", {**facts, "root": str(tmp_path / "gone")})
    with pytest.raises(DataError, match="gone"):
        _ = load_run(copy).data
    assert load_run(copy, root=moved).data.fingerprint == run.data.fingerprint


def test_changed_images_are_refused(run: Run, images: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(images, tmp_path / "elsewhere"))
    with next(moved.rglob("*.png")).open("ab") as file:
        file.write(b"more")
    with pytest.raises(RunError, match="'data' must be the set of the run, got other records"):
        _ = load_run(run.folder, root=moved).data


def test_a_positive_class_that_is_not_the_rarer_one_stays_so(images: Path, tmp_path: Path) -> None:
    data = from_folder(images)
    part = data.subset((data.labels == 1) | (np.arange(len(data)) < 28))
    assert part.positive == "b"
    assert part.counts()["a"] < part.counts()["b"]
    run = trained(part, tmp_path / "run", stages=[{"epochs": 1}])
    again = load_run(run.folder)
    assert (again.data.positive, again.data.positive_given) == ("b", False)


def test_images_in_memory_must_be_given_again(tmp_path: Path) -> None:
    data = blobs(size=8, groups=18)
    out = trained(data, tmp_path / "run", stages=[{"epochs": 1}]).folder
    assert load_run(out, data=data).data is data
    with pytest.raises(RunError, match="were in memory; give them to 'load_run' as 'data'"):
        _ = load_run(out).data
    with pytest.raises(DataError, match="'data' must be the set of the run"):
        load_run(out, data=blobs(size=8, groups=18, seed=1))


# Damage


@pytest.mark.parametrize("name", ["metrics.csv", "fold_1/predictions_val.npz", "thresholds.json", "config.yaml"])
@pytest.mark.parametrize("missing", [False, True])
def test_a_damaged_file_is_refused_by_name(name: str, missing: bool, copy: Path) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    if missing:
        (copy / name).unlink()
    with pytest.raises(RunError, match=rf"file '{name}' of run .*copy' must be as it was written"):
        load_run(copy)


def test_damaged_weights_are_refused_by_name_when_they_are_used(copy: Path, images: Path) -> None:
    file = next((copy / "fold_2").rglob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(RunError, match=f"fold_2.*{file.name}"):
        load_run(copy).predict([next(images.rglob("*.png"))])


def test_an_unfinished_run_is_refused(copy: Path) -> None:
    (copy / "run.json").unlink()
    with pytest.raises(RunError, match="a finished run, got an unfinished one at"):
        load_run(copy)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"a finished run, got none at .*nothing"):
        load_run(tmp_path / "nothing")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1}'])
def test_a_damaged_description_is_refused(text: str, copy: Path) -> None:
    (copy / "run.json").write_text(text)
    with pytest.raises(RunError, match=r"run\.json"):
        load_run(copy)


def test_a_run_of_a_newer_version_is_refused_with_the_remedy(copy: Path) -> None:
    facts = json.loads((copy / "run.json").read_text())
    write_json(copy / "run.json", {**facts, "schema": 99})
    with pytest.raises(RunError, match="schema 1 or older, got 99; update imgcls"):
        load_run(copy)


def test_a_training_that_broke_off_is_an_unfinished_run(images: Path, tmp_path: Path) -> None:
    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(from_folder(images), tmp_path / "run", callbacks=[interrupt])
    with pytest.raises(RunError, match="unfinished"):
        load_run(tmp_path / "run")


def test_maps_explain_what_was_decided(copy: Path, images: Path) -> None:
    run = load_run(copy, data=from_folder(images))
    found = run.explain("grad-cam", limit=6, errors=True)
    index = pd.read_csv(copy / "attributions" / "grad-cam-test-errors" / "index.csv")
    assert [run.model.classes[target] for target in found.target] == index["decision"].tolist()
    assert (index["decision"] != index["label"]).all()


def test_a_run_with_another_test_set_wants_it_for_maps(images: Path, tmp_path: Path) -> None:
    data, other = from_folder(images), blobs(size=8, groups=4, seed=9, grouped=False)
    folder = trained(data, tmp_path / "run", test=other, splitter="holdout").folder
    with pytest.raises(RunError, match="give it to 'load_run' as 'test'"):
        load_run(folder).explain("grad-cam", limit=2)
    with pytest.raises(DataError, match="'test' must be the set of the run"):
        load_run(folder, test=data)
    assert len(load_run(folder, test=other).explain("grad-cam", limit=2)) == 2


def test_a_run_without_errors_says_so(copy: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgcls.inference.explaining.choose", lambda *_, **__: np.array([], dtype=np.int64))
    with pytest.raises(RunError, match="must have errors to explain, got none"):
        load_run(copy, data=from_folder(images)).explain("grad-cam", errors=True)


def test_the_configuration_means_the_same_in_another_folder(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images.parent)
    out = trained(from_folder(Path(images.name)), tmp_path / "run", splitter="holdout", stages=[{"epochs": 1}]).folder
    monkeypatch.chdir(tmp_path)
    saved = from_yaml((out / "config.yaml").read_text(encoding="utf-8"))
    assert len(Trainer.from_config(saved).data) == len(from_folder(images))
