"""Intervals are resampled by group, reproducible, and cover the truth."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from imgcls.evaluation import intervals
from imgcls.evaluation.arrays import Floats
from imgcls.evaluation.intervals import (
    Resampled,
    bca,
    interval,
    limits,
    percentiles,
    resampled,
    standard,
    units,
    weights,
    wilson,
)
from imgcls.evaluation.resampling import left_out


def shares(hits: Floats) -> intervals.Statistic:
    return lambda rows: (rows @ hits / rows.sum(axis=1))[:, None]


@given(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=20), st.integers(0, 100))
@settings(deadline=None)
def test_groups_are_drawn_whole_and_as_many_as_there_are(groups: list[str], seed: int) -> None:
    owners = units(np.array(groups), len(groups))
    (block,) = weights(owners, resamples=5, seed=seed)
    for owner in range(owners.max() + 1):
        assert (np.ptp(block[:, owners == owner], axis=1) == 0).all()
    firsts = np.unique(owners, return_index=True)[1]
    assert (block[:, firsts].sum(axis=1) == len(firsts)).all()


def test_draws_do_not_depend_on_the_size_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    owners = units(None, 50)
    whole = np.concatenate(list(weights(owners, resamples=40, seed=3)))
    monkeypatch.setattr(intervals, "_BLOCK", 350)
    blocks = list(weights(owners, resamples=40, seed=3))
    assert [len(block) for block in blocks] == [7, 7, 7, 7, 7, 5]
    assert np.array_equal(np.concatenate(blocks), whole)


def test_the_interval_is_the_percentiles_of_repeated_draws() -> None:
    hits = np.random.default_rng(0).random(30)
    values = resampled(shares(hits), units(None, 30), resamples=500, seed=1)
    low, high = interval(shares(hits), num_records=30, resamples=500, seed=1)
    assert [low.item(), high.item()] == pytest.approx(np.percentile(values, [2.5, 97.5]))


def test_the_spread_is_that_of_the_mean() -> None:
    hits = np.random.default_rng(0).random(400)
    values = resampled(shares(hits), units(None, 400), resamples=4000, seed=0)
    assert values.std() == pytest.approx(hits.std() / 20, rel=0.05)


def test_one_group_has_no_interval() -> None:
    low, high = interval(shares(np.arange(3.0)), num_records=3, groups=np.array(["a", "a", "a"]))
    assert np.isnan([low, high]).all()


def test_few_nan_resamples_are_left_out_and_many_void_the_interval() -> None:
    values = np.tile(np.arange(100.0)[:, None], 2)
    values[:5, 0] = values[:6, 1] = np.nan
    low, high = percentiles(values)
    assert low[0] == pytest.approx(np.percentile(np.arange(5, 100), 2.5))
    assert np.isnan([low[1], high[1]]).all()


def test_the_ends_of_wilson_are_the_shares_that_a_score_test_just_keeps() -> None:
    shares, sizes = np.array([0.7, 0.1]), np.array([10, 80])
    for ends in wilson(shares, sizes):
        assert np.abs(shares - ends) / np.sqrt(ends * (1 - ends) / sizes) == pytest.approx(1.9599640, rel=1e-6)


def test_wilson_leaves_doubt_about_all_and_none_and_knows_nothing_of_nobody() -> None:
    low, high = wilson(np.array([0.0, 1.0, 1.0]), np.array([8, 24, 0]))
    square = 1.9599640**2
    assert [low[0], high[0]] == pytest.approx([0, square / (8 + square)])
    assert [low[1], high[1]] == pytest.approx([24 / (24 + square), 1])
    assert np.isnan([low[2], high[2]]).all()


def test_a_share_that_no_resample_changes_has_an_interval_by_groups_of_its_denominator() -> None:
    groups = np.array(list("aabbccdd"))
    counted = np.array([[True] * 8, [True] * 6 + [False] * 2, [False] * 8]).T
    low, high = interval(lambda rows: np.ones((len(rows), 3)), num_records=8, groups=groups, counted=counted)
    assert low[:2] == pytest.approx([4 / (4 + 1.95996**2), 3 / (3 + 1.95996**2)], rel=1e-4)
    assert high[:2].tolist() == [1, 1]
    assert np.isnan([low[2], high[2]]).all()


def test_what_is_no_share_has_no_interval_without_width() -> None:
    low, high = interval(lambda rows: np.full((len(rows), 1), 0.3), num_records=9)
    assert np.isnan([low, high]).all()


def studies(num_studies: int) -> tuple[float, float]:
    """Coverage by group and by record in studies of 60 groups with 5 records each.

    The chance of a hit differs by group, uniform from 0.5 to 1, so its mean is 0.75.
    """
    rng = np.random.default_rng(0)
    groups = np.arange(60).repeat(5).astype(str)
    covered = np.zeros((num_studies, 2))
    for study in range(num_studies):
        hits = (rng.random(300) < rng.uniform(0.5, 1, size=60).repeat(5)).astype(np.float64)
        for column, owners in enumerate((groups, None)):
            low, high = interval(shares(hits), num_records=300, groups=owners, resamples=300, seed=study)
            covered[study, column] = low.item() <= 0.75 <= high.item()
    by_group, by_record = covered.mean(axis=0)
    return by_group, by_record


def test_intervals_by_group_cover_the_truth_and_those_by_record_less() -> None:
    by_group, by_record = studies(200)
    assert 0.88 <= by_group <= 0.99
    assert by_record < by_group


# The other ways to make an interval


def test_bca_is_that_of_scipy() -> None:
    hits = np.random.default_rng(3).gamma(1.0, size=40)
    statistic = shares(hits)
    values = resampled(statistic, units(None, 40), resamples=4000, seed=0)
    low, high = bca(statistic(np.ones((1, 40)))[0], values, statistic(1 - np.eye(40)))
    expected = stats.bootstrap(
        (hits,), np.mean, method="BCa", n_resamples=4000, rng=np.random.default_rng(0)
    ).confidence_interval
    spread = expected.high - expected.low
    assert [low.item(), high.item()] == pytest.approx([expected.low, expected.high], abs=0.05 * spread)


def test_groups_are_left_out_one_by_one_or_in_sets_of_equal_size() -> None:
    (few,) = left_out(7, seed=0, rows=100)
    assert sorted(map(tuple, few.tolist())) == sorted(map(tuple, (1 - np.eye(7)).tolist()))
    many = np.concatenate(list(left_out(1000, seed=0, rows=33)))
    assert many.shape == (200, 1000)
    assert ((many == 0).sum(axis=0) == 1).all()
    assert ((many == 0).sum(axis=1) == 5).all()


def test_standard_intervals_stay_inside_and_are_those_of_t_for_small_errors() -> None:
    values, errors, groups = np.array([0.99, 0.5, -0.9, 3.0]), np.array([0.02, 1e-5, 0.2, 0.1]), np.full(4, 30)
    spans = np.array([[0, 1], [0, 1], [-1, 1], [0, np.inf]])
    low, high = standard(values, errors, groups, spans)
    assert ((spans[:, 0] < low) & (low < values) & (values < high) & (high < spans[:, 1])).all()
    half = stats.t.ppf(0.975, 29) * 1e-5
    assert [low[1], high[1]] == pytest.approx([0.5 - half, 0.5 + half], abs=1e-9)


def test_shares_have_the_effective_number_of_records_that_their_error_gives() -> None:
    share, error = np.array([0.8]), 0.05
    drawn = 0.8 + error * np.array([[-1.0], [1.0]] * 500) * np.sqrt(999 / 1000)
    found = Resampled(
        values=share,
        drawn=drawn,
        shares=np.array([True]),
        records=np.array([500]),
        groups=np.array([100_000]),
        spans=np.array([[0.0, 1.0]]),
    )
    low, high, kinds = limits(found)
    expected = wilson(share, np.array([0.8 * 0.2 / error**2]))
    assert [low.item(), high.item()] == pytest.approx([expected[0].item(), expected[1].item()], rel=1e-3)
    assert kinds == ["wilson"]
    (low,), (high,) = limits(attrs.evolve(found, records=np.array([10])))[:2]  # never more than there are
    assert [low, high] == pytest.approx([end.item() for end in wilson(share, np.array([10]))], rel=1e-3)


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision", "sensitivity"])
def test_intervals_of_grouped_studies_cover_the_truth(metric: str) -> None:
    found = simulated()
    assert 0.90 <= found[metric.replace("_", " ")] <= 0.99  # 200 studies; benchmarks/coverage.py has thousands


@functools.cache
def simulated() -> dict[str, float]:
    path = Path(__file__).parents[2] / "benchmarks" / "coverage.py"
    spec = importlib.util.spec_from_file_location("coverage_studies", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shares: dict[str, float] = module.coverage("patients", 150, 200, 200)["t"]
    return shares


def test_few_groups_and_a_value_near_its_end_give_the_whole_range_and_no_warning() -> None:
    values, errors = np.array([0.9999, 1.0, 0.3]), np.array([0.4, 0.4, 0.0])
    low, high = standard(values, errors, np.array([2, 2, 2]), np.tile([0.0, 1.0], (3, 1)))
    np.testing.assert_array_equal([low[:2], high[:2]], [[0.0, np.nan], [1.0, np.nan]])
    assert (low[2], high[2]) == pytest.approx((0.3, 0.3))
