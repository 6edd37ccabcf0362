"""Metrics by the values of a column, and the worst of them."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from imgcls.core.errors import ConfigError, DataError
from imgcls.evaluation.breakdown import by_value, values_of, worst
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.summary import reevaluate
from imgcls.evaluation.thresholds import Threshold

HALF = [Threshold(rule="0.5", value=0.5, model=model, num_records=1, num_positives=1) for model in ("0", "1")]


def study(**changes: Any) -> Predictions:
    rng = np.random.default_rng(5)
    labels = np.tile([0, 1], 60)
    scores = np.clip(0.5 + 0.25 * (2 * labels - 1) + 0.2 * rng.normal(size=120), 0.01, 0.99)
    values: dict[str, Any] = {
        "ids": [f"{at}.png" for at in range(120)],
        "labels": labels,
        "logits": np.log(np.stack([1 - scores, scores], axis=1)),
        "probs": np.stack([1 - scores, scores], axis=1),
        "groups": [f"p{at // 3}" for at in range(120)],
        "fold": np.arange(120) // 3 % 2,
        "split": "test",
        "classes": ("no", "yes"),
        "positive": "yes",
        "columns": {"site": ["north", "south", ""] * 40, "age": np.arange(120) / 7},
    }
    return Predictions(**values | changes)


def value(table: pd.DataFrame, group: str, metric: str, threshold: str = "") -> pd.Series[Any]:
    chosen = (table.group == group) & (table.metric == metric) & (table["class"] == "") & (table.threshold == threshold)
    return table[chosen].iloc[0]


def test_each_value_has_the_metrics_of_its_records() -> None:
    predictions = study()
    table = by_value(predictions, "site", HALF, resamples=50)
    assert set(table.group) == {"site=north", "site=south", "site=missing"}
    assert set(table.fold) == {"all"}
    own = predictions.take(predictions.columns["site"] == "south")
    row = value(table, "site=south", "roc_auc")
    assert (row.value, row.n) == (pytest.approx(sk.roc_auc_score(own.labels, own.scores)), 40)
    assert row.low < row.value < row.high
    expected = sk.recall_score(own.labels, own.scores >= 0.5)
    assert value(table, "site=south", "sensitivity", "0.5").value == pytest.approx(expected)


def test_a_value_without_positives_has_nan_with_the_reason() -> None:
    healthy = np.where(study().labels == 0, "screening", "clinic")
    table = by_value(study(columns={"site": healthy}), "site", HALF, resamples=20)
    row = value(table, "site=screening", "roc_auc")
    assert np.isnan(row.value)
    assert row.note == "no record of class 'yes'"
    assert np.isfinite(value(table, "site=screening", "specificity", "0.5").low)
    assert value(table, "site=screening", "npv", "0.5").value == 1


def test_groups_may_be_looked_at_one_by_one() -> None:
    table = by_value(study(), "group", HALF, resamples=20)
    assert table.group.nunique() == 40
    assert table[["low", "high"]].isna().all(axis=None)
    assert value(table, "group=p0", "accuracy").note == "no interval: too few groups (1 group)"


@pytest.mark.parametrize("kind", ["two", "many", "labels", "repeats"])
def test_many_values_have_the_numbers_of_few_without_intervals(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    predictions, thresholds = study(), HALF
    if kind in {"many", "labels"}:
        probs = np.random.default_rng(0).dirichlet([1, 1, 1], size=120)
        labels = np.arange(120) % 3 if kind == "many" else (np.arange(360).reshape(120, 3) % 5 == 0).astype(np.int64)
        predictions = study(probs=probs, labels=labels, logits=np.log(probs), classes=("a", "b", "c"), positive=None)
        thresholds = []
    if kind == "repeats":
        again = attrs.evolve(predictions, repeat=np.ones(120), probs=predictions.probs[::-1], fold=np.ones(120))
        predictions = Predictions.concat([attrs.evolve(predictions, fold=np.zeros(120)), again])
    one_by_one = by_value(predictions, "group", thresholds, resamples=0)
    monkeypatch.setattr("imgcls.evaluation.breakdown._MANY", 3)
    at_once = by_value(predictions, "group", thresholds)
    noted = one_by_one["value"].isna()
    pd.testing.assert_frame_equal(
        at_once.drop(columns=["note"]), one_by_one.drop(columns=["note"]), check_dtype=False, rtol=1e-12
    )
    assert at_once.note[noted].tolist() == one_by_one.note[noted].tolist()
    assert set(at_once.note[~noted]) == {"no interval: one of 40 values"}
    with pytest.raises(ConfigError, match="'method' must be"):
        by_value(predictions, "group", thresholds, method="guess")


def test_the_worst_value_is_named() -> None:
    flipped = study()
    at = flipped.columns["site"] == "south"
    bad = np.where(at[:, None], flipped.probs[:, ::-1], flipped.probs)
    table = by_value(study(probs=bad), "site", HALF, resamples=20)
    found = {row["metric"]: row for row in worst(table, threshold="0.5")}
    assert {row["group"] for row in found.values()} == {"site=south"}
    assert found["roc_auc"]["value"] == table[table.metric == "roc_auc"].value.min()
    assert found["sensitivity"]["of"] == 3
    assert worst(table, ["loss"])[0]["group"] == "site=south"  # of a loss the largest is worst


def test_unknown_columns_and_measurements_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'groups' must name a column of the predictions, got 'sites'; .*'site'"):
        values_of(study(), "sites")
    with pytest.raises(
        ConfigError, match="'groups' must name a column of at most 50 different numbers, not 120, got 'age'"
    ):
        values_of(study(), "age")


# All together


def test_levels_columns_and_the_worst_stand_in_one_evaluation(tmp_path: Any) -> None:
    labels = np.repeat([0, 1], 60)
    predictions = study(labels=labels)
    found = reevaluate(
        predictions, HALF, validated=predictions, decision="0.5", groups="site", aggregation="mean", resamples=20
    )
    groups = found.table[found.table.level == "group"]
    frame = pd.DataFrame({"score": predictions.scores, "label": labels, "group": predictions.groups})
    scores, truth = frame.groupby("group")["score"].mean(), frame.groupby("group")["label"].max()
    assert value(groups, "", "roc_auc").value == pytest.approx(sk.roc_auc_score(truth, scores))
    assert value(groups, "", "accuracy", "0.5").n == 40
    assert list(found.worst) == ["site"]
    assert "by group" in str(found)
    assert "Worst of site" in str(found)
    assert "Worst of split: no value fares worse" in str(attrs.evolve(found, worst={"split": []}))
    assert {path.name for path in found.save(tmp_path / "new").iterdir()} == {"metrics.csv", "evaluation.json"}


def test_groups_of_one_image_are_no_level() -> None:
    with pytest.raises(DataError, match="must have groups of several images to be aggregated, got one image in each"):
        reevaluate(study(groups=study().ids), HALF, aggregation="mean", resamples=0)


def test_without_validation_groups_a_warning_says_how_groups_are_decided() -> None:
    for validated in (None, study(groups=None)):
        found = reevaluate(study(), HALF, validated=validated, aggregation="mean", resamples=0)
        assert found.facts["warnings"] == [
            "groups are decided without fitted thresholds, since no validation records with groups are at hand"
        ]
        assert set(found.table[found.table.level == "group"].threshold) == {""}
