import io

import numpy as np
import pytest
from PIL import Image

from imgcls.core.errors import ConfigError
from imgcls.explain.panels import colored, overlay, panel, panel_name

GREY = np.full((8, 10), 100, np.uint8)


def test_maps_without_negative_values_are_jet_from_zero() -> None:
    blue, *_, red = colored(np.array([[0.0, 1.0, 2.0]]))[0].tolist()
    assert blue == [0, 0, 127]
    assert red == [127, 0, 0]
    assert np.array_equal(colored(np.array([[0.0, 1.0]])), colored(np.array([[0.0, 50.0]])))


def test_signed_maps_are_white_at_zero_whatever_their_range() -> None:
    low, zero, high = colored(np.array([[-1.0, 0.0, 4.0]]))[0].tolist()
    assert min(zero) >= 254
    assert high == [255, 0, 0]
    assert low[2] == 255
    assert low[0] > 150


def test_rounding_makes_no_map_signed_but_the_user_can() -> None:
    maps = np.array([[-1e-6, 0.0, 4.0]])
    assert np.array_equal(colored(maps), colored(maps.clip(0)))
    assert np.array_equal(colored(maps, signed=True)[0, 1], colored(np.array([[-4.0, 0.0]]))[0, 1])
    assert colored(np.array([[-4.0, 4.0]]), signed=False)[0].tolist() == [[0, 0, 127], [127, 0, 0]]


def test_an_overlay_mixes_image_and_map() -> None:
    heat = colored(np.ones((8, 10)))
    assert np.array_equal(overlay(GREY, np.ones((8, 10)), alpha=1.0), heat)
    assert np.array_equal(overlay(GREY, np.ones((8, 10)), alpha=0.5), np.rint(50 + heat / 2).astype(np.uint8))


def test_a_panel_is_a_png_of_three_tiles_and_always_the_same() -> None:
    relevance = np.random.default_rng(0).random((8, 10))
    one, two = (panel(GREY, relevance, truth="cat", predicted="dog " * 40, prob=0.75, title="a") for _ in range(2))
    assert one == two
    picture = Image.open(io.BytesIO(one))
    assert picture.format == "PNG"
    assert picture.size == (3 * 206 + 6 + 74, 6 + 3 * 18 + 160 + 6)
    tile = np.asarray(picture)[60:220, 6:206]
    assert (tile == 100).all()


def test_a_panel_with_a_mask_has_five_tiles_and_a_line_for_each_of_the_title() -> None:
    three = panel(GREY, np.ones((8, 10)), truth="a", predicted="b", prob=0.5)
    five = panel(GREY, np.ones((8, 10)), truth="a", predicted="b", prob=0.5, mask=np.ones((8, 10)), title="x\ny")
    small, large = (Image.open(io.BytesIO(content)).size for content in (three, five))
    assert large == (small[0] + 2 * 206, small[1] + 2 * 18)


def test_an_empty_map_is_called_empty() -> None:
    empty = panel(GREY, np.full((8, 10), np.nan), truth=None, predicted="dog", prob=0.5)
    full = panel(GREY, np.ones((8, 10)), truth=None, predicted="dog", prob=0.5)
    assert Image.open(io.BytesIO(empty)).height == Image.open(io.BytesIO(full)).height + 18


def test_names_of_panels_are_plain_and_keep_images_apart() -> None:
    names = [panel_name(n, image="é/ü.png", truth=None, predicted="../x", method="m") for n in (1, 2)]
    assert names == ["00001_x_pred-x_m.png", "00002_x_pred-x_m.png"]


def test_wrong_pictures_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"size of the image \(8, 10\), got \(4, 4\)"):
        overlay(GREY, np.ones((4, 4)))
    with pytest.raises(ConfigError, match=r"'image' must be uint8 pixels .* got '\(8, 10\) float64'"):
        overlay(GREY.astype(np.float64), np.ones((8, 10)))
    with pytest.raises(ConfigError, match="'alpha' must be a number of at least 0 and at most 1"):
        overlay(GREY, np.ones((8, 10)), alpha=2)
    with pytest.raises(ConfigError, match=r"'relevance' must be a map \(H, W\)"):
        colored(np.ones((8, 10, 3)))
