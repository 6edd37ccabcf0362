"""Calibrated probabilities keep what they promise, and validation records are calibrated by others than themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from imgcls.core.errors import DataError
from imgcls.evaluation.calibration import (
    METHODS,
    calibrate,
    cross_calibrated,
    fit_calibration,
    load_calibrations,
    log_odds,
    save_calibrations,
)
from imgcls.evaluation.predictions import Predictions, probabilities
from imgcls.evaluation.reliability import reliability

CLASSES = {1: ("no", "yes"), 2: ("no", "yes"), 3: ("x", "y", "z")}


def told(logits: Any, labels: Any, *, multilabel: bool = False, **options: Any) -> Predictions:
    logits = np.asarray(logits, dtype=np.float32)
    classes = CLASSES[logits.shape[1]]
    return Predictions(
        **{
            "ids": [f"{at}.png" for at in range(len(logits))],
            "labels": labels,
            "logits": logits,
            "probs": probabilities(logits, multilabel=multilabel),
            "fold": np.zeros(len(logits)),
            "split": "val",
            "classes": classes,
            "positive": "yes" if classes[1] == "yes" else None,
            **options,
        }
    )


def overconfident(count: int, outputs: int, *, seed: int = 0, factor: float = 3.0) -> Predictions:
    """Labels drawn from the softmax of logits; the model says `factor` times as much."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, size=(count, outputs))
    probs = probabilities(logits)
    labels = (probs.cumsum(axis=1) < rng.random(count)[:, None]).sum(axis=1)
    return told(factor * logits, labels)


@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_the_temperature_is_the_factor_that_logits_are_too_large(outputs: int) -> None:
    found = fit_calibration(overconfident(20_000, outputs), "temperature", model="0")
    assert found.temperature == pytest.approx(3, rel=0.05)
    assert found.nll[1] < found.nll[0]


def test_the_temperature_has_the_least_cross_entropy() -> None:
    study = overconfident(300, 3)

    def nll(log: Any) -> float:
        probs = probabilities(study.logits / np.exp(log[0]))
        return float(-np.log(probs[np.arange(300), study.labels]).mean())

    expected = minimize(nll, [0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12})
    found = fit_calibration(study, "temperature", model="0")
    assert found.nll[1] == pytest.approx(expected.fun, abs=1e-8)
    assert found.temperature == pytest.approx(np.exp(expected.x[0]), rel=1e-4)


def test_platt_is_that_of_scikit_learn() -> None:
    study = overconfident(200, 1)
    rows = study.logits.astype(np.float64)
    line = LogisticRegression(C=1e12).fit([[-1.0], [1.0], [0.3], [-0.2]], [0, 1, 0, 1])
    line.coef_, line.intercept_ = np.array([[1.0]]), np.array([0.0])  # so that its decision is the logit itself
    expected = CalibratedClassifierCV(FrozenEstimator(line), method="sigmoid").fit(rows, study.labels)
    found = fit_calibration(study, "platt", model="0")
    np.testing.assert_allclose(found.probs(rows), expected.predict_proba(rows), atol=2e-4)


def test_isotonic_is_that_of_scikit_learn() -> None:
    study = overconfident(200, 2)
    odds = log_odds(study.logits)[:, 0]
    expected = IsotonicRegression(y_min=1 / 202, y_max=201 / 202, out_of_bounds="clip").fit(odds, study.labels)
    new = np.stack([np.zeros(50), np.linspace(-20, 20, 50)], axis=1)
    found = fit_calibration(study, "isotonic", model="0")
    np.testing.assert_allclose(found.probs(new)[:, 1], expected.predict(new[:, 1]), atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_what_is_promised_is_kept_on_other_records(method: str, outputs: int) -> None:
    found = fit_calibration(overconfident(4000, outputs), method, model="0")
    new = overconfident(4000, outputs, seed=1)
    kept = calibrate(new, [found])
    assert reliability(new, resamples=0).error > 0.08
    assert reliability(kept, resamples=0).error < 0.03
    np.testing.assert_allclose(kept.probs.sum(axis=1), 1)


@pytest.mark.parametrize("method", METHODS)
def test_each_of_several_labels_has_a_curve(method: str) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3))
    labels = (rng.random((4000, 3)) < probabilities(logits, multilabel=True)).astype(int)
    labels[:, 2] = 0  # a label that no record has says nothing about its logits
    study = told(logits * [1, 4, 1], labels, multilabel=True)
    found = fit_calibration(study, method, model="0")
    after = calibrate(study, [found])
    assert reliability(after, "y", resamples=0).error < 0.03 < reliability(study, "y", resamples=0).error
    if method != "isotonic":
        assert [curve[0] for curve in found.curves] == pytest.approx([1, 0.25, 1], rel=0.15)


def test_a_prior_counts_as_so_many_copies() -> None:
    study = overconfident(400, 1)
    where = [np.flatnonzero(study.labels == label) for label in (0, 1)]
    even = study.take(np.concatenate([one[:100] for one in where]))
    copied = even.take(np.concatenate([np.tile(np.arange(100), 9), np.arange(100, 200)]))
    copied = attrs.evolve(copied, ids=np.arange(len(copied)))
    weighted = fit_calibration(even, "temperature", model="0", prior=[0.9, 0.1])
    assert weighted.temperature == pytest.approx(
        fit_calibration(copied, "temperature", model="0").temperature, rel=1e-3
    )


def test_a_record_is_calibrated_by_its_own_model() -> None:
    study = overconfident(200, 1)
    mixed = attrs.evolve(study, fold=np.arange(200) % 2)
    parts = [fit_calibration(study, "temperature", model="0"), fit_calibration(study, "isotonic", model="1")]
    found = calibrate(mixed, parts)
    np.testing.assert_allclose(found.probs[1::2], parts[1].probs(study.logits)[1::2])
    with pytest.raises(DataError, match="'calibrations' must have one of model '1', got those of \\['0'\\]"):
        calibrate(mixed, parts[:1])


def test_validation_records_do_not_calibrate_themselves() -> None:
    """Fitted on themselves, steps follow pure noise; fitted on others of other groups, they find none to follow."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 2)
    labels = np.repeat(rng.integers(2, size=60), 2)
    noise = told(np.repeat(rng.normal(size=(60, 1)), 2, axis=0), labels, groups=groups)
    own = calibrate(noise, [fit_calibration(noise, "isotonic", model="0")])
    crossed = cross_calibrated(noise, "isotonic")

    def loss(found: Predictions) -> float:
        return float(-np.log(found.probs[np.arange(120), labels]).mean())

    assert loss(own) < np.log(2) < loss(crossed)


def test_records_of_one_class_cannot_be_calibrated() -> None:
    with pytest.raises(DataError, match="must have records of two classes to calibrate, got 3 of one"):
        fit_calibration(told([[1.0], [2.0], [3.0]], [1, 1, 1]), "temperature", model="0")


def test_calibrations_survive_their_file(tmp_path: Path) -> None:
    study = overconfident(100, 3)
    fitted = [fit_calibration(study, method, model=str(n)) for n, method in enumerate(METHODS)]
    save_calibrations(tmp_path / "calibration.json", fitted)
    assert load_calibrations(tmp_path / "calibration.json") == tuple(fitted)
    assert load_calibrations(tmp_path / "none.json") == ()


def test_a_reliability_curve_counts_what_came_true() -> None:
    scores, labels = np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9]), [0, 0, 1, 1, 1, 0]
    study = told(np.log(scores / (1 - scores))[:, None], labels)
    curve = reliability(study, bins=2, quantile=False, resamples=100)
    assert curve.edges.tolist() == [0, 0.5, 1]
    assert curve.counts.tolist() == [3, 3]
    assert curve.promised == pytest.approx([0.2, 0.8])
    assert curve.kept == pytest.approx([1 / 3, 2 / 3])
    assert curve.error == pytest.approx(2 / 15)
    assert (curve.low <= curve.kept).all()
    assert (curve.high >= curve.kept).all()


def test_reliability_intervals_cover_what_is_true() -> None:
    """Calibrated by construction: each bin's interval should hold the mean promise in about 95 of 100 studies."""
    held = []
    for seed in range(60):
        curve = reliability(overconfident(300, 1, seed=seed, factor=1.0), bins=4, resamples=200)
        held.append((curve.low <= curve.promised) & (curve.promised <= curve.high))
    assert 0.88 < np.mean(held) <= 1


@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_no_temperature_makes_a_model_certain_that_was_always_right(outputs: int) -> None:
    labels = np.arange(40) % max(outputs, 2)
    logits = np.where(labels == 1, 2.0, -2.0)[:, None] if outputs == 1 else 2.0 * np.eye(outputs)[labels]
    found = fit_calibration(told(logits, labels), "temperature", model="0")
    assert found.probs(logits).max(axis=1).mean() == pytest.approx(41 / 42)


def test_hopelessly_large_logits_are_held_back_as_far_as_may_be() -> None:
    found = fit_calibration(told([[1e30], [-1e30], [1e30]], [1, 0, 0]), "temperature", model="0")
    assert found.temperature == pytest.approx(100)
