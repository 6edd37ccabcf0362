from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from imgcls.core.errors import DataError
from imgcls.data import grid

Pair = tuple[int, int]

shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))
sizes = st.tuples(st.integers(2, 12), st.integers(2, 12))


def numbered(shape: Pair) -> NDArray[np.int64]:
    return np.arange(1, math.prod(shape) + 1).reshape(shape)


@given(shapes, sizes, st.data())
def test_every_pixel_is_covered_by_tiles_that_lie_in_the_image(shape: Pair, size: Pair, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, min(size) - 1))
    places = grid.lattice(shape, size, overlap=overlap)
    image = numbered(shape)
    tiles = [grid.cut(image, x, y, size) for x, y in places.tolist()]
    assert all(tile.shape == size for tile in tiles)
    assert set(np.concatenate(tiles, axis=None).tolist()) - {0} == set(image.ravel().tolist())
    if shape[0] >= size[0] and shape[1] >= size[1]:
        assert all(tile.all() for tile in tiles)  # no padding


@given(shapes, sizes, st.data())
def test_number_of_tiles_and_stride(shape: Pair, size: Pair, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, min(size) - 1))
    places = grid.lattice(shape, size, overlap=overlap)
    counts = [math.ceil(max(n - s, 0) / (s - overlap)) + 1 for n, s in zip(shape, size, strict=True)]
    assert len(places) == len(np.unique(places, axis=0)) == math.prod(counts)
    for axis in (0, 1):
        steps = [b - a for a, b in pairwise(sorted(set(places[:, axis].tolist())))]
        stride = size[1 - axis] - overlap
        assert all(step == stride for step in steps[:-1])
        assert all(0 < step <= stride for step in steps)


def test_last_tile_ends_at_the_border() -> None:
    assert grid.lattice((5, 11), (5, 4), overlap=1).tolist() == [[0, 0], [3, 0], [6, 0], [7, 0]]


@pytest.mark.parametrize(("fill", "row"), [("constant", [0, 1, 2, 3, 0, 0]), ("replicate", [1, 1, 2, 3, 3, 3])])
def test_small_image_is_put_in_the_centre(fill: grid.Fill, row: list[int]) -> None:
    image = np.array([[1, 2, 3], [1, 2, 3]])
    ((x, y),) = grid.lattice(image.shape, (2, 6)).tolist()
    assert (x, y) == (-1, 0)
    assert grid.cut(image, x, y, (2, 6), fill=fill).tolist() == [row, row]


def test_tile_is_a_slice_of_all_channels() -> None:
    image = np.random.default_rng(0).integers(0, 99, (9, 8, 3))
    assert np.array_equal(grid.cut(image, 2, 3, (4, 5)), image[3:7, 2:7])


@given(st.integers(1, 9), st.integers(0, 29), st.integers(0, 39), sizes)
def test_centred_tiles_lie_in_the_image_and_hold_the_mark(step: int, row: int, column: int, size: Pair) -> None:
    mask = np.zeros((30, 40), dtype=bool)
    mask[row : row + 6, column : column + 3] = True
    places = grid.along(mask, size, step=step)
    assert len(places) == len(np.unique(places, axis=0)) > 0
    for x, y in places.tolist():
        assert 0 <= x <= 40 - size[1]
        assert 0 <= y <= 30 - size[0]
        assert grid.cut(mask, x, y, size).any()


def test_centres_follow_every_outline() -> None:
    mask = np.zeros((60, 60), dtype=bool)
    mask[20:25, 20:25] = mask[40, 40] = True  # outlines of 16 and 1 pixels
    places = grid.along(mask, (10, 10), step=4)
    assert len(places) == 5
    assert [35, 35] in places.tolist()
    assert len(grid.along(np.zeros((60, 60), dtype=bool), (10, 10), step=4)) == 0


def test_centred_tile_of_a_small_image_is_that_of_the_lattice() -> None:
    mask = np.zeros((3, 30), dtype=bool)
    mask[1, 29] = True
    assert grid.along(mask, (8, 8), step=1).tolist() == [[22, grid.lattice((3, 30), (8, 8))[0, 1]]]


@given(shapes, sizes, st.data())
def test_merging_what_was_cut_gives_the_image(shape: Pair, size: Pair, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, min(size) - 1))
    image, places = numbered(shape), grid.lattice(shape, size, overlap=overlap)
    tiles = [grid.cut(image, x, y, size) for x, y in places.tolist()]
    assert np.allclose(grid.merge(tiles, positions=places, shape=shape, size=size), image)


def test_merging_numbers_takes_the_mean_and_knows_what_is_not_covered() -> None:
    merged = grid.merge([1, 3], positions=[[0, 0], [1, 0]], shape=(2, 4), size=(1, 2))
    assert np.array_equal(merged, [[1, 2, 3, np.nan], [np.nan] * 4], equal_nan=True)


@pytest.mark.parametrize(
    ("values", "positions"), [([1], [[0, 0], [1, 0]]), (np.ones((1, 3, 3)), [[0, 0]]), ([1], [0, 0])]
)
def test_values_that_do_not_fit_are_refused(values: Any, positions: Any) -> None:
    with pytest.raises(
        DataError, match=r"'values' must have shape \(M,\) or \(M, 1, 2\) with 'positions' \(M, 2\), got"
    ):
        grid.merge(values, positions=positions, shape=(4, 4), size=(1, 2))
