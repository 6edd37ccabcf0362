"""Records that have several labels, or none: each class is a question of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk
from torch import tensor
from torchmetrics.functional.classification import binary_calibration_error

from imgcls.core.errors import ConfigError, DataError
from imgcls.evaluation.decisions import confusion, decisions, hard_errors
from imgcls.evaluation.evaluate import evaluate
from imgcls.evaluation.metrics import METRICS, measure
from imgcls.evaluation.predictions import Predictions, probabilities
from imgcls.evaluation.thresholds import fit_thresholds, values_for
from imgcls.evaluation.weighted import Cases

CLASSES = ("x", "y", "z")


def study(*, folds: int = 1, num_records: int = 90, **changes: Any) -> Predictions:
    rng = np.random.default_rng(3)
    labels = (rng.random((num_records, 3)) < [0.5, 0.3, 0.15]).astype(np.int64)
    logits = (3 * labels - 1.5 + 1.5 * rng.normal(size=labels.shape)).round(1)
    values: dict[str, Any] = {
        "ids": [f"{at}.png" for at in range(num_records)],
        "labels": labels,
        "logits": logits,
        "probs": probabilities(logits, multilabel=True),
        "groups": [f"p{at // 2}" for at in range(num_records)],
        "fold": np.arange(num_records) % folds,
        "split": "val",
        "classes": CLASSES,
    }
    return Predictions(**values | changes)


def fitted(predictions: Predictions) -> list[Any]:
    return [
        threshold
        for fold in np.unique(predictions.fold)
        for threshold in fit_thresholds(predictions.take(predictions.fold == fold), model=str(fold))
    ]


def value(table: pd.DataFrame, metric: str, of: str = "", threshold: str = "") -> float:
    chosen = (table.metric == metric) & (table["class"] == of) & (table.threshold == threshold) & (table.fold == "all")
    return float(table[chosen].value.item())


# Predictions


def test_each_logit_speaks_for_itself() -> None:
    assert probabilities([[0.0, -1000.0, 1000.0]], multilabel=True).tolist() == [[0.5, 0.0, 1.0]]


def test_saved_predictions_are_read_again(tmp_path: Path) -> None:
    predictions = study()
    predictions.save(tmp_path / "p.npz")
    found = Predictions.load(tmp_path / "p.npz")
    assert found.multilabel
    for name in ("ids", "labels", "logits", "probs", "groups"):
        np.testing.assert_array_equal(getattr(found, name), getattr(predictions, name))


def test_the_frame_has_columns_of_labels_and_probabilities() -> None:
    frame = study(labels=[[1, 0, 1], [0, 0, 0]], num_records=2, logits=np.zeros((2, 3)), probs=np.ones((2, 3))).frame()
    assert frame["label"].tolist() == ["x|z", ""]
    assert frame[["label_x", "label_y", "label_z"]].to_numpy().tolist() == [[1, 0, 1], [0, 0, 0]]
    assert frame["prob_z"].tolist() == [1.0, 1.0]


def test_the_mean_of_folds_keeps_its_logits() -> None:
    one, other = study(), study(probs=1 - study().probs, fold=np.ones(90))
    mean = Predictions.mean_of_folds([one, other])
    np.testing.assert_allclose(mean.probs, 0.5)
    np.testing.assert_allclose(mean.logits, 0, atol=1e-6)
    np.testing.assert_allclose(Predictions.concat([one, other]).mean_of_repeats().probs, 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.full((90, 3), 2)}, r"'labels' must be from 0 to 1, got \[2, 2, 2\] for '0.png'"),
        ({"labels": np.zeros((90, 2))}, r"'labels' must have the shape \(90, 3\), got \(90, 2\)"),
        ({"logits": np.zeros((90, 1))}, r"'logits' must have the shape \(90, 3\)"),
        ({"positive": "x"}, "'positive' must be given with two classes and only then, .* several labels a record"),
        ({"probs": np.full((90, 3), 1.5)}, "'probs' must be from 0 to 1"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        study(**changes)


def test_one_label_and_several_are_not_put_together() -> None:
    one = study(labels=np.zeros(90), probs=np.full((90, 3), 1 / 3))
    with pytest.raises(DataError, match="'parts' must have the same labels a record, got 'several' and 'one'"):
        Predictions.concat([study(), one])


def test_two_classes_of_several_labels_are_no_binary_task() -> None:
    both = study()
    two = attrs.evolve(
        both, labels=both.labels[:, :2], logits=both.logits[:, :2], probs=both.probs[:, :2], classes=("x", "y")
    )
    table = evaluate(two, fitted(two), resamples=0)
    assert value(table, "roc_auc") == pytest.approx(sk.roc_auc_score(two.labels, two.probs))
    assert "sensitivity" not in set(table[table["class"] == ""].metric)


# Metrics


def test_metrics_are_those_of_scikit_learn() -> None:
    predictions = study()
    labels, probs, preds = predictions.labels, predictions.probs, predictions.probs >= 0.5
    table = evaluate(predictions, resamples=0)
    averages = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}
    ranked = {"roc_auc": sk.roc_auc_score, "average_precision": sk.average_precision_score}
    expected = {
        **{
            f"{n}_{how}": f(labels, preds, average=how)
            for n, f in averages.items()
            for how in ("micro", "macro", "weighted")
        },
        **{f"{n}_{how}": f(labels, probs, average=how) for n, f in ranked.items() for how in ("micro", "weighted")},
        "brier": ((probs - labels) ** 2).mean(),
        "ece": np.mean([float(binary_calibration_error(tensor(probs[:, k]), tensor(labels[:, k]))) for k in range(3)]),
        "loss": sk.log_loss(labels.ravel(), probs.ravel()),
        "accuracy": 1 - sk.hamming_loss(labels, preds),
        "exact_match": sk.accuracy_score(labels, preds),
        "balanced_accuracy": np.mean([sk.balanced_accuracy_score(labels[:, k], preds[:, k]) for k in range(3)]),
        "roc_auc": sk.roc_auc_score(labels, probs),
        "average_precision": sk.average_precision_score(labels, probs),
    }
    assert set(table[table["class"] == ""].metric) == set(expected)
    for name, wanted in expected.items():
        assert value(table, name) == pytest.approx(wanted, abs=1e-9), name


def equal_error(labels: Any, probs: Any) -> float:
    accepted, found, _ = sk.roc_curve(labels, probs, drop_intermediate=False)
    at = np.abs(accepted + found - 1).round(12).argmin()
    return float(accepted[at] + 1 - found[at]) / 2


@pytest.mark.parametrize("index", range(3))
def test_metrics_of_a_class_are_those_of_scikit_learn_at_its_threshold(index: int) -> None:
    predictions, name = study(), CLASSES[index]
    thresholds = fitted(predictions)
    (cut,) = [t.value for t in thresholds if (t.rule, t.class_name) == ("max_f1", name)]
    labels, probs = predictions.labels[:, index], predictions.probs[:, index]
    preds = probs >= cut
    table = evaluate(predictions, thresholds, resamples=0)
    free = {
        "prevalence": labels.mean(),
        "loss": sk.log_loss(labels, probs),
        "brier": sk.brier_score_loss(labels, probs),
        "ece": float(binary_calibration_error(tensor(probs), tensor(labels))),
        "eer": equal_error(labels, probs),
        "roc_auc": sk.roc_auc_score(labels, probs),
        "average_precision": sk.average_precision_score(labels, probs),
    }
    decided = {
        "sensitivity": sk.recall_score(labels, preds),
        "specificity": sk.recall_score(labels, preds, pos_label=0),
        "ppv": sk.precision_score(labels, preds),
        "npv": sk.precision_score(labels, preds, pos_label=0),
        "f1": sk.f1_score(labels, preds),
    }
    assert {metric: value(table, metric, name) for metric in free} == pytest.approx(free, abs=1e-9)
    assert {metric: value(table, metric, name, "max_f1") for metric in decided} == pytest.approx(decided, abs=1e-9)
    assert (table[table["class"] == name].n == labels.sum()).all()


def test_a_weight_repeats_a_record() -> None:
    predictions = study(num_records=30)
    times = np.random.default_rng(0).integers(1, 4, 30)
    again = Cases(labels=predictions.labels.repeat(times, 0), probs=predictions.probs.repeat(times, 0))
    once = Cases(labels=predictions.labels, probs=predictions.probs)
    for name, metric in METRICS.items():
        if metric.fits(3, multilabel=True):
            found = measure(name, once, weights=times[None].astype(float))
            assert found == pytest.approx(measure(name, again), abs=1e-12), name


def test_a_metric_for_two_classes_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="'metric' must be one for several labels a record, got 'ppv', which is for two"
    ):
        measure("ppv", Cases(labels=study().labels, probs=study().probs))


def test_a_class_without_records_is_left_out_of_means() -> None:
    predictions = study(labels=study().labels * [1, 1, 0])
    two = slice(0, 2)
    table = evaluate(predictions, fitted(predictions), resamples=20)
    assert value(table, "roc_auc") == pytest.approx(
        sk.roc_auc_score(predictions.labels[:, two], predictions.probs[:, two])
    )
    assert np.isnan([value(table, name, "z") for name in ("roc_auc", "average_precision", "f1")]).all()
    assert np.isfinite(table[(table["class"] == "") & (table.metric == "average_precision")].high).all()


def test_values_stand_inside_intervals_that_groups_give() -> None:
    table = evaluate(study(folds=2), fitted(study(folds=2)), resamples=200)
    assert set(table.fold) == {"all", "0", "1", "folds"}
    known = table.dropna()
    assert ((known.low <= known.value) & (known.value <= known.high)).all()
    assert (known[known.metric == "average_precision"].low < known[known.metric == "average_precision"].high).all()


def test_labels_that_are_all_right_leave_doubt() -> None:
    sure = study(probs=study().labels.astype(float))
    table = evaluate(sure, resamples=50)
    for metric, of in (("exact_match", ""), ("sensitivity", "x")):
        groups = np.array(sure.groups)[sure.labels[:, 0] == 1] if of else np.array(sure.groups)
        size = len(set(groups))
        low = table[(table["class"] == of) & (table.metric == metric)].low.item()
        assert low == pytest.approx(size / (size + 1.95996**2), rel=1e-4)


# Thresholds and decisions


def test_each_class_has_the_threshold_that_it_has_alone() -> None:
    predictions = study()
    for index, name in enumerate(CLASSES):
        probs = np.stack([1 - predictions.probs[:, index], predictions.probs[:, index]], axis=1)
        alone = attrs.evolve(
            predictions,
            labels=predictions.labels[:, index],
            logits=np.log(np.maximum(probs, 1e-9)),
            probs=probs,
            classes=("no", "yes"),
            positive="yes",
        )
        own = [t for t in fit_thresholds(predictions, model="0") if t.class_name == name]
        assert own == [attrs.evolve(t, class_name=name) for t in fit_thresholds(alone, model="0")]


def test_a_class_without_records_is_decided_from_one_half() -> None:
    predictions = study(labels=study().labels * [1, 1, 0])
    found = [t for t in fit_thresholds(predictions, model="0", rules=["max_f1", 0.3]) if t.class_name == "z"]
    assert [(t.value, t.num_positives, t.achieved) for t in found] == [(0.5, 0, None), (0.3, 0, None)]


def test_a_record_is_held_against_the_thresholds_of_its_own_model() -> None:
    predictions = study(folds=2)
    thresholds = fitted(predictions)
    cuts = {(t.model, t.class_name): t.value for t in thresholds if t.rule == "max_f1"}
    expected = [[cuts[str(fold), name] for name in CLASSES] for fold in predictions.fold]
    assert values_for(predictions, thresholds, "max_f1").tolist() == expected
    np.testing.assert_array_equal(decisions(predictions, thresholds, "max_f1"), predictions.probs >= expected)
    np.testing.assert_array_equal(decisions(predictions), predictions.probs >= 0.5)
    with pytest.raises(ConfigError, match="'thresholds' must have 'max_f1' of model '1' and class 'z'"):
        decisions(predictions, [t for t in thresholds if (t.model, t.class_name) != ("1", "z")], "max_f1")


def test_each_class_has_a_confusion_of_its_own() -> None:
    predictions = study()
    expected = sk.multilabel_confusion_matrix(predictions.labels, predictions.probs >= 0.5)
    np.testing.assert_array_equal(confusion(predictions), expected)


def test_hard_errors_are_those_of_most_labels_then_of_the_greatest_loss() -> None:
    labels = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    probs = [[0.4, 0.6, 0.1], [0.1, 0.2, 0.1], [0.1, 0.1, 0.4], [0.1, 0.1, 0.1]]
    found = hard_errors(study(num_records=4, labels=labels, probs=probs, logits=np.zeros((4, 3))))
    assert found["idx"].tolist() == [0, 1, 2]
    assert found["error_type"].tolist() == ["FN x, FP y", "FN y", "FN z"]
    assert (found["y_true"].tolist(), found["y_pred"].tolist()) == (["x", "y", "z"], ["y", "", ""])
    assert found["y_score"].tolist() == pytest.approx(
        [sk.log_loss(label, prob) for label, prob in zip(labels[:3], probs[:3], strict=True)]
    )


def test_a_label_too_rare_to_fit_anything_on_is_decided_from_one_half_unless_forced() -> None:
    found = fit_thresholds(study(), model="0", rules=["max_f1", {"name": "youden", "force": True}], unfitted=["z"])
    cuts = {(one.rule, one.class_name): (one.value, one.achieved) for one in found}
    assert cuts["max_f1", "z"] == (0.5, None)
    usual = fit_thresholds(study(), model="0", rules=["max_f1", "youden"])
    expected = {(one.rule, one.class_name): (one.value, one.achieved) for one in usual}
    assert cuts == expected | {("max_f1", "z"): (0.5, None)}
