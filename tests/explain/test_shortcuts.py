import numpy as np
import pytest
from numpy.typing import NDArray

from imgcls.core.errors import ConfigError, DataError
from imgcls.explain.attributions import Attributions
from imgcls.explain.regions import border, margins, text_like
from imgcls.explain.shortcuts import ShortcutCheck

NOISE = np.random.default_rng(0).integers(60, 180, (8, 40, 40, 1)).astype(np.uint8)


def attributions(maps: NDArray[np.float64], target: int = 0) -> Attributions:
    count = len(maps)
    return Attributions(
        maps=maps,
        native=maps,
        logits=np.zeros((count, 2)),
        target=np.full(count, target),
        score=np.zeros(count),
        valid=maps.any(axis=(1, 2)),
    )


def spot(top: int, left: int, side: int = 6) -> NDArray[np.float64]:
    maps = np.full((8, 40, 40), 1e-3)
    maps[:, top : top + side, left : left + side] = 1 + np.random.default_rng(1).random((8, side, side))
    return maps


# Regions


def test_the_border_is_a_band_of_the_given_width() -> None:
    found = border((20, 40))
    assert found.sum() == 20 * 40 - 16 * 32
    assert not found[2:18, 4:36].any()


def test_margins_are_the_outer_rows_and_columns_of_one_colour() -> None:
    images = np.repeat(NOISE[:2], 3, axis=3)
    images[0, 20], images[0, :5], images[0, :, 37:] = 7, 0, 255
    found = margins(images)
    expected = np.zeros((40, 40), np.bool_)
    expected[:5], expected[:, 37:] = True, True
    assert np.array_equal(found[0], expected)
    assert not found[1].any()
    assert not margins(np.full((1, 8, 8, 1), 9, np.uint8)).any()


def test_margins_of_lossy_and_of_deep_images_are_found() -> None:
    images = NOISE.copy()
    images[0, :5] = np.random.default_rng(0).integers(0, 4, (5, 40, 1))
    assert margins(images)[0, :5].all()
    assert np.array_equal(margins(images.astype(np.uint16) * 257), margins(images))


def test_letters_on_either_ground_look_like_text() -> None:
    images = np.full((3, 40, 40, 1), 90, np.uint8)
    images[1] = 200
    for image, ink in ((images[0], 255), (images[1], 0)):
        image[3:10, 4:6], image[8:10, 4:9] = ink, ink  # an L
    found = text_like(images)
    assert found[0, 3:10, 4:6].all()
    assert found[1, 3:10, 4:6].all()
    assert found[:2].sum() < 2 * 100
    assert not found[2].any()
    assert not text_like(NOISE).any()


def test_a_large_bright_part_is_no_text() -> None:
    images = np.full((1, 40, 40, 1), 60, np.uint8)
    images[0, 10:25, 10:25] = 255
    assert not text_like(images).any()


# The check


def test_a_class_decided_in_the_corner_warns_and_one_decided_inside_does_not() -> None:
    corner = ShortcutCheck().check(attributions(spot(0, 0, 4)), NOISE, ["a", "b"])
    assert len(corner.warnings) == 1
    assert corner.warnings[0].startswith("'a' is decided in the band along the border: 9")
    assert ShortcutCheck().check(attributions(spot(17, 17)), NOISE, ["a", "b"]).warnings == ()


def test_even_relevance_never_warns() -> None:
    box = (0.4, 0.4, 0.6, 0.6)
    found = ShortcutCheck(box=box).check(attributions(np.ones((8, 40, 40))), NOISE, ["a", "b"])
    np.testing.assert_allclose(found.table["gain"], 1)
    assert found.warnings == ()


def test_relevance_outside_the_box_or_the_mask_warns() -> None:
    maps = spot(17, 28)
    masks = np.zeros((8, 20, 20), np.bool_)  # half as fine as the image
    masks[:, 5:15, 2:12] = True
    by_box = ShortcutCheck(box=(0.25, 0.1, 0.75, 0.6)).check(attributions(maps), NOISE, ["a", "b"])
    by_mask = ShortcutCheck().check(attributions(maps), NOISE, ["a", "b"], masks=masks)
    assert by_box.warnings == by_mask.warnings
    assert "outside the plausible region" in by_box.warnings[0]
    inside = ShortcutCheck().check(attributions(spot(17, 12)), NOISE, ["a", "b"], masks=masks)
    assert inside.warnings == ()


def test_an_image_without_region_or_relevance_counts_nowhere() -> None:
    maps, masks, images = spot(0, 0), np.zeros((8, 40, 40), np.bool_), NOISE.copy()
    maps[0], masks[:4, 10:30, 10:30], images[5:, :3] = 0, True, 0
    table = ShortcutCheck().check(attributions(maps), images, ["a", "b"], masks=masks).table.set_index("region")
    assert table.loc[["outside", "border", "margin"], "n"].tolist() == [3, 7, 3]
    assert "text" not in table.index


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'box' must be \(top, left, bottom, right\) as shares"):
        ShortcutCheck(box=(0.5, 0, 0.5, 1))
    with pytest.raises(ConfigError, match="'box' must be"):
        ShortcutCheck(box=(0, 0, 224, 224))
    with pytest.raises(DataError, match=r"'images' must be those of the maps, \(8, 40, 40\), got \(8, 20, 20\)"):
        ShortcutCheck().check(attributions(spot(0, 0)), NOISE[:, ::2, ::2], ["a", "b"])
