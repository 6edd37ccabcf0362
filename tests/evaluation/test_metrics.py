"""Metrics agree with scikit-learn; weights count records."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from torch import tensor
from torchmetrics.functional import classification as tm

from imgcls.core.errors import ConfigError
from imgcls.evaluation.formulas import at_prevalence
from imgcls.evaluation.metrics import CLASS_METRICS, METRICS, counted, measure, metric
from imgcls.evaluation.predictions import softmax
from imgcls.evaluation.weighted import Cases, Weighted

OF_ONE_LABEL = [name for name, found in METRICS.items() if not found.multilabel_only]


def drawn(seed: int, num_classes: int, *, num_records: int = 60, digits: int = 1) -> Cases:
    """Random cases of every class, with tied scores since logits are rounded."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(num_records) % num_classes)
    logits = rng.normal(size=(num_records, num_classes)) + np.eye(num_classes)[labels]
    if num_classes == 2:
        logits[:, 0] = 0
    return Cases(labels=labels, probs=softmax(logits.round(digits)), positive=seed % 2)


def reference(name: str, cases: Cases, weights: Any = None) -> float:
    labels, preds, two = cases.labels, cases.preds, cases.num_classes == 2
    truth = labels == cases.positive if two else np.eye(cases.num_classes)[labels]
    scores = cases.probs[:, cases.positive] if two else cases.probs
    positive, negative = (
        {"pos_label": label, "sample_weight": weights} for label in (cases.positive, 1 - cases.positive)
    )

    def average(function: Any, how: str) -> Any:
        return function(labels, preds, average=how, sample_weight=weights, zero_division=0)

    def area(function: Any) -> Any:
        return function(truth, scores, average="weighted", sample_weight=weights)

    known: dict[str, Any] = {
        "loss": lambda: sk.log_loss(labels, cases.probs, sample_weight=weights, labels=range(cases.num_classes)),
        "brier": lambda: sk.brier_score_loss(truth if two else labels, scores, sample_weight=weights),
        "ece": lambda: calibration(cases, weights),
        "eer": lambda: crossing(*sk.roc_curve(truth, scores, sample_weight=weights, drop_intermediate=False)[:2]),
        "accuracy": lambda: sk.accuracy_score(labels, preds, sample_weight=weights),
        "balanced_accuracy": lambda: sk.balanced_accuracy_score(labels, preds, sample_weight=weights),
        "f1_macro": lambda: average(sk.f1_score, "macro"),
        "f1_weighted": lambda: average(sk.f1_score, "weighted"),
        "precision_macro": lambda: average(sk.precision_score, "macro"),
        "precision_weighted": lambda: average(sk.precision_score, "weighted"),
        "mcc": lambda: sk.matthews_corrcoef(labels, preds, sample_weight=weights),
        "kappa": lambda: sk.cohen_kappa_score(labels, preds, sample_weight=weights),
        "kappa_quadratic": lambda: sk.cohen_kappa_score(labels, preds, weights="quadratic", sample_weight=weights),
        "roc_auc": lambda: sk.roc_auc_score(truth, scores, sample_weight=weights),
        "roc_auc_weighted": lambda: area(sk.roc_auc_score),
        "average_precision": lambda: sk.average_precision_score(truth, scores, sample_weight=weights),
        "average_precision_weighted": lambda: area(sk.average_precision_score),
        **{f"top_{k}_accuracy": functools.partial(top, cases, k, weights) for k in (2, 3, 5)},
        "sensitivity": lambda: sk.recall_score(labels, preds, **positive),
        "frr": lambda: 1 - sk.recall_score(labels, preds, **positive),
        "specificity": lambda: sk.recall_score(labels, preds, **negative),
        "far": lambda: 1 - sk.recall_score(labels, preds, **negative),
        "hter": lambda: 1 - sk.balanced_accuracy_score(labels, preds, sample_weight=weights),
        "ppv": lambda: sk.precision_score(labels, preds, **positive),
        "npv": lambda: sk.precision_score(labels, preds, **negative),
        "f1": lambda: sk.f1_score(labels, preds, **positive),
    }
    return float(known[name]())


def top(cases: Cases, count: int, weights: Any) -> float:
    falling = cases.probs - np.arange(cases.num_classes) * 1e-9  # of equal probabilities the first class is larger
    return float(sk.top_k_accuracy_score(cases.labels, falling, k=count, sample_weight=weights))


def crossing(accepted: Any, found: Any) -> float:
    at = np.argmin(np.abs(accepted - (1 - found)).round(12))
    return float((accepted[at] + 1 - found[at]) / 2)


def calibration(cases: Cases, weights: Any) -> float:
    two = cases.num_classes == 2
    promised = cases.probs[:, cases.positive] if two else cases.probs.max(axis=1)
    kept = cases.labels == (cases.positive if two else cases.preds)
    weights = np.ones(len(kept)) if weights is None else weights
    bins = np.minimum((promised * 15).astype(int), 14)
    gaps = [(weights * (promised - kept))[bins == one].sum() for one in range(15)]
    return float(np.abs(gaps).sum() / weights.sum())


@pytest.mark.parametrize("name", OF_ONE_LABEL)
@pytest.mark.parametrize("num_classes", [2, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_values_are_those_of_scikit_learn(name: str, num_classes: int, seed: int) -> None:
    if not METRICS[name].fits(num_classes, multilabel=False):
        return
    cases = drawn(seed, num_classes)
    assert measure(name, cases).item() == pytest.approx(reference(name, cases), abs=1e-9)


@pytest.mark.parametrize("name", OF_ONE_LABEL)
@pytest.mark.parametrize("num_classes", [2, 3])
def test_weights_are_those_of_scikit_learn(name: str, num_classes: int) -> None:
    if not METRICS[name].fits(num_classes, multilabel=False):
        return
    cases = drawn(1, num_classes)
    weights = np.random.default_rng(0).gamma(1.0, size=(4, 60))
    expected = [reference(name, cases, row) for row in weights]
    assert measure(name, cases, weights=weights) == pytest.approx(expected, abs=1e-9)


@given(st.integers(0, 1000), st.sampled_from([2, 3]), st.data())
@settings(max_examples=40, deadline=None)
def test_a_weight_repeats_a_record(seed: int, num_classes: int, data: st.DataObject) -> None:
    cases = drawn(seed, num_classes, num_records=12)
    times = np.array(data.draw(st.lists(st.integers(1, 3), min_size=12, max_size=12)))
    repeated = Cases(
        labels=cases.labels.repeat(times), probs=cases.probs.repeat(times, axis=0), positive=cases.positive
    )
    for name, found in METRICS.items():
        if found.fits(num_classes, multilabel=False):
            weighted = measure(name, cases, weights=times[None].astype(float))
            assert weighted == pytest.approx(measure(name, repeated), abs=1e-12, nan_ok=True)


@given(st.integers(0, 1000), st.sampled_from([2, 4]))
@settings(max_examples=40, deadline=None)
def test_the_order_of_records_does_not_matter(seed: int, num_classes: int) -> None:
    cases = drawn(seed, num_classes, num_records=20)
    order = np.random.default_rng(seed).permutation(20)
    shuffled = Cases(labels=cases.labels[order], probs=cases.probs[order], positive=cases.positive)
    for name in ("roc_auc", "average_precision", "loss"):
        assert measure(name, shuffled) == pytest.approx(measure(name, cases), abs=1e-12)


def test_a_monotone_change_of_scores_leaves_the_ranking_metrics() -> None:
    cases = drawn(1, 2)
    curved = Cases(labels=cases.labels, probs=np.stack([1 - cases.probs[:, 1] ** 3, cases.probs[:, 1] ** 3], axis=1))
    for name in ("roc_auc", "average_precision"):
        assert measure(name, curved) == pytest.approx(measure(name, cases), abs=1e-12)


def test_equal_scores_give_half_the_area() -> None:
    cases = Cases(labels=np.array([0, 1, 1]), probs=np.full((3, 2), 0.5))
    assert measure("roc_auc", cases).item() == pytest.approx(0.5)
    assert measure("average_precision", cases).item() == pytest.approx(2 / 3)


def test_the_positive_class_turns_sensitivity_into_specificity() -> None:
    first, second = drawn(0, 2), drawn(0, 2)
    second = Cases(labels=first.labels, probs=first.probs, positive=1)
    assert measure("sensitivity", first) == measure("specificity", second)
    assert measure("roc_auc", first) == pytest.approx(measure("roc_auc", second), abs=1e-12)


def test_metrics_of_an_absent_class_are_nan() -> None:
    cases = drawn(1, 2)
    weights = np.stack([np.ones(60), (cases.labels == 0).astype(float)])
    for name in ("balanced_accuracy", "f1_macro", "roc_auc", "average_precision", "sensitivity", "f1"):
        assert np.isnan(measure(name, cases, weights=weights)).tolist() == [False, True]
    assert not np.isnan(measure("accuracy", cases, weights=weights)).any()


def test_predictive_values_of_what_is_never_predicted_are_nan() -> None:
    cases = Cases(labels=np.array([0, 1]), probs=np.array([[0.9, 0.1], [0.8, 0.2]]))
    assert np.isnan(measure("ppv", cases))
    assert measure("npv", cases).item() == 0.5


def test_a_certain_error_costs_a_finite_loss() -> None:
    cases = Cases(labels=np.array([1]), probs=np.array([[1.0, 0.0]]))
    assert measure("loss", cases).item() == pytest.approx(-np.log(1e-12))


def test_equal_probabilities_predict_the_first_class() -> None:
    assert Cases(labels=np.array([2]), probs=np.array([[0.2, 0.4, 0.4]])).preds.tolist() == [1]


def test_class_metrics_are_those_of_scikit_learn() -> None:
    cases = drawn(0, 4)
    found = {
        name: function(Weighted(cases=cases, weights=np.ones((1, 60))))[0] for name, function in CLASS_METRICS.items()
    }
    assert found["sensitivity"] == pytest.approx(sk.recall_score(cases.labels, cases.preds, average=None))
    assert found["f1"] == pytest.approx(sk.f1_score(cases.labels, cases.preds, average=None))
    assert found["ppv"] == pytest.approx(sk.precision_score(cases.labels, cases.preds, average=None))
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(np.eye(4)[cases.labels], cases.probs, average=None))


@pytest.mark.parametrize("name", OF_ONE_LABEL)
def test_a_share_is_the_mean_of_hits_over_the_records_it_counts(name: str) -> None:
    cases = drawn(1, 2)
    found, hits = counted(name, cases), cases.preds == cases.labels
    if name in {"accuracy", "sensitivity", "specificity", "ppv", "npv", "far", "frr"}:
        share = hits[found].mean()
        assert measure(name, cases).item() == pytest.approx(1 - share if name in {"far", "frr"} else share)
    elif name.startswith("top"):
        assert found.all()
    else:
        assert not found.any()


def test_losses_and_errors_are_to_be_small() -> None:
    small = {name for name in METRICS if metric(name).direction == "min"}
    assert small == {"loss", "brier", "ece", "eer", "far", "frr", "hter"}


# What torchmetrics defines


@pytest.mark.parametrize("seed", range(4))
def test_equal_error_rates_and_calibration_errors_are_those_of_torchmetrics(seed: int) -> None:
    two, many = drawn(seed, 2, num_records=61), drawn(seed, 5, digits=9)  # without ties, which it breaks by rounding
    scores, truth = tensor(two.probs[:, two.positive]), tensor((two.labels == two.positive).astype(int))
    assert measure("eer", two).item() == pytest.approx(float(tm.binary_eer(scores, truth)), abs=1e-7)
    probs, labels = tensor(many.probs), tensor(many.labels)
    expected = {
        "ece": tm.multiclass_calibration_error(probs, labels, 5, n_bins=15),
        "top_3_accuracy": tm.multiclass_accuracy(probs, labels, 5, average="micro", top_k=3),
        "kappa_quadratic": tm.multiclass_cohen_kappa(probs, labels, 5, weights="quadratic"),
        "mcc": tm.multiclass_matthews_corrcoef(probs, labels, 5),
    }
    assert {name: measure(name, many).item() for name in expected} == pytest.approx(
        {name: float(value) for name, value in expected.items()}, abs=1e-6
    )
    found = tm.binary_calibration_error(scores, truth, n_bins=15)
    assert measure("ece", two).item() == pytest.approx(float(found), abs=1e-6)


def test_a_probability_on_an_edge_belongs_to_the_bin_above_as_in_torchmetrics() -> None:
    probs = np.array([0.0, 0.2, 0.4, 1.0, 1.0])
    cases = Cases(labels=np.array([1, 0, 1, 0, 1]), probs=np.stack([1 - probs, probs], axis=1))
    expected = tm.binary_calibration_error(tensor(probs), tensor(cases.labels), n_bins=15)
    assert measure("ece", cases).item() == pytest.approx(float(expected), abs=1e-9)


def test_constant_predictions_have_no_correlation_and_constant_labels_no_definition() -> None:
    cases = Cases(labels=np.array([0, 1, 1]), probs=np.array([[0.1, 0.9]] * 3))
    assert measure("mcc", cases).item() == sk.matthews_corrcoef(cases.labels, cases.preds) == 0
    assert np.isnan(measure("mcc", Cases(labels=np.array([1, 1]), probs=np.array([[0.1, 0.9]] * 2))))


@given(st.integers(0, 1000))
def test_predictive_values_at_the_prevalence_at_hand_are_the_plain_ones(seed: int) -> None:
    cases = drawn(seed, 2, num_records=30)
    found = Weighted(cases=cases, weights=np.ones((1, 30)))
    share = float(cases.actual(cases.positive).mean())
    assert at_prevalence(found, share) == pytest.approx(measure("ppv", cases), nan_ok=True)
    assert at_prevalence(found, share, negative=True) == pytest.approx(measure("npv", cases), nan_ok=True)


# Faults of other systems


def test_recall_is_not_reported_as_accuracy_under_a_second_name() -> None:
    every = drawn(0, 4)
    cases = Cases(labels=every.labels[:41], probs=every.probs[:41])
    assert sk.recall_score(cases.labels, cases.preds, average="weighted") == pytest.approx(measure("accuracy", cases))
    with pytest.raises(ConfigError, match="got 'recall_weighted', which is for several labels a record"):
        measure("recall_weighted", cases)
    one_label = [measure(name, cases).item() for name, found in METRICS.items() if found.fits(4, multilabel=False)]
    assert len({round(value, 12) for value in one_label}) == len(one_label), one_label


def test_a_confusion_lacks_no_class_that_a_batch_lacks() -> None:
    cases = Cases(labels=np.array([2, 2]), probs=np.array([[0.2, 0.1, 0.7], [0.7, 0.1, 0.2]]))
    found = Weighted(cases=cases, weights=np.ones((1, 2)))
    assert [table.tolist() for table in found.counts] == [[[0, 0, 2]], [[1, 0, 1]], [[0, 0, 1]]]


def test_the_loss_is_a_mean_over_records_not_over_batches() -> None:
    cases = drawn(0, 3, num_records=7)
    halves = [
        measure("loss", Cases(labels=cases.labels[part], probs=cases.probs[part])).item()
        for part in (slice(0, 4), slice(4, 7))
    ]
    assert measure("loss", cases).item() == pytest.approx((4 * halves[0] + 3 * halves[1]) / 7)
    assert measure("loss", cases).item() != pytest.approx(np.mean(halves))


def test_unknown_and_unfit_metrics_are_refused() -> None:
    with pytest.raises(ConfigError, match="'metric' must name a metric, got 'roc_acu'; did you mean 'roc_auc'"):
        metric("roc_acu")
    with pytest.raises(ConfigError, match="'metric' must be one for 3 classes, got 'ppv', which is for two"):
        measure("ppv", drawn(0, 3))
    with pytest.raises(
        ConfigError, match="'metric' must be one for 2 classes, got 'exact_match', which is for several"
    ):
        measure("exact_match", drawn(0, 2))
