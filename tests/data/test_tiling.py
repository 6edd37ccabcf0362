from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from imgcls.core.errors import ConfigError, DataError, DecodeError
from imgcls.data import images, tiling
from imgcls.data.dataset import Dataset
from imgcls.data.tiling import tile

Pixels = NDArray[Any]
Write = Callable[..., Dataset]

BY_MASK: dict[str, Any] = {"size": 8, "overlap": 0, "label": "mask", "good": "good"}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "tiles"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a set of images, by name, each with its label and perhaps its mask."""

    def make(records: dict[str, tuple[Any, ...]], *, columns: Any = None, **options: Any) -> Dataset:
        root = tmp_path / "set"
        rows = []
        for name, (label, pixels, *mask) in records.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
            rows.append({"image": name, "label": label})
            if mask:
                rows[-1]["mask"] = f"{name}.mask.png"
                Image.fromarray(mask[0].astype(np.uint8) * 255).save(root / rows[-1]["mask"])
        table = pd.DataFrame(rows).assign(**columns or {})
        table.to_csv(root / "index.csv", index=False)
        return Dataset.from_csv(root / "index.csv", mask="mask" if "mask" in table else None, **options)

    return make


def noise(*shape: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(1, 256, shape, dtype=np.uint8)


def marks(shape: tuple[int, int], *boxes: tuple[slice, slice]) -> NDArray[np.bool_]:
    mask = np.zeros(shape, dtype=bool)
    for box in boxes:
        mask[box] = True
    return mask


def dropped(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "dropped.csv")


def test_tiles_are_slices_of_their_image_and_mask(write: Write, out: Path) -> None:
    image, mask = noise(20, 30, 3), noise(20, 30) > 128
    tiles = tile(write({"d/a.png": ("x", image, mask)}), out, size=(8, 12), overlap=2)
    assert len(tiles) == 9
    rows: Iterable[Any] = tiles.frame.itertuples()
    for position, row in enumerate(rows):
        where = slice(row.y, row.y + 8), slice(row.x, row.x + 12)
        assert np.array_equal(tiles.original(position), image[where])
        found = tiles.original_mask(position)
        assert found is not None
        assert np.array_equal(found, mask[where])
        assert row.mask_share == found.mean()
        assert (row.width, row.height, row.id) == (12, 8, f"images/d/a_{row.x}_{row.y}.png")
        assert row.mask == f"masks/d/a_{row.x}_{row.y}.png"


def test_records_keep_their_roles_and_columns(write: Write, out: Path) -> None:
    columns = {
        "part": ["p", "p", "q"],
        "side": ["train", "train", "test"],
        "loss": [1, 2, 3],
        "x": 7,
        "light": [5, 6, 7],
    }
    records = {f"{name}.png": (name, noise(8, 16)) for name in "bca"}
    roles = {"group": "part", "split": "side", "weight": "loss", "classes": ["b", "c", "a", "none"]}
    data = write(records, columns=columns, **roles)
    tiles = tile(data, out, size=8, overlap=0)
    assert tiles.frame.columns.tolist() == (
        ["id", "label", "group", "split", "weight", "source", "x", "y", "width", "height", "x_", "light"]
    )
    assert (tiles.classes, tiles.positive) == (data.classes, None)
    assert tiles.frame["source"].tolist() == data.frame["id"].repeat(2).tolist()
    for column in ("label", "group", "split", "weight", "light"):
        assert tiles.frame[column].tolist() == data.frame[column].repeat(2).tolist()
    assert tiles.frame["x"].tolist() == [0, 8] * 3
    assert set(tiles.frame["x_"]) == {7}


def test_tiles_of_one_source_share_a_group(write: Write, out: Path) -> None:
    tiles = tile(write({"a.png": ("x", noise(20, 20)), "b.png": ("y", noise(20, 20))}), out, size=8, overlap=0)
    assert tiles.groups is not None
    assert tiles.groups.tolist() == tiles.frame["source"].tolist()


def test_tiles_can_be_tiled_and_rebuilt_from_their_configuration(write: Write, out: Path) -> None:
    first = tile(write({"a.png": ("x", noise(20, 20))}), out, size=12, overlap=0)
    second = tile(first, out.with_name("more"), size=6, overlap=0)
    third = tile(second, out.with_name("most"), size=3, overlap=0)
    assert {"source", "source_", "source__"} <= set(third.frame)
    assert set(third.frame["group"]) == {"a.png"}
    assert Dataset.from_config(third.source or {}).fingerprint == third.fingerprint


@pytest.mark.parametrize("given", ["x", None])
def test_positive_class_is_kept(write: Write, out: Path, given: str | None) -> None:
    records = {"a.png": ("x", noise(8, 80)), "b.png": ("y", noise(8, 8)), "c.png": ("y", noise(8, 8))}
    tiles = tile(write(records, positive=given), out, size=8, overlap=0)
    assert tiles.counts() == {"x": 10, "y": 2}
    assert tiles.positive == "x"  # although it is no longer the rarer one


def test_several_labels_are_kept(write: Write, out: Path) -> None:
    data = write({"a.png": ("x;y", noise(8, 16)), "b.png": ("y", noise(8, 8))}, label_separator=";")
    tiles = tile(data, out, size=8, overlap=0)
    assert (tiles.multilabel, tiles.classes, tiles.frame["label"].tolist()) == (True, ("x", "y"), ["x|y", "x|y", "y"])
    with pytest.raises(ConfigError, match="'label' must be 'image' for a set of several labels a record, got 'mask'"):
        tile(data, out.with_name("more"), **BY_MASK)


@pytest.mark.parametrize("depth", [np.uint16, np.float32])
def test_deep_pixels_keep_their_values(write: Write, out: Path, depth: Any) -> None:
    image = (np.arange(64 * 48).reshape(48, 64) * 21).astype(depth)
    tiles = tile(write({"a.tif": ("x", image)}), out, size=16, overlap=0)
    assert tiles.original(5).dtype == depth
    assert np.array_equal(tiles.original(5)[..., 0], image[16:32, 16:32])


def test_16_bit_colours_in_memory_keep_their_values(out: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (2, 9, 9, 3), dtype=np.uint16)
    tiles = tile(Dataset.from_arrays(pixels, ["x", "y"]), out, size=6, overlap=3)
    assert np.array_equal(tiles.original(3), pixels[0, 3:, 3:])


@pytest.mark.parametrize("fill", ["constant", "replicate"])
def test_small_image_is_padded_and_its_mask_is_not_filled(write: Write, out: Path, fill: Any) -> None:
    image, mask = noise(4, 20), np.ones((4, 20), dtype=bool)
    tiles = tile(write({"a.png": ("x", image, mask)}), out, size=(8, 20), overlap=0, fill=fill)
    row, pixels = tiles.frame.iloc[0], tiles.original(0)[..., 0]
    assert (row["x"], row["y"], row["width"], row["height"], row["mask_share"]) == (0, -2, 20, 4, 0.5)
    assert np.array_equal(pixels[2:6], image)
    assert np.array_equal(pixels[[0, 7]], image[[0, 3]] * (fill == "replicate"))
    assert (
        images.original(tiles.path(0, view="mask"))[..., 0].any(axis=1).tolist()
        == [False] * 2 + [True] * 4 + [False] * 2
    )


def test_images_of_one_stem_keep_their_extension(write: Write, out: Path) -> None:
    tiles = tile(write({"a.png": ("x", noise(8, 8)), "a.bmp": ("y", noise(8, 8, seed=1))}), out, size=8, overlap=0)
    assert tiles.ids.tolist() == ["images/a.png_0_0.png", "images/a.bmp_0_0.png"]
    assert not np.array_equal(tiles.original(0), tiles.original(1))


def test_masks_decide_about_labels(write: Write, out: Path) -> None:
    mask = marks((8, 32), np.s_[0:8, 0:8], np.s_[0:1, 8:9], np.s_[0:4, 16:20])
    data = write({"a.png": ("crack", noise(8, 32), mask), "b.png": ("good", noise(8, 16))})
    tiles = tile(data, out, **BY_MASK, min_share=0.25)
    assert tiles.frame[["label", "x"]].to_numpy().tolist() == (
        [["crack", 0], ["crack", 16], ["good", 24], ["good", 0], ["good", 8]]
    )
    assert tiles.frame["mask_share"].tolist()[:3] == [1, 0.25, 0]
    assert tiles.frame["mask_share"].isna().tolist()[3:] == [True, True]
    assert dropped(out).to_numpy().tolist() == [["a.png", 8, 0, 1 / 64, "ambiguous"]]
    assert tiles.positive == data.positive == "good"


def test_half_of_the_marks_are_enough_however_small(write: Write, out: Path) -> None:
    mask = marks((8, 24), np.s_[0:1, 6:10])
    tiles = tile(write({"a.png": ("crack", noise(8, 24), mask)}), out, **BY_MASK)
    assert (tiles.frame["label"].tolist(), tiles.classes) == (["crack", "crack", "good"], ("crack", "good"))
    assert tiles.positive == "crack"


def test_image_that_would_keep_no_tile_of_its_label_is_named(write: Write, out: Path) -> None:
    mask = marks((8, 24), *(np.s_[0:1, start : start + 1] for start in (0, 8, 16)))
    data = write({"a.png": ("crack", noise(8, 24), mask)})
    message = r"'min_share' must be at most 0\.0155 for every image to keep .*, got 0\.05; none is left of 'a\.png'"
    with pytest.raises(ConfigError, match=message):
        tile(data, out, **BY_MASK, min_share=0.05)
    assert not out.exists()
    assert tile(data, out, **BY_MASK, min_share=0.0155).counts() == {"crack": 3, "good": 0}


def test_background_is_left_out_unless_it_is_marked(write: Write, out: Path) -> None:
    image, mask = noise(8, 32), marks((8, 32), np.s_[:, 24:32])
    image[:, :8], image[:, 8:12], image[:, 24:] = 0, 0, 0
    data = write({"a.png": ("crack", image, mask)})
    assert tile(data, out, size=8, overlap=0, drop_background=0.5).frame["x"].tolist() == [8, 16, 24]
    assert dropped(out)["dropped"].tolist() == ["background"]
    dark = tile(data, out.with_name("dark"), size=8, overlap=0, drop_background=0.5, background=255)
    assert dark.frame["x"].tolist() == [24]


def test_image_of_nothing_but_background_is_named(write: Write, out: Path) -> None:
    data = write({"a.png": ("x", noise(8, 8)), "b.png": ("y", np.zeros((8, 8), np.uint8))})
    with pytest.raises(
        ConfigError, match=r"'drop_background' must leave .*, got 0\.9; nothing is left of 'b\.png'; raise"
    ):
        tile(data, out, size=8, overlap=0, drop_background=0.9)


def columns_of(tiles: Dataset, source: str) -> list[int]:
    return tiles.frame["x"][tiles.frame["source"] == source].tolist()


def test_thinning_depends_on_seed_and_image_alone(write: Write, out: Path) -> None:
    mask = marks((8, 80), np.s_[:, :8])
    data = write({f"{name}.png": ("x", noise(8, 80), mask) for name in "ab"} | {"c.png": ("good", noise(8, 8))})
    sets = [
        tile(part, out.with_name(str(number)), **BY_MASK, keep_good=0.5, seed=seed)
        for number, (part, seed) in enumerate([(data, 0), (data, 0), (data.subset([1]), 0), (data, 1)])
    ]
    assert sets[0].counts() == {"good": 4 + 4 + 1, "x": 2}  # of 9, 9 and 1
    assert sets[0].fingerprint == sets[1].fingerprint
    one, _, alone, other = (columns_of(tiles, "b.png") for tiles in sets)
    assert one == alone != other
    assert one != columns_of(sets[0], "a.png")
    assert dropped(out.with_name("0"))["dropped"].tolist() == ["thinned"] * 10


def test_centred_tiles_are_added_once(write: Write, out: Path) -> None:
    mask = marks((40, 40), np.s_[18:22, 18:22])
    data = write({"a.png": ("x", noise(40, 40), mask)})
    plain = tile(data, out, size=10, overlap=0)
    more = tile(data, out.with_name("more"), size=10, overlap=0, centred_step=1)
    assert more.ids.tolist()[:16] == plain.ids.tolist()
    assert len(more) == 16 + 12  # the pixels of the outline
    assert (more.frame["mask_share"][16:] > 0).all()


UNFIT = [
    ({"size": 0}, "'size' must be a side in pixels or"),
    ({"size": 8, "overlap": 8}, "'overlap' must be below the shorter side of a tile, 8, got 8"),
    ({"overlap": -1}, "'overlap' must be a whole number of at least 0, got -1"),
    ({"label": "masks"}, "'label' must be one of 'image', 'mask', got 'masks'; did you mean 'mask'"),
    ({"label": "mask"}, "'good' must name the class of tiles without a mark where masks decide, got None"),
    ({"good": "x"}, "'good' must have an effect, got 'x'; leave it out, or set label='mask'"),
    ({"min_share": 0.1}, "'min_share' must have an effect, got 0.1"),
    ({"keep_good": 0.5}, "'keep_good' must have an effect, got 0.5"),
    ({"min_share": 0}, "'min_share' must be a number above 0 and at most 1, got 0"),
    ({"background": 5}, "'background' must have an effect, got 5; leave it out, or set 'drop_background'"),
    ({"drop_background": 1.0}, "'drop_background' must be a number of at least 0 and below 1, got 1.0"),
    ({"centred_step": 0}, "'centred_step' must be a whole number of at least 1, got 0"),
    ({"fill": "mirror"}, "'fill' must be one of 'constant', 'replicate', got 'mirror'"),
    ({"seed": -1}, "'seed' must be a whole number of at least 0, got -1"),
]


@pytest.mark.parametrize(("options", "message"), UNFIT)
def test_wrong_options_are_refused(out: Path, options: dict[str, Any], message: str) -> None:
    data = Dataset.from_arrays(noise(2, 9, 9), ["x", "y"])
    with pytest.raises(ConfigError) as caught:
        tile(data, out, **options)
    assert message in str(caught.value)
    assert not out.exists()


@pytest.mark.parametrize(("options", "named"), [(BY_MASK, "label='mask'"), ({"centred_step": 3}, "'centred_step'")])
def test_set_without_masks_is_refused_where_they_decide(out: Path, options: Any, named: str) -> None:
    with pytest.raises(DataError, match=f"'data' must have masks for {named}, got none; name them by mask="):
        tile(Dataset.from_arrays(noise(2, 9, 9), ["x", "y"]), out, **options)


def test_images_that_need_a_mask_and_have_none_are_named(write: Write, out: Path) -> None:
    data = write({"a.png": ("x", noise(8, 8), marks((8, 8), np.s_[:4, :])), "b.png": ("fine", noise(8, 8))})
    with pytest.raises(
        DataError, match=r"of classes other than 'fin' must have masks, got none for 'b\.png'; did you mean"
    ):
        tile(data, out, **BY_MASK | {"good": "fin"})


def test_all_unfit_images_are_named_at_once(write: Write, out: Path, tmp_path: Path) -> None:
    mask = marks((8, 8), np.s_[:4, :])
    records = {
        "a.png": ("x", noise(8, 8), mask),
        "b.png": ("x", noise(8, 8), ~mask & mask),
        "c.png": ("good", noise(8, 8), mask),
    }
    data = write(records)
    (tmp_path / "set/a.png").write_bytes(b"no image")
    with pytest.raises(DecodeError) as caught:
        tile(data, out, **BY_MASK)
    lines = str(caught.value).splitlines()
    assert lines[0] == "all images must be fit to be cut, got 3 of 3 that are not:"
    assert lines[1].startswith("  row 2: image ")
    assert lines[2].startswith("  row 3: mask of 'b.png' must mark something for label 'x', got nothing; correct")
    assert lines[3].startswith("  row 4: mask of 'c.png' must be empty for label 'good', got marks; correct")
    assert list(tmp_path.iterdir()) == [tmp_path / "set"]


def test_contradicting_masks_alone_are_no_decode_error(write: Write, out: Path) -> None:
    records = {f"{number:02}.png": ("x", noise(8, 8), marks((8, 8))) for number in range(12)}
    with pytest.raises(DataError, match=r"got 12 of 12 that are not:(\n  row \d+: .*){10}\n  and 2 more$") as caught:
        tile(write(records), out, **BY_MASK)
    assert not isinstance(caught.value, DecodeError)


def test_folder_of_the_set_is_left_alone(write: Write, tmp_path: Path) -> None:
    data = write({"a.png": ("x", noise(8, 8))})
    before = sorted((tmp_path / "set").rglob("*"))
    for out in (tmp_path / "set", tmp_path / "set/tiles", tmp_path / "other/../set/tiles"):
        with pytest.raises(
            ConfigError, match=r"'out' must lie outside of the set's own folder .*; choose one beside it"
        ):
            tile(data, out)
    assert sorted((tmp_path / "set").rglob("*")) == before


def test_folder_must_be_new_or_empty(write: Write, out: Path) -> None:
    data = write({"a.png": ("x", noise(8, 8))})
    out.mkdir()
    assert len(tile(data, out, size=8, overlap=0)) == 1
    with pytest.raises(ConfigError, match="'out' must be a new or empty folder, got"):
        tile(data, out, size=8, overlap=0)


def test_other_views_are_refused(write: Write, out: Path) -> None:
    data = write({"a.png": ("x", noise(8, 8))}, columns={"back": "a.png"}, views={"back": "back"})
    with pytest.raises(
        DataError, match="'data' must have one picture a record to be tiled, got the views 'back'; read"
    ):
        tile(data, out)


def test_left_out_tiles_are_counted_on_the_console(write: Write, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(tiling, "say", said.append)
    mask = marks((8, 32), np.s_[:, :8], np.s_[:1, 8:9])
    tile(write({"a.png": ("x", noise(8, 32), mask)}), out, **BY_MASK, min_share=0.05, keep_good=0.5)
    assert said == ["Tiling: 2 tiles of 1 images; left out 1 ambiguous, 1 thinned"]
