"""Thresholds are exact, know their model, and are refused where they mean nothing."""

from __future__ import annotations

import re
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from imgcls.core import config
from imgcls.core.dumping import dump_fields
from imgcls.core.errors import ConfigError, DataError
from imgcls.evaluation.decisions import decisions
from imgcls.evaluation.predictions import Predictions, probabilities
from imgcls.evaluation.rules import Candidates, choose
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


def many(probs: Any, labels: Any) -> Predictions:
    ids = [f"{at}.png" for at in range(len(labels))]
    return Predictions(
        ids=ids, labels=labels, logits=probs, probs=probs, fold=[0] * len(ids), split="val", classes="xyz"
    )


def test_more_than_two_classes_have_thresholds_only_where_they_are_asked_for() -> None:
    rng = np.random.default_rng(0)
    found = many(rng.dirichlet([1, 1, 1], size=60), rng.integers(3, size=60))
    assert fit_thresholds(found, model="0") == ()
    with pytest.raises(ConfigError, match="'thresholds' must have 'max_f1' of model '0' and class 'x'; there are none"):
        values_for(found, (), "max_f1")
    each = fit_thresholds(found, model="0", rules=[{"name": "max_f1", "every_class": True}])
    for at, one in enumerate(each):
        (alone,) = fit_thresholds(scored(found.labels == at, found.probs[:, at]), model="0", rules=["max_f1"])
        assert (one.class_name, one.value, one.achieved) == ("xyz"[at], alone.value, alone.achieved)


def test_the_class_farthest_above_its_threshold_is_decided() -> None:
    found = many([[0.5, 0.4, 0.1], [0.7, 0.2, 0.1]], [0, 1])
    cuts = [
        Threshold(rule="youden", value=v, model="0", num_records=2, num_positives=1, class_name=n)
        for n, v in {"x": 0.6, "y": 0.3, "z": 0.9}.items()
    ]
    assert decisions(found, cuts, "youden").tolist() == [1, 0]
    assert decisions(found, (), 0.3).tolist() == decisions(found).tolist()


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


def brute(labels: list[int], scores: list[float], rate: Any) -> dict[float, float]:
    """A statistic of (sensitivity, false alarms) at every candidate, one by one; above them all nothing is called."""
    top = max(scores)
    cuts = {*scores, *([np.nextafter(top, 1)] if top < 1 else [])}
    truth, found = np.array(labels) == 1, {}
    for cut in cuts:
        called = np.array(scores) >= cut
        alarms = called[~truth].mean() if (~truth).any() else 0.0
        found[float(cut)] = rate(called[truth].mean(), alarms)
    return found


@pytest.mark.parametrize(
    ("rule", "rate"),
    [
        ("youden", lambda found, alarms: found - alarms),
        ("min_hter", lambda found, alarms: -(1 - found + alarms) / 2),
        ("eer", lambda found, alarms: -abs(1 - found - alarms)),
    ],
)
@given(study=studies())
@settings(deadline=None)
def test_rules_of_error_rates_are_the_best_of_all_scores(rule: str, rate: Any, study: Any) -> None:
    labels, scores = study
    (found,) = fit_thresholds(scored(labels, scores), model="0", rules=[rule], resamples=0)
    values = brute(labels, scores, rate)
    assert values[found.value] == pytest.approx(max(values.values()))
    assert found.value == max(cut for cut, value in values.items() if value == pytest.approx(values[found.value]))


@given(studies(), st.floats(0.01, 1))
@settings(deadline=None)
def test_target_specificity_takes_the_lowest_score_that_reaches_it(study: Any, target: float) -> None:
    labels, scores = study
    (found,) = fit_thresholds(scored(labels, scores), model="0", rules=[f"specificity>={target}"], resamples=0)
    values = brute(labels, scores, lambda _, alarms: 1 - alarms)
    assert found.achieved == pytest.approx(values[found.value])
    reached = [cut for cut, value in values.items() if value >= target]
    assert found.value == (min(reached) if reached else max(values))


@given(studies(), st.floats(0.1, 10), st.floats(0.1, 10))
@settings(deadline=None)
def test_costs_are_the_least_of_all_scores(study: Any, fp: float, fn: float) -> None:
    labels, scores = study
    (found,) = fit_thresholds(
        scored(labels, scores), model="0", rules=[{"name": "cost", "fp": fp, "fn": fn}], resamples=0
    )
    share = np.mean(labels)
    values = brute(labels, scores, lambda sens, alarms: fn * share * (1 - sens) + fp * (1 - share) * alarms)
    assert found.achieved == pytest.approx(min(values.values()), abs=1e-12)
    assert values[found.value] == pytest.approx(found.achieved, abs=1e-12)


def test_a_threshold_tells_how_far_resampled_groups_move_it() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    scores = 1 / (1 + np.exp(-rng.normal(2 * labels - 1, 1)))
    (one,) = fit_thresholds(scored(labels, scores), model="0", rules=["youden"])
    (wide,) = fit_thresholds(
        attrs.evolve(scored(labels, scores), groups=np.arange(200) // 20), model="0", rules=["youden"]
    )
    assert one.low is not None
    assert one.high is not None
    assert one.low < one.value < one.high
    drawn = [rng.integers(200, size=200) for _ in range(400)]
    alone = [
        fit_thresholds(scored(labels[d], scores[d]), model="0", rules=["youden"], resamples=0)[0].value for d in drawn
    ]
    assert [one.low, one.high] == pytest.approx(np.quantile(alone, [0.025, 0.975]), abs=0.05)
    assert (wide.low, wide.high) != (one.low, one.high)


def test_one_group_gives_a_threshold_without_uncertainty() -> None:
    alone = attrs.evolve(scored([0, 1], [0.2, 0.7]), groups=["g", "g"])
    (found,) = fit_thresholds(alone, model="0", rules=["max_f1"])
    assert (found.value, found.low, found.high) == (0.7, None, None)


def test_in_a_resample_only_its_own_scores_are_candidates() -> None:
    labels, scores = np.array([0, 0, 0, 1, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    drawn = np.array([[2, 1, 0, 1, 1, 1]])  # without the record of 0.3
    found = choose(Candidates.of(scores, labels == 1, drawn.astype(np.float64)), parse_rule("specificity>=0.75"))
    assert [values.tolist() for values in found] == [[0.4], [0.75]]


def test_too_few_positives_are_refused_unless_forced() -> None:
    few = scored([0] * 9 + [1] * 3, np.linspace(0, 1, 12))
    with pytest.raises(DataError, match="at least 5 records of each class to fit thresholds, got 3 of one; name a num"):
        fit_thresholds(few, model="0", rules=["max_f1"], minimum=5)
    assert fit_thresholds(few, model="0", rules=[{"name": "max_f1", "force": True}, 0.5], minimum=5)
    assert fit_thresholds(few, model="0", rules=[0.5], minimum=5)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ({"name": "youden"}, "youden"),
        ({"name": "sensitivity", "at_least": 0.9, "force": True}, "sensitivity>=0.9"),
        ({"name": "specificity"}, "specificity>=0.95"),
        ({"name": "cost", "fn": 5}, "cost(fp=1.0,fn=5.0)"),
        ({"name": "cost", "matrix": [[1, 2], [6, 1]]}, "cost(fp=1.0,fn=5.0)"),
        ({"name": "fixed", "at": 0.25}, "0.25"),
        ("cost(fp=1, fn=5)", "cost(fp=1.0,fn=5.0)"),
        ("specificity>=0.9", "specificity>=0.9"),
    ],
)
def test_a_spec_and_its_spelling_are_one_rule(spec: Any, name: str) -> None:
    assert parse_rule(spec).name == name
    assert parse_rule(name) == parse_rule(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "max_f2"}, "'rule.name' must be a rule for thresholds, got 'max_f2'; did you mean 'max_f1'"),
        (
            {"name": "max_f1", "at_least": 0.9},
            "'rule.at_least' must be an option of max_f1, got 0.9; there are 'force'",
        ),
        ({"name": "sensitivity", "at_least": 2}, "'rule' must ask for a sensitivity above 0 and at most 1, got 2"),
        ({"name": "cost", "fn": -1}, "'rule' must have costs above 0"),
        ({"name": "cost", "matrix": [[0, 1]]}, "'rule.matrix' must be"),
        ("cost(fp=1)", "'rule' must be a rule for thresholds"),
        ({"name": "max_f1", "force": "yes"}, "'rule.force' must be True or False, got 'yes'"),
        (True, "'rule' must be a rule for thresholds, got True"),
    ],
)
def test_a_wrong_spec_is_refused(spec: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_rule(spec)


def test_scores_that_went_twice_through_a_sigmoid_would_show() -> None:
    """The fault of a reference system: 0.5 to 0.73 is all that such scores reach."""
    logits = np.linspace(-6, 6, 101)
    once = probabilities(logits[:, None])[:, 1]
    assert once.min() < 0.01
    assert once.max() > 0.99
    (found,) = fit_thresholds(scored(logits > 0.88, once), model="0", rules=["youden"])
    assert found.value == pytest.approx(1 / (1 + np.exp(-logits[logits > 0.88][0])))


def test_every_score_is_a_candidate_not_a_grid() -> None:
    labels, scores = [0, 1], [0.50001, 0.50002]
    (found,) = fit_thresholds(scored(labels, scores), model="0", rules=["min_hter"])
    assert (found.value, found.achieved) == (0.50002, 0.0)
