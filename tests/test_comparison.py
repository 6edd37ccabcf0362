"""Runs against runs, and runs that are evaluated again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from imgcls import Dataset, Predictions, Run, Trainer, compare_runs, load_run
from imgcls.cli import app
from imgcls.core.errors import ConfigError, DataError, RunError
from imgcls.core.folders import read_json
from imgcls.evaluation.evaluate import COLUMNS
from imgcls.testing import blobs

pytestmark = pytest.mark.usefixtures("one_thread")


def grouped() -> Dataset:
    data = blobs(size=8, groups=18)
    sites = np.where(np.arange(len(data)) % 2 == 0, "north", "south")
    return attrs.evolve(data, frame=data.frame.assign(site=sites))


def trained(data: Dataset, out: Path, **changes: Any) -> Run:
    options: dict[str, Any] = {
        "backbone": {"name": "small-cnn", "base": 4, "depth": 2},
        "image": {"size": 8, "channels": 1},
        "splitter": {"name": "stratified-group-kfold", "k": 3},
        "stages": [{"epochs": 1, "lr": 0.03}],
        "batch_size": 8,
        "device": "cpu",
        "precision": "fp32",
    }
    return Trainer(data, out=out, **{**options, **changes}).fit()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGCLS_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("IMGCLS_QUIET", "1")
        folder, data = tmp_path_factory.mktemp("runs"), grouped()
        changes: dict[str, dict[str, Any]] = {
            "first": {},
            "slow": {"stages": [{"epochs": 1, "lr": 1e-5}], "decision": "youden"},
            "val": {"splitter": {"name": "stratified-group-kfold", "k": 3, "report": "val"}},
        }
        yield {name: trained(data, folder / name, **change) for name, change in changes.items()}


@pytest.fixture
def two(runs: dict[str, Run]) -> dict[str, Run]:
    return {name: runs[name] for name in ("first", "slow")}


def test_a_comparison_has_every_run_and_pair(two: dict[str, Run], tmp_path: Path) -> None:
    found = compare_runs(two, resamples=50)
    assert list(found.table.run.unique()) == ["first", "slow"]
    row = found.table.query("run == 'slow' and metric == 'roc_auc'").iloc[0]
    single = two["slow"].metrics.query("metric == 'roc_auc' and fold in ['0', '1', '2'] and split == 'test'")
    values = single[(single["class"] == "") & (single.level == "image")].value
    assert row.value == two["slow"].value("roc_auc")[0]
    assert (row["mean"], row["std"]) == (pytest.approx(values.mean()), pytest.approx(values.std()))
    sides = [run.predictions("test") for run in two.values()]
    expected = [roc_auc_score(side.labels == side.positive_index, side.scores) for side in sides]
    gaps = found.pairs[found.pairs.metric == "roc_auc"].set_index("test").difference
    assert dict(gaps) == pytest.approx(dict.fromkeys(["delong", "bootstrap"], expected[1] - expected[0]))
    found.save(tmp_path)
    combined = pd.read_csv(tmp_path / "combined_results.csv", dtype=str, keep_default_na=False)
    assert set(combined.run) == {"first", "slow"}
    assert list(combined.columns) == ["run", *COLUMNS]
    assert len(combined) == sum(len(run.metrics) for run in two.values())


def test_a_run_does_not_differ_from_itself(two: dict[str, Run]) -> None:
    pairs = compare_runs({"a": two["first"], "b": two["first"].folder}, resamples=20).pairs
    assert (pairs.difference == 0).all()
    assert (pairs.p.fillna(1) == 1).all()


def test_many_runs_are_corrected_for_the_number_of_pairs(two: dict[str, Run]) -> None:
    pairs = compare_runs({**two, "third": two["slow"]}, resamples=50).pairs
    assert len(pairs[["first", "second"]].drop_duplicates()) == 3
    assert (pairs.p_holm >= pairs.p).all()
    tested = pairs[(pairs.metric == "roc_auc") & (pairs.test == "delong")]
    assert tested.p_holm.min() == pytest.approx(min(1, 3 * tested.p.min()))


def changed(run: Run, folder: Path, **changes: Any) -> Run:
    copy = Path(shutil.copytree(run.folder, folder))
    found = Predictions.load(copy / "predictions_test.npz")
    kept = found.take(changes.pop("take")) if "take" in changes else found
    attrs.evolve(kept, **changes).save(copy / "predictions_test.npz")
    return attrs.evolve(run, folder=copy)


def test_other_records_and_labels_are_refused(two: dict[str, Run], tmp_path: Path) -> None:
    first, count = two["first"], len(two["first"].predictions())
    fewer = changed(first, tmp_path / "fewer", take=np.arange(count - 5))
    with pytest.raises(DataError, match=f"the same records, got {count} and {count - 5} in runs 'a' and 'b', of which"):
        compare_runs({"a": first, "b": fewer})
    assert (compare_runs({"a": first, "b": fewer}, records="common", resamples=10).pairs.n == count - 5).all()
    turned = changed(first, tmp_path / "turned", labels=1 - first.predictions().labels)
    with pytest.raises(DataError, match="'runs' must have the same labels of each record, got others in 'a' and 'b'"):
        compare_runs({"a": first, "b": turned})


def test_numbers_that_chose_a_checkpoint_are_not_compared_with_test_numbers(runs: dict[str, Run]) -> None:
    with pytest.raises(RunError, match=r"'runs' must all have test records, got none in \['val'\]"):
        compare_runs({"first": runs["first"], "val": runs["val"]})
    with pytest.raises(ConfigError, match="'runs' must name at least two runs"):
        compare_runs({"first": runs["first"]})


# Evaluated again


def test_metrics_of_a_run_have_a_level_of_groups_and_the_spread_over_folds(runs: dict[str, Run]) -> None:
    run = runs["first"]
    table = run.metrics
    assert set(table.level) == {"image", "group"}
    assert table[table.fold == "folds"].interval.eq("spread").all()
    groups = table[(table.level == "group") & (table.split == "test") & (table["class"] == "")]
    assert groups.n.iloc[0] == len(set(np.asarray(run.predictions().groups).tolist()))
    assert (run.folder / "thresholds_groups.json").exists()


def test_saved_predictions_are_evaluated_by_columns(runs: dict[str, Run]) -> None:
    run = runs["first"]
    found = run.evaluate(groups=["site", "label"], aggregation="max", prevalence=[0.1], resamples=20)
    assert set(found.table.group) == {"", "site=north", "site=south", *(f"label={name}" for name in run.model.classes)}
    whole = found.table[(found.table.group == "") & (found.table.level == "image") & (found.table.metric == "roc_auc")]
    assert whole[whole.fold == "all"].value.iloc[0] == run.value("roc_auc")[0]
    assert f"decided by {run.model.decision}" in str(found)


def test_another_set_is_predicted_by_the_mean_of_the_folds(runs: dict[str, Run]) -> None:
    run, other = runs["first"], grouped().subset(range(12, 60))
    found = run.evaluate(other, groups="site", resamples=20)
    assert set(found.table.split) == {"other"}
    assert set(found.table.fold) == {"mean"}
    assert found.facts["records"] == 48
    with pytest.raises(DataError, match="'data' must have labels that the run knows, got"):
        run.evaluate(grouped().relabel({run.model.classes[0]: "unheard"}))
    with pytest.raises(ConfigError, match="'split' must be left out with another set, got 'val'"):
        run.evaluate(other, split="val")
    with pytest.raises(ConfigError, match="'groups' must name a column of the predictions, got 'sit'"):
        run.evaluate(groups="sit", resamples=0)


def test_the_command_line_writes_and_prints_an_evaluation(runs: dict[str, Run]) -> None:
    folder = runs["first"].folder
    done = CliRunner().invoke(app, ["evaluate", str(folder), "--groups", "site", "--aggregation", "mean"])
    assert done.exit_code == 0, done.output
    assert "by image, site=north" in done.output
    assert "Worst of site" in done.output
    saved = read_json(folder / "evaluations" / "reported-site" / "evaluation.json")
    assert set(saved) == {
        *("schema", "split", "records", "groups", "classes", "positive", "multilabel", "decision", "aggregation"),
        *("confusion", "warnings", "worst"),
    }
    assert saved["schema"] == 1
    assert load_run(folder).value("roc_auc") == runs["first"].value("roc_auc")  # the run is as it was


def test_the_file_of_a_run_has_the_keys_of_its_schema(runs: dict[str, Run]) -> None:
    assert set(read_json(runs["first"].folder / "evaluation.json")) == {
        *("schema", "split", "records", "repeats", "models", "selection", "population", "intervals", "classes"),
        *("multilabel", "confusion", "warnings"),
    }
