import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from imgcls.core.errors import DataError
from imgcls.evaluation.intervals import interval
from imgcls.explain.mask_scores import MaskScores
from imgcls.explain.score_tables import differences, pooled, summary


@pytest.fixture
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    found = MaskScores().rows(rng.random((12, 6, 6)), rng.random((12, 6, 6)) < 0.4)
    found.loc[[3, 7], "mass"] = np.nan
    found["state"] = np.select([found.index == 3, found.index == 7], ["empty mask", "invalid"], "scored")
    about = {"id": [str(n) for n in range(12)], "class": list("ab") * 6, "group": [f"g{n // 2}" for n in range(12)]}
    return pd.concat([pd.DataFrame(about), found], axis=1)


def test_means_are_over_the_images_that_have_a_score(rows: pd.DataFrame) -> None:
    row = summary(rows, ["mass"]).iloc[0]
    good = rows["mass"].dropna()
    assert (row["n"], row["empty"], row["silent"], row["invalid"]) == (10, 1, 0, 1)
    assert (row["mean"], row["std"], row["median"]) == pytest.approx((good.mean(), good.std(), good.median()))


def test_each_class_has_its_rows_and_counts(rows: pd.DataFrame) -> None:
    table = summary(rows, ["mass", "rank"], by="class").set_index(["value", "metric"])
    assert table.index.tolist() == [(v, m) for v in ("", "a", "b") for m in ("mass", "rank")]
    assert table.loc[("b", "mass"), "mean"] == pytest.approx(rows[rows["class"] == "b"]["mass"].mean())
    assert (table.loc[("a", "mass"), "n"], table.loc[("b", "mass"), "n"]) == (6, 4)


def test_intervals_draw_whole_groups(rows: pd.DataFrame) -> None:
    table = summary(rows, ["rank"], resamples=200, seed=3).iloc[0]
    values = rows["rank"].to_numpy()

    def mean(weights: np.ndarray) -> np.ndarray:
        return (weights @ values / weights.sum(axis=1))[:, None]

    low, high = interval(mean, num_records=12, groups=rows["group"].to_numpy(str), resamples=200, seed=3)
    assert (table["low"], table["high"]) == pytest.approx((low[0], high[0]))


def test_one_group_has_no_interval(rows: pd.DataFrame) -> None:
    assert np.isnan(summary(rows.assign(group="one"), ["rank"])["low"].item())


def test_nothing_scored_is_a_mean_of_nothing(rows: pd.DataFrame) -> None:
    row = summary(rows.assign(mass=np.nan), ["mass"]).iloc[0]
    assert np.isnan(row["mean"])
    assert row["n"] == 0


def test_pooled_pixels_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    maps, masks = rng.random((5, 6, 6)), rng.random((5, 6, 6)) < 0.4
    silent = np.array([False, True, False, False, False])
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    taken = ((maps - low) / (high - low) > 0.5) & ~silent[:, None, None]
    found = pooled(MaskScores().rows(maps, masks, silent=silent)).set_index("metric")["value"]
    functions = {
        "accuracy": metrics.accuracy_score,
        "precision": metrics.precision_score,
        "recall": metrics.recall_score,
        "f1": metrics.f1_score,
        "jaccard": metrics.jaccard_score,
    }
    for name, function in functions.items():
        assert found[name] == pytest.approx(function(masks.ravel(), taken.ravel()))


def test_differences_are_paired_and_leave_out_what_one_of_them_lacks(rows: pd.DataFrame) -> None:
    other = rows.assign(mass=rows["mass"] - 0.1)
    other.loc[0, "mass"] = np.nan
    row = differences({"x": rows, "y": other}, ["mass"]).iloc[0]
    assert (row["a"], row["b"], row["n"], row["better"]) == ("x", "y", 9, 1)
    assert row["difference"] == pytest.approx(0.1)
    same = differences({"x": rows, "y": rows}, ["mass"]).iloc[0]
    assert (same["difference"], same["better"]) == (0, 0.5)


def test_other_images_and_unknown_columns_are_refused(rows: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="same images in the same order, got others for 'x' and 'y'"):
        differences({"x": rows, "y": rows[::-1]}, ["mass"])
    with pytest.raises(DataError, match="'rows' must have a column 'clas'; did you mean 'class'"):
        summary(rows, ["mass"], by="clas")
