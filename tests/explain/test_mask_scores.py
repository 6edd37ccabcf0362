import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays
from scipy.ndimage import zoom
from sklearn import metrics

from imgcls.core.errors import ConfigError, DataError
from imgcls.explain.attributions import Attributions
from imgcls.explain.mask_scores import CELLS, MaskScores, fit_masks
from imgcls.explain.ranking import Ranked

LEVELS = arrays.arrays(np.float32, (3, 4, 5), elements=st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0]))
MASKS = arrays.arrays(np.bool_, (3, 4, 5))


def fixture(relevant: tuple[slice, slice], inside: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
    maps, masks = np.zeros((1, 224, 224), np.float32), np.zeros((1, 224, 224), np.bool_)
    maps[0, *relevant], masks[0, *inside] = 1, True
    return maps, masks


def attributions(maps: np.ndarray) -> Attributions:
    valid = np.isfinite(maps).all(axis=(1, 2)) & maps.any(axis=(1, 2))
    one = np.zeros(len(maps))
    return Attributions(
        maps=np.nan_to_num(maps), native=maps, logits=np.zeros((len(maps), 2)), target=one, score=one, valid=valid
    )


# Independent references


@given(LEVELS, MASKS)
def test_ranking_scores_are_those_of_scikit_learn_whatever_the_ties(maps: np.ndarray, masks: np.ndarray) -> None:
    rows = MaskScores().rows(maps, masks)
    for row, values, mask in zip(rows.to_dict("records"), np.maximum(maps, 0), masks, strict=True):
        if row["state"] != "scored":
            continue
        found, truth = values.ravel(), mask.ravel()
        assert row["average_precision"] == pytest.approx(metrics.average_precision_score(truth, found))
        if not truth.all():
            assert row["roc_auc"] == pytest.approx(metrics.roc_auc_score(truth, found))
        assert row["mass"] == pytest.approx(found[truth].sum() / found.sum())


@given(LEVELS, MASKS)
def test_tied_pixels_count_as_the_mean_over_their_orders(maps: np.ndarray, masks: np.ndarray) -> None:
    rows = MaskScores().rows(maps, masks)
    rng = np.random.default_rng(0)
    for row, values, mask in zip(rows.to_dict("records"), np.maximum(maps, 0), masks, strict=True):
        if row["state"] == "scored":
            orders = [np.lexsort((rng.random(20), -values.ravel())) for _ in range(400)]
            hits = np.array([mask.ravel()[order] for order in orders])
            assert row["pointing"] == pytest.approx(hits[:, 0].mean(), abs=0.11)
            assert row["rank"] == pytest.approx(hits[:, : mask.sum()].mean(), abs=0.11)


@given(LEVELS, MASKS)
def test_overlaps_are_those_of_scikit_learn(maps: np.ndarray, masks: np.ndarray) -> None:
    rows = MaskScores(thresholds=(0.5,)).rows(maps, masks)
    for row, values, mask in zip(rows.to_dict("records"), np.maximum(maps, 0), masks, strict=True):
        if row["state"] == "scored":
            taken = (values >= 0.5 * values.max()).ravel()
            assert row["iou@0.5"] == pytest.approx(metrics.jaccard_score(mask.ravel(), taken))
            assert row["dice@0.5"] == pytest.approx(metrics.f1_score(mask.ravel(), taken))


def test_otsu_is_the_cut_of_two_levels() -> None:
    maps = np.array([[[1.0, 1.1, 0.9, 5.0, 5.2, 4.9]]], np.float32)
    row = MaskScores(thresholds=("otsu",)).rows(maps, maps > 4).iloc[0]
    assert (row["iou@otsu"], row["dice@otsu"]) == (1, 1)


# Published fixtures (Quantus), and closed forms


def test_a_map_half_inside() -> None:
    row = MaskScores().rows(*fixture(np.s_[0:100, 75:100], np.s_[0:50, 50:100])).iloc[0]
    assert (row["mass"], row["rank"], row["dice@0.5"], row["iou@0.5"]) == (0.5, 0.5, 0.5, pytest.approx(1 / 3))
    assert row["average_precision"] == pytest.approx(0.274912, abs=1e-6)
    assert row["roc_auc"] == pytest.approx(0.736891, abs=1e-6)


def test_a_map_all_inside() -> None:
    row = MaskScores().rows(*fixture(np.s_[0:100, 0:100], np.s_[0:100, 0:100])).iloc[0]
    assert (row[["mass", "rank", "pointing", "average_precision", "roc_auc", "iou@otsu"]] == 1).all()
    assert row["gain"] == pytest.approx(224**2 / 100**2)


def test_of_more_pixels_than_the_mask_has_the_rest_lies_outside() -> None:
    maps, masks = fixture(np.s_[0:100, 0:100], np.s_[0:100, 0:100])
    ranked = Ranked.of(maps.reshape(1, -1).astype(float), masks.reshape(1, -1).astype(float))
    assert ranked.hits_among(np.array([10_000.0])) / 10_000 == 1
    assert ranked.hits_among(np.array([40_000.0])) / 40_000 == 0.25


def test_a_map_beside_the_mask() -> None:
    row = MaskScores().rows(*fixture(np.s_[0:112, 0:112], np.s_[112:224, 112:224])).iloc[0]
    assert (row["mass"], row["rank"], row["pointing"]) == (0, 0, 0)
    assert row["average_precision"] == pytest.approx(0.25)
    assert row["roc_auc"] == pytest.approx(1 / 3)


def test_a_uniform_map_scores_its_area_and_auroc_a_half() -> None:
    masks = np.random.default_rng(0).random((4, 9, 7)) < 0.3
    rows = MaskScores().rows(np.full((4, 9, 7), 0.3, np.float32), masks)
    for name in ("mass", "rank", "pointing", "average_precision", "dice@area"):
        np.testing.assert_allclose(rows[name], masks.mean(axis=(1, 2)))
    np.testing.assert_allclose(rows["roc_auc"], 0.5)
    np.testing.assert_allclose(rows["gain"], 1)


def test_as_many_pixels_as_the_mask_have_the_rank_accuracy_for_dice() -> None:
    rng = np.random.default_rng(1)
    rows = MaskScores().rows(rng.random((5, 8, 8)), rng.random((5, 8, 8)) < 0.4)
    np.testing.assert_allclose(rows["dice@area"], rows["rank"])
    np.testing.assert_allclose(rows["iou@area"], rows["rank"] / (2 - rows["rank"]))


# Signs


def test_what_speaks_against_the_class_counts_as_nothing_or_as_much() -> None:
    maps, masks = np.array([[[-3.0, 1.0, 1.0, 1.0]]], np.float32), np.array([[[1, 1, 0, 0]]])
    assert MaskScores().rows(maps, masks)["mass"].item() == pytest.approx(1 / 3)
    assert MaskScores(relevance="absolute").rows(maps, masks)["mass"].item() == pytest.approx(4 / 6)


def test_the_roi_ratio_keeps_signs_and_counts_touched_pixels() -> None:
    maps, masks = np.array([[[-1.0, 2.0, 3.0]]], np.float32), np.array([[[1.0, 0.1, 0.0]]])
    assert MaskScores().rows(maps, masks)["roi_ratio"].item() == pytest.approx(1 / 4)


# What has no score


def test_empty_masks_silent_and_broken_maps_are_named_and_have_no_score() -> None:
    maps = np.ones((4, 2, 2), np.float32)
    maps[1], maps[2, 0, 0] = -1, np.nan
    masks = np.ones((4, 2, 2), np.bool_)
    masks[:, 0], masks[3] = False, False
    rows = MaskScores().rows(attributions(maps), masks)
    assert rows["state"].tolist() == ["scored", "no relevance", "invalid", "empty mask"]
    names = list(MaskScores().names)
    assert rows.loc[1:, names].isna().all(axis=None)
    assert rows.loc[0, names].notna().all()
    pure = MaskScores().rows(maps, masks)
    assert pure["state"].tolist() == rows["state"].tolist()


def test_a_mask_of_the_whole_image_has_no_auroc() -> None:
    row = MaskScores().rows(np.random.default_rng(0).random((1, 3, 3)), np.ones((1, 3, 3))).iloc[0]
    assert np.isnan(row["roc_auc"])
    assert row["average_precision"] == 1


# The protocol of reference 004


def test_half_maps_are_counted_pixel_by_pixel() -> None:
    maps = np.array([[[-2.0, 0.0, 0.1, 2.0]], [[1.0, 1.0, 1.0, 1.0]], [[0.0, 0.0, 0.0, 1.0]]], np.float32)
    masks = np.array([[[0, 0, 1, 1]], [[1, 0, 0, 0]], [[0, 0, 1, 1]]])
    rows = MaskScores().rows(maps, masks, silent=np.array([False, False, True]))
    assert rows[list(CELLS)].to_numpy().tolist() == [[2, 0, 0, 2], [0, 0, 1, 3], [0, 0, 2, 2]]


# Masks


@given(MASKS, st.sampled_from([(2, 5), (8, 10), (12, 5), (3, 7)]))
def test_resizing_by_area_keeps_the_area(masks: np.ndarray, size: tuple[int, int]) -> None:
    found = fit_masks(masks, size)
    assert found.shape == (3, *size)
    np.testing.assert_allclose(found.mean(axis=(1, 2)), masks.mean(axis=(1, 2)))


@given(LEVELS, arrays.arrays(np.bool_, (3, 8, 15)))
def test_scores_against_a_finer_mask_are_those_of_the_enlarged_map(maps: np.ndarray, masks: np.ndarray) -> None:
    large = np.stack([zoom(one, (2, 3), order=0, grid_mode=True, mode="nearest") for one in maps])
    coarse, fine = MaskScores().rows(maps, masks), MaskScores().rows(large, masks)
    names = [name for name in MaskScores().names if name != "roi_ratio"]
    np.testing.assert_allclose(coarse[names], fine[names], atol=1e-9)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (np.full((1, 2, 2), 255, np.uint8), "from 0 to 1 .* got values from 255 to 255; use 'mask > 127'"),
        (np.full((1, 2, 2), np.nan), "from 0 to 1 .* got values from nan"),
        (np.zeros((2, 2)), r"an array \(N, H, W\)"),
        (np.zeros((2, 2, 2)), "as many as the maps, 1, got 2"),
    ],
)
def test_wrong_masks_are_refused(masks: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=f"'masks' must .*{message}"):
        MaskScores().rows(np.ones((1, 2, 2), np.float32), masks)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="'thresholds' must be shares of the maximum above 0 and at most 1"):
        MaskScores(thresholds=(0.0,))
    with pytest.raises(ConfigError, match="'relevance' must be one of 'positive', 'absolute', got 'signed'"):
        MaskScores(relevance="signed")
    with pytest.raises(DataError, match="'found' must be attributions or float maps"):
        MaskScores().rows(np.ones((1, 2, 2), np.int64), np.ones((1, 2, 2)))
    with pytest.raises(ConfigError, match="'silent' must say something of each of 1 maps"):
        MaskScores().rows(np.ones((1, 2, 2)), np.ones((1, 2, 2)), silent=np.zeros(3, np.bool_))
