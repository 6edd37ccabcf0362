"""The table of metrics: what rows there are, and that they are right."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from imgcls.core.errors import ConfigError
from imgcls.evaluation.evaluate import COLUMNS, evaluate
from imgcls.evaluation.predictions import Predictions, softmax
from imgcls.evaluation.thresholds import Threshold, fit_thresholds


def study(num_classes: int = 2, *, folds: int = 2, num_records: int = 80) -> Predictions:
    rng = np.random.default_rng(7)
    labels = rng.integers(num_classes, size=num_records)
    logits = rng.normal(size=(num_records, num_classes)) + 1.5 * np.eye(num_classes)[labels]
    return Predictions(
        ids=[f"{at}.png" for at in range(num_records)],
        labels=labels,
        logits=logits,
        probs=softmax(logits),
        groups=[f"p{at // 2}" for at in range(num_records)],
        fold=np.arange(num_records) % folds,
        split="val",
        classes=[f"c{at}" for at in range(num_classes)],
        positive="c1" if num_classes == 2 else None,
    )


def fitted(predictions: Predictions) -> list[Threshold]:
    folds = np.unique(predictions.fold)
    return [t for fold in folds for t in fit_thresholds(predictions.take(predictions.fold == fold), model=str(fold))]


def row(table: pd.DataFrame, **wanted: Any) -> pd.Series[Any]:
    wanted = {"fold": "all", "class": "", "threshold": "", **wanted}
    (found,) = (table.loc[at] for at in table.index if all(table.loc[at, key] == want for key, want in wanted.items()))
    return found


def test_the_columns_are_those_of_run_metrics() -> None:
    table = evaluate(study(), fitted(study()), resamples=10)
    assert tuple(table) == COLUMNS
    assert set(table.fold) == {"all", "0", "1", "folds"}
    assert set(table.threshold) == {"", "max_f1", "sensitivity>=0.95", "0.5"}
    assert (set(table.split), set(table.level), set(table.group)) == ({"val"}, {"image"}, {""})
    assert not table.duplicated(["fold", "class", "threshold", "metric"]).any()


def test_pooled_decisions_use_the_threshold_of_each_fold() -> None:
    predictions = study()
    cuts = {"0": 0.2, "1": 0.9}
    thresholds = [Threshold(rule="max_f1", value=v, model=m, num_records=9, num_positives=9) for m, v in cuts.items()]
    called = predictions.scores >= np.array([0.2, 0.9])[predictions.fold]
    table = evaluate(predictions, thresholds, resamples=0)
    assert row(table, threshold="max_f1", metric="ppv").value == pytest.approx(
        sk.precision_score(predictions.labels, called)
    )
    alone = evaluate(predictions.take(predictions.fold == 1), thresholds, resamples=0)
    expected = row(table, fold="1", threshold="max_f1", metric="sensitivity").value
    assert row(alone, threshold="max_f1", metric="sensitivity").value == expected


def test_values_stand_inside_their_intervals() -> None:
    table = evaluate(study(), fitted(study()), resamples=200)
    assert ((table.low <= table.value) & (table.value <= table.high)).all()


def test_the_same_seed_gives_the_same_intervals() -> None:
    pd.testing.assert_frame_equal(evaluate(study(), resamples=20, seed=1), evaluate(study(), resamples=20, seed=1))
    assert not evaluate(study(), resamples=20, seed=1).low.equals(evaluate(study(), resamples=20, seed=2).low)


def test_groups_widen_the_interval_of_copied_records() -> None:
    once = attrs.evolve(study(folds=1), groups=None)
    twice = Predictions.concat([once, once])
    whole = attrs.evolve(twice, groups=twice.ids)
    widths = [row(evaluate(p), metric="accuracy")[["low", "high"]].diff().iloc[1] for p in (once, twice, whole)]
    assert widths[1] < 0.85 * widths[0]
    assert widths[2] == pytest.approx(widths[0], rel=0.3)


def test_many_classes_have_rows_of_their_own() -> None:
    predictions = study(3)
    table = evaluate(predictions, resamples=20)
    expected = sk.roc_auc_score(predictions.labels == 2, predictions.probs[:, 2])
    assert row(table, **{"class": "c2"}, metric="roc_auc").value == pytest.approx(expected)
    assert row(table, **{"class": "c2"}, metric="sensitivity").n == (predictions.labels == 2).sum()
    assert not set(table[table["class"] == ""].metric) & {"specificity", "npv"}


def test_one_fold_alone_has_pooled_rows_only() -> None:
    assert set(evaluate(study(folds=1), resamples=0).fold) == {"all"}


def test_the_same_records_of_several_folds_are_never_pooled() -> None:
    parts = [attrs.evolve(study(), fold=np.full(80, fold)) for fold in (0, 1)]
    mean = Predictions.mean_of_folds(parts)
    assert set(evaluate(mean, resamples=0).fold) == {"mean"}
    assert set(evaluate(Predictions.concat([*parts, mean]), resamples=0).fold) == {"mean", "0", "1", "folds"}


def test_a_part_with_one_class_has_nan_in_place_of_a_crash() -> None:
    predictions = study(folds=1).take(np.flatnonzero(study().labels == 0))
    table = evaluate(predictions, resamples=20)
    assert np.isnan(row(table, metric="roc_auc").value)
    assert np.isfinite(row(table, metric="accuracy").high)


def test_one_group_has_values_without_intervals() -> None:
    table = evaluate(attrs.evolve(study(folds=1), groups=["p"] * 80), resamples=20)
    assert table.value.notna().all()
    assert table[["low", "high"]].isna().all(axis=None)


def test_records_that_are_all_right_leave_doubt() -> None:
    sure = attrs.evolve(study(folds=1), probs=np.eye(2)[study().labels])
    table = evaluate(sure, fitted(sure), resamples=50)
    groups = np.array(sure.groups)
    whole, positive = len(set(groups)), len(set(groups[sure.labels == 1]))
    for metric, rule, size in (("accuracy", "", whole), ("sensitivity", "max_f1", positive), ("ppv", "0.5", positive)):
        found = row(table, metric=metric, threshold=rule)
        assert (found.value, found.high, found.low) == (1, 1, pytest.approx(size / (size + 1.95996**2), rel=1e-4))
    assert row(table, **{"class": "c1"}, metric="sensitivity").low == row(table, metric="ppv", threshold="0.5").low
    others = table[table.metric.isin(["roc_auc", "average_precision", "balanced_accuracy", "f1", "f1_macro", "loss"])]
    assert others[["low", "high"]].isna().all(axis=None)
    alone = evaluate(attrs.evolve(sure, groups=None), resamples=50)
    assert row(alone, metric="accuracy").low == pytest.approx(80 / (80 + 1.95996**2), rel=1e-4)


def test_missing_thresholds_and_negative_resamples_are_refused() -> None:
    thresholds = [threshold for threshold in fitted(study()) if threshold.model == "0"]
    with pytest.raises(ConfigError, match="'thresholds' must have 'max_f1' of model '1'; there are those of '0'"):
        evaluate(study(), thresholds)
    with pytest.raises(ConfigError, match="'resamples' must be a whole number of at least 0, got -1"):
        evaluate(study(), resamples=-1)


# Repeats


def repeated(*parts: Predictions) -> Predictions:
    folds = len(np.unique(parts[0].fold))
    numbered = [
        attrs.evolve(part, fold=part.fold + number * folds, repeat=np.full(len(part), number))
        for number, part in enumerate(parts)
    ]
    return Predictions.concat(numbered)


def other(predictions: Predictions) -> Predictions:
    turned = predictions.probs[:, ::-1] * 0.4 + predictions.probs * 0.6
    return attrs.evolve(predictions, probs=turned).take(np.arange(10, len(predictions)))


def test_pooled_values_are_the_mean_over_repeats() -> None:
    one, two = study(), other(study())
    both = repeated(one, two)
    table = evaluate(both, fitted(both), resamples=20)
    assert set(table.fold) == {"all", "repeat 0", "repeat 1", "0", "1", "2", "3", "folds"}
    for number, part in enumerate((one, two)):
        alone = evaluate(part, fitted(part), resamples=20)
        of_repeat = table[table.fold == f"repeat {number}"].assign(fold="all").reset_index(drop=True)
        pd.testing.assert_frame_equal(of_repeat, alone[alone.fold == "all"].reset_index(drop=True))
    values = table.set_index(["threshold", "metric", "class"])[["fold", "value"]]
    pooled, *each = (values[values.fold == name].value for name in ("all", "repeat 0", "repeat 1"))
    pd.testing.assert_series_equal(pooled, (each[0] + each[1]) / 2)
    assert row(table, metric="accuracy").n == 80  # different records, not predictions


def test_a_repeat_that_says_the_same_makes_nothing_surer() -> None:
    once, twice = study(), repeated(study(), study())
    columns = ["threshold", "metric", "class", "value", "low", "high", "n"]
    first, second = (evaluate(p, fitted(p), resamples=50) for p in (once, twice))
    first, second = (t.loc[t.fold == "all", columns].reset_index(drop=True) for t in (first, second))
    pd.testing.assert_frame_equal(first, second)


def test_without_groups_a_record_is_drawn_with_all_its_predictions() -> None:
    once, twice = (attrs.evolve(p, groups=None) for p in (study(), repeated(study(), study())))
    first, second = (row(evaluate(p, resamples=400), metric="roc_auc") for p in (once, twice))
    assert second.high - second.low == pytest.approx(first.high - first.low, rel=0.15)


# The population


def test_numbers_of_balanced_records_are_restored_to_the_population() -> None:
    predictions, prior = study(num_records=120), [0.9, 0.1]
    cut = [Threshold(rule="0.5", value=0.5, model=m, num_records=1, num_positives=1) for m in "01"]
    plain, restored = (evaluate(predictions, cut, prior=p, resamples=0) for p in (None, prior))
    recall, spared = (row(plain, threshold="0.5", metric=name).value for name in ("sensitivity", "specificity"))
    assert row(restored, threshold="0.5", metric="sensitivity").value == pytest.approx(recall)
    assert row(restored, metric="roc_auc").value == pytest.approx(row(plain, metric="roc_auc").value)
    assert row(restored, threshold="0.5", metric="accuracy").value == pytest.approx(0.1 * recall + 0.9 * spared)
    bayes = 0.1 * recall / (0.1 * recall + 0.9 * (1 - spared))
    assert row(restored, threshold="0.5", metric="ppv").value == pytest.approx(bayes)
    weights = np.where(predictions.labels == 1, 0.1, 0.9) / np.bincount(predictions.labels)[predictions.labels]
    expected = sk.average_precision_score(predictions.labels, predictions.scores, sample_weight=weights)
    assert row(restored, metric="average_precision").value == pytest.approx(expected)


# How intervals are made, and what is said where there is none


def test_rows_say_how_their_interval_was_made() -> None:
    table = evaluate(study(folds=1), fitted(study(folds=1)), resamples=50)
    assert row(table, metric="accuracy").interval == "wilson"
    assert row(table, metric="roc_auc").interval == "t"
    for method in ("percentile", "bca"):
        table = evaluate(study(folds=1), resamples=50, method=method)
        assert set(table[table.low.notna()].interval) == {method}


def test_the_spread_over_folds_is_labelled_as_no_interval() -> None:
    table = evaluate(study(folds=4), resamples=20)
    single = [row(table, fold=str(fold), metric="accuracy").value for fold in range(4)]
    spread = row(table, fold="folds", metric="accuracy")
    assert spread.value == pytest.approx(np.mean(single))
    assert spread.high - spread.value == spread.value - spread.low == pytest.approx(np.std(single, ddof=1))
    assert (spread.interval, spread.n) == ("spread", 80)
    assert spread.note == "mean of 4 folds, one standard deviation each way: no interval"


def test_few_groups_are_told() -> None:
    small = evaluate(study(folds=1, num_records=30), resamples=50)
    assert row(small, metric="roc_auc").note.startswith("rough interval: ")
    assert not row(evaluate(study(folds=1, num_records=200), resamples=50), metric="roc_auc").note


def test_nan_has_its_reason() -> None:
    table = evaluate(study(folds=1).take(np.flatnonzero(study().labels == 0)), resamples=20)
    assert row(table, metric="roc_auc").note == "no record of class 'c1'"
    never = attrs.evolve(study(folds=1), probs=np.tile([0.9, 0.1], (80, 1)))
    cut = [Threshold(rule="0.5", value=0.5, model="0", num_records=1, num_positives=1)]
    assert row(evaluate(never, cut, resamples=20), threshold="0.5", metric="ppv").note == "no record is decided so"
    alone = evaluate(attrs.evolve(study(folds=1), groups=["p"] * 80), resamples=20)
    assert row(alone, metric="roc_auc").note == "no interval: too few groups (1 group)"


def test_predictive_values_follow_the_stated_prevalence() -> None:
    cut = [Threshold(rule="0.5", value=0.5, model="0", num_records=1, num_positives=1)]
    table = evaluate(study(folds=1), cut, prevalence=[0.01], resamples=100)
    found = {name: row(table, threshold="0.5", metric=name) for name in ("sensitivity", "specificity", "ppv@0.01")}
    true, false = 0.01 * found["sensitivity"].value, 0.99 * (1 - found["specificity"].value)
    assert found["ppv@0.01"].value == pytest.approx(true / (true + false))
    assert found["ppv@0.01"].low < found["ppv@0.01"].value < found["ppv@0.01"].high
    with pytest.raises(ConfigError, match="'prevalence' must be between 0 and 1, got"):
        evaluate(study(), prevalence=[1.0])
    with pytest.raises(ConfigError, match="'prevalence' must be left out where there is no positive class"):
        evaluate(study(3), prevalence=[0.1])
    with pytest.raises(ConfigError, match="'method' must be 't', 'percentile' or 'bca', got 'magic'"):
        evaluate(study(), method="magic")  # type: ignore[arg-type]


def test_the_brier_score_of_two_classes_has_no_end_above_1() -> None:
    two = study(folds=1).take([0, 1, 2, 3])
    assert row(evaluate(attrs.evolve(two, groups=None), resamples=50), metric="brier").high <= 1


def test_a_prior_that_is_none_is_refused() -> None:
    for prior in ([0.5, 0.4], [1.0, 0.0], [0.2, 0.3, 0.5]):
        with pytest.raises(ConfigError, match="'prior' must be 2 shares above 0 that sum to 1, one a class, got"):
            evaluate(study(), prior=prior)
    several = attrs.evolve(study(), labels=np.eye(2, dtype=np.int64)[study().labels], positive=None)
    with pytest.raises(ConfigError, match="'prior' must be left out where records may have several labels"):
        evaluate(several, prior=[0.5, 0.5])


# A fault of another system: outputs that were through a sigmoid already went through it again


def test_probabilities_are_used_as_they_are() -> None:
    predictions = study(folds=1)
    twice = attrs.evolve(predictions, probs=softmax(predictions.probs))
    values = [row(evaluate(p, resamples=0), metric="loss").value for p in (predictions, twice)]
    assert values[0] == pytest.approx(sk.log_loss(predictions.labels, predictions.probs))
    assert values[0] != pytest.approx(values[1], rel=0.05)


def test_an_evaluation_remembers_nothing_of_the_one_before() -> None:
    first, other = study(folds=1), study(folds=1, num_records=60)
    alone = evaluate(other, resamples=0)
    evaluate(first, resamples=0)
    pd.testing.assert_frame_equal(evaluate(other, resamples=0), alone)
