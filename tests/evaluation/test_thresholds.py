"""Thresholds are exact, know their model, and are refused where they mean nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from imgcls.core import config
from imgcls.core.dumping import dump_fields
from imgcls.core.errors import ConfigError, DataError
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.thresholds import Threshold, fit_thresholds, parse_rule, values_for


def scored(labels: Any, scores: Any, *, fold: Any = 0) -> Predictions:
    probs = np.stack([1 - np.asarray(scores), np.asarray(scores)], axis=1)
    return Predictions(
        ids=[f"{at}.png" for at in range(len(probs))],
        labels=labels,
        logits=probs,
        probs=probs,
        fold=np.broadcast_to(fold, len(probs)),
        split="val",
        classes=("no", "yes"),
        positive="yes",
    )


@st.composite
def studies(draw: st.DrawFn) -> tuple[list[int], list[float]]:
    labels = draw(st.lists(st.integers(0, 1), min_size=1, max_size=30))
    scores = draw(st.lists(st.sampled_from(np.linspace(0, 1, 8).tolist()), min_size=len(labels), max_size=len(labels)))
    return [*labels, 1], [*scores, 0.5]


@given(studies())
@settings(deadline=None)
def test_max_f1_is_the_best_of_all_scores_and_the_highest_of_equals(study: tuple[list[int], list[float]]) -> None:
    labels, scores = study
    (found,) = fit_thresholds(scored(labels, scores), model="0", rules=["max_f1"])
    values = {cut: sk.f1_score(labels, np.array(scores) >= cut) for cut in set(scores)}
    best = max(values.values())
    assert found.achieved == pytest.approx(best)
    assert found.value == max(cut for cut, value in values.items() if value == pytest.approx(best, abs=1e-12))


@given(studies(), st.floats(0.01, 1))
@settings(deadline=None)
def test_target_sensitivity_takes_the_highest_score_that_reaches_it(
    study: tuple[list[int], list[float]], target: float
) -> None:
    labels, scores = study
    (found,) = fit_thresholds(scored(labels, scores), model="0", rules=[f"sensitivity>={target}"])
    values = {cut: sk.recall_score(labels, np.array(scores) >= cut) for cut in set(scores)}
    assert found.value == max(cut for cut, value in values.items() if value >= target)
    assert found.achieved == pytest.approx(values[found.value])


def test_thresholds_tell_what_they_were_fitted_on() -> None:
    fitted = fit_thresholds(scored([0, 1, 1, 0], [0.1, 0.7, 0.4, 0.5]), model="mean")
    assert [threshold.rule for threshold in fitted] == ["max_f1", "sensitivity>=0.95", "0.5"]
    assert [threshold.value for threshold in fitted] == [0.4, 0.4, 0.5]
    assert [threshold.achieved for threshold in fitted] == [pytest.approx(0.8), 1.0, None]
    assert {(t.model, t.num_records, t.num_positives) for t in fitted} == {("mean", 4, 2)}


def test_spellings_of_one_rule_are_fitted_once() -> None:
    fitted = fit_thresholds(
        scored([0, 1], [0.1, 0.7]), model="0", rules=[0.5, "0.50", "sensitivity", "0.5", "sensitivity>=0.95"]
    )
    assert [threshold.rule for threshold in fitted] == ["0.5", "sensitivity>=0.95"]


def test_thresholds_survive_plain_values() -> None:
    (fitted, *_) = fit_thresholds(scored([0, 1], [0.1, 1 / 3]), model="0")
    assert config.build(Threshold, dump_fields(fitted), path="thresholds.0") == fitted


def test_no_positive_record_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"must have records of the positive class 'yes' .* got none among 2; .* val part"
    ):
        fit_thresholds(scored([0, 0], [0.1, 0.2]), model="0")


def test_more_than_two_classes_have_no_thresholds() -> None:
    many = Predictions(
        ids=["a"], labels=[0], logits=np.zeros((1, 3)), probs=[[0.2, 0.3, 0.5]], fold=[0], split="val", classes="xyz"
    )
    assert fit_thresholds(many, model="0") == ()
    with pytest.raises(ConfigError, match="'rule' must be '' with 3 classes, got 'max_f1'"):
        values_for(many, (), "max_f1")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("max_f1", "max_f1"),
        ("sensitivity", "sensitivity>=0.95"),
        ("sensitivity >= 0.9", "sensitivity>=0.9"),
        ("0.50", "0.5"),
        (0.25, "0.25"),
        (1, "1.0"),
    ],
)
def test_a_rule_has_one_spelling(text: str | float, name: str) -> None:
    assert parse_rule(text).name == name
    assert parse_rule(name) == parse_rule(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_f2", "'rule' must be a rule for thresholds, got 'max_f2'; did you mean 'max_f1'?"),
        ("sensitivity>=1.5", "'rule' must ask for a sensitivity above 0 and at most 1, got 'sensitivity>=1.5'"),
        ("sensitivity>=1e", "'rule' must ask for a sensitivity"),
        ("1.5", "'rule' must be a threshold from 0 to 1, got '1.5'"),
        ("nan", "'rule' must be a threshold from 0 to 1, got 'nan'"),
    ],
)
def test_a_wrong_rule_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_rule(text)


def test_each_record_meets_the_threshold_of_its_own_model() -> None:
    predictions = scored([0, 1, 1], [0.1, 0.2, 0.3], fold=[1, 0, -1])
    fitted = [
        Threshold(rule="max_f1", value=value, model=model, num_records=1, num_positives=1)
        for model, value in {"0": 0.3, "1": 0.6, "mean": 0.9}.items()
    ]
    assert values_for(predictions, fitted, "max_f1").tolist() == [0.6, 0.3, 0.9]
    assert values_for(predictions, (), 0.4).tolist() == [0.4, 0.4, 0.4]
    with pytest.raises(ConfigError, match="'thresholds' must have 'max_f1' of model 'mean'; there are those of '0'"):
        values_for(predictions, fitted[:1], "max_f1")


def test_a_prior_counts_as_so_many_copies() -> None:
    rng = np.random.default_rng(3)
    labels, scores = np.arange(40) % 2, rng.random(40)
    copied = np.concatenate([np.flatnonzero(labels), np.tile(np.flatnonzero(labels == 0), 9)])
    found = fit_thresholds(scored(labels, scores), model="0", prior=[0.9, 0.1])
    expected = fit_thresholds(scored(labels[copied], scores[copied]), model="0")
    assert [t.value for t in found] == [t.value for t in expected]
    assert [t.achieved for t in found][:2] == pytest.approx([t.achieved for t in expected][:2])
    assert found[0].value != fit_thresholds(scored(labels, scores), model="0")[0].value
