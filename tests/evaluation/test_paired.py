"""Two models on the same records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from imgcls.evaluation.evaluate import Table
from imgcls.evaluation.paired import delong, differences, holm, mcnemar
from imgcls.evaluation.predictions import Predictions


def scored(seed: int, count: int = 60) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    positive = np.arange(count) % 3 == 0
    return positive, (rng.normal(size=count) + positive).round(1), (rng.normal(size=count) + 0.5 * positive).round(1)


@given(st.integers(0, 1000))
def test_delong_is_the_covariance_of_the_placements_of_the_paper(seed: int) -> None:
    positive, one, two = scored(seed)

    def kernel(scores: Any) -> Any:
        gaps = scores[positive][:, None] - scores[~positive]
        return (gaps > 0) + 0.5 * (gaps == 0)

    (a, b), (m, n) = (kernel(one), kernel(two)), (positive.sum(), (~positive).sum())
    rows, columns = np.cov(a.mean(1), b.mean(1)), np.cov(a.mean(0), b.mean(0))
    whole = rows / m + columns / n
    expected = whole[0, 0] + whole[1, 1] - 2 * whole[0, 1]
    gap, error, p = delong(positive, one, two)
    assert gap == pytest.approx(roc_auc_score(positive, two) - roc_auc_score(positive, one))
    assert error**2 == pytest.approx(expected)
    assert p == pytest.approx(2 * stats.norm.sf(abs(gap) / error) if gap else 1)


def test_copies_of_records_in_groups_change_nothing_of_delong() -> None:
    positive, one, two = scored(0)
    once = delong(positive, one, two)
    labels, first, second = (np.tile(values, 2) for values in (positive, one, two))
    assert delong(labels, first, second, owners=np.tile(np.arange(60), 2)) == pytest.approx(once)
    assert delong(labels, first, second)[1] < 0.8 * once[1]


def test_one_positive_group_has_no_test() -> None:
    positive, one, two = scored(0)
    assert np.isnan(delong(positive, one, two, owners=np.where(positive, 0, np.arange(60)))[1])


@given(st.lists(st.sampled_from([(0, 0), (1, 1), (0, 1), (1, 0)]), min_size=1, max_size=40))
def test_mcnemar_is_the_exact_binomial_test_without_groups(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs, dtype=bool).T
    alone, other, p = mcnemar(first, second)
    assert (alone, other) == ((first & ~second).sum(), (second & ~first).sum())
    expected = stats.binomtest(alone, alone + other).pvalue if alone + other else 1
    assert p == pytest.approx(expected)


def test_mcnemar_of_many_takes_the_normal_distribution() -> None:
    first, second = np.arange(1000) % 10 < 4, np.arange(1000) % 10 >= 3  # 300 against 600
    assert mcnemar(first, second)[2] == pytest.approx(stats.chi2.sf((600 - 300) ** 2 / 900, 1))


def test_groups_are_the_trials_of_mcnemar() -> None:
    first, second = np.array([True] * 6), np.array([False] * 6)
    assert mcnemar(first, second)[2] == 2 / 2**6
    assert mcnemar(first, second, owners=np.array([0, 0, 0, 1, 1, 1]))[2] == 2 / 2**2


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_its_steps_reject(chances: list[float]) -> None:
    found = holm(np.array(chances))
    for level in (0.01, 0.05, 0.3):
        rejected = set()
        for step, at in enumerate(np.argsort(chances, kind="stable")):
            if chances[at] * (len(chances) - step) > level:
                break
            rejected.add(int(at))
        assert set(np.flatnonzero(found <= level).tolist()) == rejected


def test_holm_does_not_count_tests_that_were_not_made() -> None:
    assert holm(np.array([0.02, np.nan, 0.04])) == pytest.approx([0.04, np.nan, 0.04], nan_ok=True)


def table(seed: int, shift: float, count: int = 200) -> Table:
    labels, rng = np.arange(count) % 2, np.random.default_rng(seed)
    scores = 1 / (1 + np.exp(-(rng.normal(size=count) + shift * (2 * labels - 1))))
    predictions = Predictions(
        ids=[f"{at:03d}" for at in range(count)],
        labels=labels,
        logits=np.log(np.stack([1 - scores, scores], axis=1)),
        probs=np.stack([1 - scores, scores], axis=1),
        fold=np.zeros(count),
        split="test",
        classes=("no", "yes"),
        positive="yes",
    )
    return Table.of(predictions, ())


def test_a_model_does_not_differ_from_itself() -> None:
    gap, low, high, p = differences(table(0, 1), table(0, 1), resamples=50)
    assert not gap.any()
    assert (np.nan_to_num(low) == 0).all()
    assert (np.nan_to_num(high) == 0).all()
    assert (np.nan_to_num(p, nan=1.0) == 1).all()


def test_the_bootstrap_agrees_with_delong_where_it_is_right() -> None:
    one, two = table(0, 0.7), table(1, 1.0)
    gap, low, high, p = differences(one, two, resamples=2000)
    at = [line.metric for line in one.lines].index("roc_auc")
    expected = delong(one.part.has(1), one.part.scores, two.part.scores)
    assert gap[at] == pytest.approx(expected[0])
    assert (high - low)[at] / 3.92 == pytest.approx(expected[1], rel=0.1)
    assert p[at] == pytest.approx(expected[2], abs=0.01)
