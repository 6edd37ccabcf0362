"""Masks and views: which file belongs to which image, and where its pixels go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imgcls.core.errors import ConfigError, DataError, DecodeError
from imgcls.data import images
from imgcls.data.dataset import Dataset
from imgcls.data.spec import ImageSpec

Make = Callable[..., Path]

# A shape without symmetry.
BLOB = np.zeros((12, 20), np.uint8)
BLOB[1:7, :9] = 255
BLOB[5:9, 7:14] = 255


def saved(path: Path, pixels: NDArray[Any], orientation: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def masked(root: Path, **options: Any) -> dict[str, str]:
    data = Dataset.from_folder(root, **options)
    return dict(zip(data.ids.tolist(), data.frame["mask"].tolist(), strict=True))


def test_stem_is_matched_exactly(make_images: Make) -> None:
    root = make_images("a/img1.png", "a/img10.png", "a/img10_mask.png", "a/img.png", "b/img1.png")
    assert masked(root, mask="<stem>_mask*") == {
        "a/img.png": "",
        "a/img1.png": "",
        "a/img10.png": "a/img10_mask.png",
        "b/img1.png": "",
    }


@pytest.mark.parametrize("name", ["i[1]", "i*", "i?x", "i!", "ä b", "i.j", "<stem"])
def test_signs_of_patterns_in_names_are_names(make_images: Make, name: str) -> None:
    root = make_images(f"a/{name}.png", f"a/{name}_m1.png", "a/i1.png", "a/iyx.png")
    assert masked(root, mask="<stem>_m?.*")[f"a/{name}.png"] == f"a/{name}_m1.png"


@pytest.mark.parametrize(
    ("pattern", "paths", "expected"),
    [
        ("<stem>.png", ["a/1.jpg", "a/1.png", "b/2.jpg"], {"a/1.jpg": "a/1.png", "b/2.jpg": ""}),
        ("masks/<stem>.png", ["a/1.png", "masks/1.png", "masks/9.png"], {"a/1.png": "masks/1.png"}),
        ("./<stem>_m.png", ["a/1.png", "1_m.png"], None),
        ("m/<folder>/<stem>.*", ["a/x/1.png", "b/1.png", "m/a/x/1.bmp"], {"a/x/1.png": "m/a/x/1.bmp", "b/1.png": ""}),
        ("<folder>/gt/<stem>.gif", ["a/1.png", "a/gt/1.gif"], {"a/1.png": "a/gt/1.gif"}),
        ("<folder>/<stem>/seg*", ["a/1.png", "a/1/seg9.png"], {"a/1.png": "a/1/seg9.png"}),
        ("m\\<stem>.png", ["a/1.png", "m/1.png"], {"a/1.png": "m/1.png"}),
        ("GT_<stem>.png", ["a/1.png", "a/GT_1.png"], {"a/1.png": "a/GT_1.png"}),
    ],
)
def test_masks_are_found_and_are_no_images(
    make_images: Make, pattern: str, paths: list[str], expected: dict[str, str] | None
) -> None:
    root = make_images(*paths)
    if expected is None:
        table = Dataset.from_names(root, pattern="(?P<label>a)/", mask=pattern).frame
        expected, found = {"a/1.png": "1_m.png"}, dict(zip(table["id"], table["mask"], strict=True))
    else:
        found = masked(root, mask=pattern)
    assert found == expected


def test_folders_are_no_masks(make_images: Make) -> None:
    root = make_images("a/1.png", "a/1_mask.png", "a/1_mask_old/x.png")
    assert masked(root, mask="<stem>_mask*") == {"a/1.png": "a/1_mask.png", "a/1_mask_old/x.png": ""}


@pytest.mark.parametrize(
    ("pattern", "paths", "message"),
    [
        (
            "<stem>_m*",
            ["a/1.png", "a/1_m.png", "a/1_m2.png"],
            r"one file an image, got 'a/1_m\.png', 'a/1_m2\.png' for",
        ),
        ("<stem>_m*", ["a/1.png", "a/10_x.png"], r"'mask' must match files below '.*', got none for '<stem>_m\*'"),
        (
            "<stem>_m.png",
            ["a/1.png", "a/1_m.png", "a/2_m.png"],
            r"must go with an image each, got none for 'a/2_m\.png'",
        ),
        (
            "<folder>/m/<stem>.png",
            ["a/1.png", "a/m/1.png", "a/m/2.png"],
            r"'mask' must go with an image each, got none",
        ),
        (
            "masks/<stem>.png",
            ["a/1.png", "b/1.png", "masks/1.png"],
            r"one image a file, got 'masks/1\.png' for 'a/1\.png' and 'b/1\.png'; put <folder> into the pattern",
        ),
    ],
)
def test_masks_that_do_not_fit_are_refused(make_images: Make, pattern: str, paths: list[str], message: str) -> None:
    root = make_images(*paths)
    with pytest.raises(DataError, match=message):
        Dataset.from_folder(root, mask=pattern)


@pytest.mark.parametrize("pattern", ["../<stem>.png", "m/../../<stem>.png", "/m/<stem>.png", "C:/<stem>", "a\0<stem>"])
def test_patterns_stay_below_root(make_images: Make, pattern: str) -> None:
    root = make_images("r/a/1.png", "m/1.png", "1.png") / "r"
    with pytest.raises(ConfigError, match="'mask' must be a pattern of paths below 'root', got"):
        Dataset.from_folder(root, mask=pattern)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": "masks"}, "'mask' must be a pattern with '<stem>', got 'masks'; such as"),
        ({"mask": 5}, "'mask' must be the name of a column, or None, got 5"),
        ({"views": {"uv": "uv/"}}, r"'views\.uv' must be a pattern with '<stem>', got 'uv/'"),
        ({"views": ["<stem>"]}, "'views' must give columns or patterns by the names of views"),
        ({"views": {"": "<stem>_u"}}, "'views' must give columns or patterns"),
        ({"mask": "<stem>_m.png", "mask_threshold": "1"}, "'mask_threshold' must be a finite number, got '1'"),
        ({"mask": "<stem>_m.png", "mask_threshold": True}, "'mask_threshold' must be a finite number, got True"),
        ({"mask_threshold": 10}, "'mask_threshold' must be left out without 'mask', got 10"),
    ],
)
def test_options_of_masks_are_checked(make_images: Make, options: dict[str, Any], message: str) -> None:
    root = make_images("a/1.png", "a/1_m.png")
    with pytest.raises(ConfigError, match=message):
        Dataset.from_folder(root, **options)


def test_images_that_may_be_masks_are_told(
    make_images: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("IMGCLS_QUIET")
    root = make_images("a/1.jpg", "a/1.png", "b/1.jpg", "b/2.png")
    assert len(Dataset.from_folder(root)) == 4
    told = capsys.readouterr().err
    assert "1 images share folder and name with another one, such as 'a/1.jpg', 'a/1.png'; if these are masks" in told
    assert len(Dataset.from_folder(root, mask="<stem>.png")) == 3
    assert not capsys.readouterr().err


def test_masks_may_lie_beside_the_splits(
    make_images: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("IMGCLS_QUIET")
    root = make_images("train/a/1.png", "test/b/2.png", "masks/train/a/1.png")
    assert masked(root, mask="masks/<folder>/<stem>.*") == {"test/b/2.png": "", "train/a/1.png": "masks/train/a/1.png"}
    assert not capsys.readouterr().err


@pytest.fixture
def table(tmp_path: Path) -> dict[str, Any]:
    """Write two images, the mask of one, and another view of both."""
    for name, level in (("1.png", 10), ("2.png", 20), ("uv1.png", 30), ("uv2.png", 40)):
        saved(tmp_path / name, np.full((12, 20), level, np.uint8))
    saved(tmp_path / "m.png", BLOB // 2)
    columns = {"image": ["1.png", "2.png"], "label": ["a", "b"], "m": ["./m.png", None], "u": ["uv1.png", "uv2.png"]}
    return {"frame": columns, "root": tmp_path}


def read(table: Mapping[str, Any], **options: Any) -> Dataset:
    import pandas as pd

    return Dataset.from_frame(pd.DataFrame(table["frame"]), root=table["root"], **options)


def test_columns_name_masks_and_views(table: dict[str, Any]) -> None:
    data = read(table, mask="m", mask_threshold=100, views={"uv": "u"})
    assert (list(data.frame), data.views) == (["id", "label", "mask", "view:uv"], ("uv",))
    assert data.frame["mask"].tolist() == ["m.png", ""]
    assert data.path(0, view="mask").name == "m.png"
    assert data.path(1, view="uv").name == "uv2.png"
    assert [int(data.original(k, view=view)[0, 0, 0]) for k in (0, 1) for view in (None, "uv")] == [10, 30, 20, 40]
    assert data.pixels(1, ImageSpec(size=4, channels=3), view="uv").tolist() == [[[40] * 3] * 4] * 4
    assert data.sizes is not None
    assert data.sizes.shape == (3, 2)
    assert [len(data.times(view)) for view in (None, "mask", "uv")] == [2, 2, 2]


def test_record_without_a_mask_is_all_outside(table: dict[str, Any]) -> None:
    data = read(table, mask="m", mask_threshold=100)
    assert (data.original_mask(1), data[1].mask) == (None, None)
    assert not data.mask(1, ImageSpec(size=(3, 5))).any()
    assert data.pixels(1, ImageSpec(size=(3, 5)), view="mask").shape == (3, 5, 1)
    assert np.array_equal(data[0].mask, BLOB > 0)  # type: ignore[arg-type]
    assert not read(table, mask="m").mask(0, ImageSpec(size=(3, 5))).any()  # an empty mask is one, too


def test_threshold_is_part_of_the_fingerprint(table: dict[str, Any]) -> None:
    sets = [read(table), read(table, mask="m"), read(table, mask="m", mask_threshold=3), read(table, views={"m": "u"})]
    assert len({data.fingerprint for data in sets}) == 4
    assert read(table, mask="m", mask_threshold=127.0).fingerprint == sets[1].fingerprint


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"u": ["uv1.png", None]}, {"views": {"uv": "u"}}, "'view:uv' must be filled in every row, got .* of record 1"),
        ({"u": ["uv1.png", "uv9.png"]}, {"views": {"uv": "u"}}, r"got no 'uv9\.png' \(record 1\)"),
        ({"m": [None, "z.png"]}, {"mask": "m"}, r"got no 'z\.png' \(record 1\)"),
        ({}, {"mask": "masks"}, "'mask' must name a column, got 'masks'; the table has 'image'"),
        ({}, {"views": {"uv": "uvs"}}, r"'views\.uv' must name a column, got 'uvs'"),
    ],
)
def test_wrong_columns_of_files_are_refused(
    table: dict[str, Any], changes: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read(table | {"frame": table["frame"] | changes}, **options)


def test_unknown_view_is_named(table: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"'view' must be another picture .*, got 'vu'; .*'uv'"):
        read(table, views={"uv": "u"}).path(0, view="vu")


def test_patterns_work_in_tables(table: dict[str, Any]) -> None:
    data = read(table, views={"uv": "uv<stem>.png"}, mask="uv<stem>.*")
    assert data.frame["view:uv"].tolist() == data.frame["mask"].tolist() == ["uv1.png", "uv2.png"]


def test_view_of_a_folder_must_have_every_picture(make_images: Make) -> None:
    root = make_images("a/1.png", "a/2.png", "uv/1.png")
    with pytest.raises(DataError, match=r"'view:uv' must be filled in every row, got .* of record 1"):
        Dataset.from_folder(root, views={"uv": "uv/<stem>.png"})


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("stored", [True, False])
def test_mask_goes_where_its_image_goes(tmp_path: Path, fit: str, orientation: int, stored: bool) -> None:
    image = saved(tmp_path / "a/1.png", BLOB, orientation)
    upright = images.original(image)[..., 0]
    saved(tmp_path / "a/1_m.png", BLOB if stored and orientation > 4 else upright)
    data = Dataset.from_folder(tmp_path, mask="<stem>_m*")
    spec = ImageSpec(size=(10, 16), channels=1, fit=fit)
    assert np.array_equal(data.original_mask(0), upright > 127)  # type: ignore[arg-type]
    assert np.array_equal(data.mask(0, spec), data.pixels(0, spec)[..., 0])


def test_boxes_are_masks(tmp_path: Path) -> None:
    saved(tmp_path / "a/1.png", BLOB)
    box = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>5</xmax><ymax>4</ymax></bndbox>"
    (tmp_path / "a/1.xml").write_text(f"<annotation><object>{box}</object></annotation>")
    mask = Dataset.from_folder(tmp_path, mask="<stem>.xml").original_mask(0)
    assert mask is not None
    assert (mask.shape, np.argwhere(mask).min(axis=0).tolist(), int(mask.sum())) == (BLOB.shape, [2, 1], 8)


def test_mask_of_another_size_is_named(make_images: Make) -> None:
    root = make_images("a/1.png")
    make_images("a/1_m.png", size=(5, 5))
    with pytest.raises(DecodeError, match=r"mask '.*1_m\.png' must have the size of its image, 10 x 12, got 5 x 5"):
        Dataset.from_folder(root, mask="<stem>_m*").original_mask(0)
