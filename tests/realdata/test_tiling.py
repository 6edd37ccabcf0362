from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from imgcls.core.errors import DataError
from imgcls.data.dataset import Dataset
from imgcls.data.grid import merge
from imgcls.data.tiling import tile

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def magnets() -> Dataset:
    path = Path(os.environ["IMGCLS_TEST_DATA"], "magnetic_tile", "index.csv")
    return Dataset.from_csv(path, group="group_inferred", mask="mask")


def test_defects_are_found_again_in_their_tiles(magnets: Dataset, tmp_path: Path) -> None:
    data = magnets.subset(np.arange(0, len(magnets), 60))
    tiles = tile(data, tmp_path / "tiles", size=96, overlap=16, label="mask", good="MT_Free", min_share=0.01)
    assert tiles.classes == data.classes
    assert set(tiles.frame["source"]) == set(data.ids)
    sources = data.frame.set_index("id").loc[tiles.frame["source"]]
    assert tiles.frame["group"].tolist() == sources["group"].tolist()
    defective = (tiles.frame["label"] != "MT_Free").to_numpy()
    assert tiles.frame["label"][defective].tolist() == sources["label"][defective].tolist()
    assert (tiles.frame["mask_share"] > 0).tolist() == defective.tolist()


def test_masks_of_tiles_merge_into_that_of_the_image(magnets: Dataset, tmp_path: Path) -> None:
    data = magnets.subset([0])
    tiles = tile(data, tmp_path / "tiles", size=64, centred_step=10)
    whole = data.original_mask(0)
    assert whole is not None
    parts = [part for position in range(len(tiles)) if (part := tiles.original_mask(position)) is not None]
    merged = merge(parts, positions=tiles.frame[["x", "y"]].to_numpy(), shape=whole.shape, size=(64, 64))
    assert np.array_equal(merged, whole)


def test_defects_without_a_mark_are_named(magnets: Dataset, tmp_path: Path) -> None:
    data = magnets.subset(np.flatnonzero(magnets.frame["label"] == "MT_Uneven"))
    with pytest.raises(
        DataError, match=r"got 4 of 103 that are not:\n  row 1293: mask of 'MT_Uneven/.*\.jpg' must mark"
    ):
        tile(data, tmp_path / "tiles", label="mask", good="MT_Free")
