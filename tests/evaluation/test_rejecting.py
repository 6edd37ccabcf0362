"""A model that may abstain takes its surest decisions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from imgcls.core.errors import ConfigError, DataError
from imgcls.evaluation.predictions import Predictions, softmax
from imgcls.evaluation.rejecting import confidence, fit_rejection, risk_coverage
from imgcls.evaluation.thresholds import Threshold


def study(count: int, classes: int = 3, *, seed: int = 0, decimals: int = 9) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=count)
    logits = rng.normal(size=(count, classes))
    logits[np.arange(count), labels] += 1
    probs = np.round(softmax(logits), decimals)
    probs[:, 0] += 1 - probs.sum(axis=1)
    return Predictions(
        ids=[str(at) for at in range(count)],
        labels=labels,
        logits=logits,
        probs=np.clip(probs, 0, 1),
        groups=np.arange(count) // 2,
        fold=np.zeros(count),
        split="val",
        classes="xyz"[:classes],
        positive="y" if classes == 2 else None,
    )


@pytest.mark.parametrize("decimals", [9, 1])
def test_the_risk_is_that_of_the_surest_records(decimals: int) -> None:
    found = study(100, decimals=decimals)
    curve = risk_coverage(found, resamples=50)
    sure, wrong = found.probs.max(axis=1), found.probs.argmax(axis=1) != found.labels
    for share, risk, limit in zip(curve.coverage, curve.risk, curve.confidence, strict=True):
        taken = sure >= limit
        assert (share, risk) == (pytest.approx(taken.mean()), pytest.approx(wrong[taken].mean()))
    assert curve.coverage[-1] == 1
    assert curve.risk[-1] == pytest.approx(wrong.mean())
    steps = np.diff(curve.coverage, prepend=0)
    assert curve.area[0] == pytest.approx(steps @ curve.risk)
    assert curve.area[1] < curve.area[0] < curve.area[2]


def test_long_curves_keep_their_area() -> None:
    curve = risk_coverage(study(1000), resamples=0)
    assert len(curve.risk) == 200
    sure = -np.sort(-study(1000).probs.max(axis=1))
    wrong = (study(1000).probs.argmax(axis=1) != study(1000).labels)[np.argsort(-study(1000).probs.max(axis=1))]
    assert len(np.unique(sure)) == 1000
    assert curve.area[0] == pytest.approx((np.cumsum(wrong) / np.arange(1, 1001)).mean())


def test_confidence_of_two_classes_counts_from_the_threshold() -> None:
    found = study(4, classes=2)
    object.__setattr__(found, "probs", np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.0, 1.0]]))
    cut = Threshold(rule="max_f1", value=0.2, model="0", num_records=4, num_positives=2)
    assert confidence(found, [cut], "max_f1").tolist() == pytest.approx([0.5, 0, 0.5, 1])
    assert confidence(found).tolist() == pytest.approx([0.8, 0.6, 0.2, 1])


def test_a_risk_is_kept_with_as_many_decisions_as_possible() -> None:
    found = study(400)
    rejection = fit_rejection(found, risk=0.2)
    sure, wrong = confidence(found), found.probs.argmax(axis=1) != found.labels
    taken = ~rejection.rejects(sure)
    assert rejection.risk == pytest.approx(wrong[taken].mean())
    assert rejection.coverage == pytest.approx(taken.mean())
    more = [limit for limit in sure if limit < rejection.limit and wrong[sure >= limit].mean() <= 0.2]
    assert rejection.risk <= 0.2
    assert not more


def test_a_coverage_is_kept_with_the_surest_decisions_on_other_records_too() -> None:
    rejection = fit_rejection(study(2000), coverage=0.7)
    assert rejection.coverage == pytest.approx(0.7)
    new = study(2000, seed=1)
    taken = ~rejection.rejects(confidence(new))
    assert taken.mean() == pytest.approx(0.7, abs=0.04)
    wrong = new.probs.argmax(axis=1) != new.labels
    assert wrong[taken].mean() == pytest.approx(rejection.risk, abs=0.04)
    assert wrong[taken].mean() < wrong.mean() - 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "'risk' must be given, or 'coverage', and not both, got None"),
        ({"risk": 0.1, "coverage": 0.5}, "'risk' must be given, or 'coverage'"),
        ({"coverage": 2}, "'coverage' must be a share from 0 to 1, got 2"),
    ],
)
def test_wrong_wishes_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fit_rejection(study(20), **options)


def test_a_risk_that_nothing_keeps_is_refused() -> None:
    found = study(30)
    wrong = found.take(np.flatnonzero(found.probs.argmax(axis=1) != found.labels))
    with pytest.raises(
        DataError, match=r"'risk' must be one that some confidence reaches, got 0.1; the least is 1.000"
    ):
        fit_rejection(wrong, risk=0.1)
