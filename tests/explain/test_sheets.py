import io

import numpy as np
import pytest
from PIL import Image

from imgcls.core.errors import ConfigError
from imgcls.explain.panels import colored, five_tiles, legend, overlay
from imgcls.explain.sheets import class_sheet, comparison_sheet, outlined

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3, 8, 10, 1), dtype=np.uint8)
MAPS = RNG.random((3, 8, 10))


def test_the_five_tiles_are_those_of_the_reference() -> None:
    relevance, mask = np.array([[-1.0, 0.0, 1.1, 3.0]]), np.array([[0.0, 0.5, 1.0, 1.0]])
    image, inside, heat, above, mixed = five_tiles(np.full((1, 4), 9, np.uint8), relevance, mask, alpha=0.5)
    assert (image == 9).all()
    assert inside[0, :, 0].tolist() == [0, 128, 255, 255]
    assert above[0, :, 0].tolist() == [0, 0, 255, 255]  # half of the range from -1 to 3 is 1
    assert np.array_equal(heat, colored(relevance))
    assert np.array_equal(mixed, overlay(np.full((1, 4), 9, np.uint8), relevance, alpha=0.5))


def test_a_legend_has_the_colours_of_its_map() -> None:
    for relevance in (np.array([[0.0, 2.0]]), np.array([[-4.0, 2.0]])):
        bar = legend(relevance)
        assert bar.shape[0] == 192
        top = float(np.abs(relevance).max())
        ends = colored(np.array([[-top, 0, top]]), signed=bool((relevance < 0).any()))[0]
        assert bar[0, 0].tolist() == ends[2].tolist()
        assert bar[-1, 0].tolist() == ends[0].tolist()


def test_maps_of_one_method_share_one_kind_of_scale() -> None:
    signed = [MAPS[0] - 0.5, MAPS[1], MAPS[2]]
    sheet = Image.open(io.BytesIO(comparison_sheet(list(IMAGES), {"m": signed})))
    second = np.asarray(sheet)[24 + 166 : 24 + 166 + 160, 212 : 212 + 200]
    assert np.array_equal(second[10::20, 10::20], overlay(IMAGES[1], MAPS[1], signed=True))


def test_a_sheet_has_a_row_an_image_and_a_column_a_method() -> None:
    masks = np.zeros((3, 8, 10))
    one, two = (
        comparison_sheet(list(IMAGES), {"a": list(MAPS), "b": list(MAPS)}, notes=["x", "y", "z"], masks=list(masks))
        for _ in range(2)
    )
    assert one == two
    assert Image.open(io.BytesIO(one)).size == (3 * 206 + 6, 6 + 18 + 3 * (160 + 6 + 18))


def test_the_outline_lies_just_outside_the_mask() -> None:
    mask = np.zeros((8, 10))
    mask[3, 4] = 1
    found = outlined(IMAGES[0], mask)
    green = (found == (0, 255, 0)).all(axis=2)
    assert sorted(map(tuple, np.argwhere(green).tolist())) == [(2, 4), (3, 3), (3, 5), (4, 4)]
    assert np.array_equal(found[~green], np.repeat(IMAGES[0], 3, axis=2)[~green])


def test_the_mean_of_a_class_weighs_images_alike() -> None:
    maps = np.stack([np.eye(8), 1000 * np.eye(8)[::-1]])
    sheet = np.asarray(Image.open(io.BytesIO(class_sheet(np.zeros((2, 8, 8, 1), np.uint8), maps))))
    tile = sheet[24 : 24 + 192, 6 + 198 : 6 + 198 + 192][12::24, 12::24]
    assert np.array_equal(tile, tile[::-1])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="'maps' must have one for each of 3 images, got 2 of 'm'"):
        comparison_sheet(list(IMAGES), {"m": list(MAPS[:2])})
    with pytest.raises(ConfigError, match=r"'mask' must have the size of the image \(8, 10\), got \(4, 4\)"):
        outlined(IMAGES[0], np.zeros((4, 4)))
    with pytest.raises(ConfigError, match=r"'mask' must have the size of the image \(8, 10\), got \(4, 4\)"):
        five_tiles(IMAGES[0], MAPS[0], np.zeros((4, 4)))
