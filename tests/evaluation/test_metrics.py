"""Metrics agree with scikit-learn; weights count records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from imgcls.core.errors import ConfigError
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
    known: dict[str, Any] = {
        "loss": lambda: sk.log_loss(labels, cases.probs, sample_weight=weights, labels=range(cases.num_classes)),
        "accuracy": lambda: sk.accuracy_score(labels, preds, sample_weight=weights),
        "balanced_accuracy": lambda: sk.balanced_accuracy_score(labels, preds, sample_weight=weights),
        "f1_macro": lambda: sk.f1_score(labels, preds, average="macro", sample_weight=weights),
        "roc_auc": lambda: sk.roc_auc_score(truth, scores, sample_weight=weights),
        "average_precision": lambda: sk.average_precision_score(truth, scores, sample_weight=weights),
        "sensitivity": lambda: sk.recall_score(labels, preds, **positive),
        "specificity": lambda: sk.recall_score(labels, preds, **negative),
        "ppv": lambda: sk.precision_score(labels, preds, **positive),
        "npv": lambda: sk.precision_score(labels, preds, **negative),
        "f1": lambda: sk.f1_score(labels, preds, **positive),
    }
    return float(known[name]())


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
    assert found["ppv"] == pytest.approx(sk.precision_score(cases.labels, cases.preds, average=None))
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(np.eye(4)[cases.labels], cases.probs, average=None))


@pytest.mark.parametrize("name", OF_ONE_LABEL)
def test_a_share_is_the_mean_of_hits_over_the_records_it_counts(name: str) -> None:
    cases = drawn(1, 2)
    found, hits = counted(name, cases), cases.preds == cases.labels
    if name in {"accuracy", "sensitivity", "specificity", "ppv", "npv"}:
        assert measure(name, cases).item() == pytest.approx(hits[found].mean())
    else:
        assert not found.any()


def test_only_the_loss_is_to_be_small() -> None:
    assert [name for name in METRICS if metric(name).direction == "min"] == ["loss"]


def test_unknown_and_unfit_metrics_are_refused() -> None:
    with pytest.raises(ConfigError, match="'metric' must name a metric, got 'roc_acu'; did you mean 'roc_auc'"):
        metric("roc_acu")
    with pytest.raises(ConfigError, match="'metric' must be one for 3 classes, got 'ppv', which is for two"):
        measure("ppv", drawn(0, 3))
    with pytest.raises(
        ConfigError, match="'metric' must be one for 2 classes, got 'exact_match', which is for several"
    ):
        measure("exact_match", drawn(0, 2))
