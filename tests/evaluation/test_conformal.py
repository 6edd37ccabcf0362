"""Prediction sets hold the true class as often as they promise: by class, and for new groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from imgcls.core.errors import ConfigError, DataError
from imgcls.evaluation.conformal import fit_conformal
from imgcls.evaluation.predictions import Predictions, softmax


def study(
    rng: np.random.Generator, *, groups: int, per_group: Any, classes: int = 3, spread: float = 1.5
) -> Predictions:
    """Groups of unlike sizes; the records of a group share how misleading they are, and its label."""
    sizes = per_group(rng, groups)
    owners = np.repeat(np.arange(groups), sizes)
    labels = rng.integers(classes, size=groups)[owners]
    logits = rng.normal(size=(len(owners), classes)) + spread * rng.normal(size=(groups, classes))[owners]
    logits[np.arange(len(owners)), labels] += 1.5 + 0.5 * labels
    probs = softmax(logits)
    return Predictions(
        ids=[str(at) for at in range(len(owners))],
        labels=labels,
        logits=logits,
        probs=probs,
        groups=owners,
        fold=np.zeros(len(owners)),
        split="val",
        classes="abcdefgh"[:classes],
        positive="b" if classes == 2 else None,
    )


def unlike(rng: np.random.Generator, groups: int) -> Any:
    return rng.choice([1, 3, 20], size=groups)


def one(rng: np.random.Generator, groups: int) -> Any:
    return np.ones(groups, dtype=int)


def first_of_each(found: Predictions) -> Predictions:
    return found.take(np.unique(np.asarray(found.groups), return_index=True)[1])


def covered(found: Predictions, sets: Any) -> Any:
    return sets[np.arange(len(found)), found.labels]


def test_sets_are_the_same_of_probabilities_in_single_precision() -> None:
    found = study(np.random.default_rng(0), groups=500, per_group=one, classes=2)
    fitted = fit_conformal(found, alpha=0.1, method="aps")
    assert fitted.limits[0] == pytest.approx(1)
    sets = fitted.sets(found.probs)
    assert covered(found, sets).mean() >= 0.9
    np.testing.assert_array_equal(fitted.sets(found.probs.astype(np.float32)), sets)


@pytest.mark.parametrize("method", ["lac", "aps"])
@pytest.mark.parametrize("per_group", [one, unlike])
def test_a_record_of_a_new_group_is_covered_as_promised(method: str, per_group: Any) -> None:
    hits = []
    for seed in range(250):
        rng = np.random.default_rng(seed)
        fitted = fit_conformal(study(rng, groups=40, per_group=per_group), alpha=0.2, method=method)
        new = first_of_each(study(rng, groups=60, per_group=per_group))
        hits.append(covered(new, fitted.sets(new.probs)).mean())
    assert 0.785 < np.mean(hits) < (0.84 if method == "lac" else 0.93)


def test_taking_records_of_groups_for_alike_would_promise_too_much() -> None:
    """The reason for the weights: with a few large groups the plain quantile misses the promise for new groups."""

    def hits(*, grouped: bool) -> float:
        found = []
        for seed in range(250):
            rng = np.random.default_rng(seed)
            many = study(rng, groups=12, per_group=lambda _, n: np.full(n, 30), spread=3)
            # 12 groups of 30: 360 records promise more than 12 groups can
            known = many if grouped else Predictions(**{**_fields(many), "groups": None})
            new = first_of_each(study(rng, groups=60, per_group=one, spread=3))
            found.append(covered(new, fit_conformal(known, alpha=0.1).sets(new.probs)).mean())
        return float(np.mean(found))

    assert hits(grouped=True) > 0.89
    assert hits(grouped=False) < hits(grouped=True) - 0.01


def _fields(found: Predictions) -> dict[str, Any]:
    names = ("ids", "labels", "logits", "probs", "fold", "split", "classes", "positive")
    return {name: getattr(found, name) for name in names}


def test_each_class_is_covered_as_promised() -> None:
    whole: list[Any] = []
    each: list[Any] = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        known, new = (study(rng, groups=150, per_group=one) for _ in range(2))
        for per_class, into in ((False, whole), (True, each)):
            hits = covered(new, fit_conformal(known, alpha=0.1, per_class=per_class).sets(new.probs))
            into.append([hits[new.labels == label].mean() for label in range(3)])
    assert np.mean(each, axis=0) == pytest.approx([0.9] * 3, abs=0.025)
    assert np.mean(each, axis=0).min() > 0.895
    assert np.mean(whole, axis=0).min() < 0.87


def test_without_groups_the_limit_is_the_usual_quantile() -> None:
    known = study(np.random.default_rng(0), groups=99, per_group=one)
    plain = Predictions(**{**_fields(known), "groups": None})
    scores = np.sort(1 - known.probs[np.arange(99), known.labels])
    expected = scores[int(np.ceil(100 * 0.9)) - 1]
    assert fit_conformal(plain, alpha=0.1).limits == (expected,) * 3
    assert fit_conformal(known, alpha=0.1).limits == (expected,) * 3


def test_too_few_groups_exclude_nothing() -> None:
    few = fit_conformal(study(np.random.default_rng(0), groups=8, per_group=unlike), alpha=0.1)
    assert few.limits == (np.inf,) * 3
    assert few.sets(np.array([[1.0, 0.0, 0.0]])).all()
    assert (few.num_groups, few.names(np.array([[1.0, 0.0, 0.0]]))) == (8, ["a|b|c"])


def test_adaptive_sets_hold_the_most_probable_classes() -> None:
    found = fit_conformal(study(np.random.default_rng(0), groups=100, per_group=one), alpha=0.3, method="aps")
    probs = np.random.default_rng(1).dirichlet([1, 1, 1], size=50)
    for row, inside in zip(probs, found.sets(probs), strict=True):
        assert row[inside].min(initial=1) >= row[~inside].max(initial=0)


def test_coverage_is_told_by_class_and_for_new_groups() -> None:
    rng = np.random.default_rng(0)
    known, new = (study(rng, groups=80, per_group=unlike, classes=2) for _ in range(2))
    fitted = fit_conformal(known, alpha=0.1)
    table = fitted.coverage(new, resamples=200).set_index("class")
    hits = covered(new, fitted.sets(new.probs))
    assert table.index.tolist() == ["", "a new group", "a", "b"]
    assert table.coverage[""] == pytest.approx(hits.mean())
    means = [hits[new.groups == group].mean() for group in np.unique(np.asarray(new.groups))]
    assert table.coverage["a new group"] == pytest.approx(np.mean(means))
    assert table.coverage["b"] == pytest.approx(hits[new.labels == 1].mean())
    assert (table.low <= table.coverage).all()
    assert (table.promised == 0.9).all()


def test_what_has_no_meaning_is_refused() -> None:
    several = Predictions(
        ids=["a"], labels=[[1, 0]], logits=[[1, 0]], probs=[[0.7, 0.5]], fold=[0], split="val", classes="xy"
    )
    with pytest.raises(DataError, match="one label a record for prediction sets, got several"):
        fit_conformal(several)
    known = study(np.random.default_rng(0), groups=9, per_group=one)
    with pytest.raises(ConfigError, match=r"'alpha' must be a number above 0 and below 1, got 1.5"):
        fit_conformal(known, alpha=1.5)
    with pytest.raises(ConfigError, match="'method' must be one of 'lac', 'aps', got 'raps'"):
        fit_conformal(known, method="raps")
