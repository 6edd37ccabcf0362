"""What users broke, one test each."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from imgcls import Dataset, ImageSpec, Predictions, Trainer
from imgcls.core.errors import ConfigError, DataError, DecodeError
from imgcls.data.cache import entries
from imgcls.data.store import open_store
from imgcls.runtime.sources import Resident, Streamed, open_source
from imgcls.testing import blobs

Make = Callable[..., Path]
SPEC = ImageSpec(size=(6, 8))


class Fragile:
    """Pairs of image and label of which one image cannot be read."""

    targets = (0, 1, 0, 1)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, number: int) -> tuple[Any, int]:
        if number == 2:
            raise OSError("the tape is torn")
        return np.full((9, 9), 10 * number, np.uint8), self.targets[number]


def test_an_image_that_another_library_cannot_read_is_named_and_may_be_skipped() -> None:
    data = Dataset.from_torch(Fragile())
    with pytest.raises(DecodeError, match="record 2: image '000002' must be readable, got an error: the tape is torn"):
        open_store(data, SPEC)
    assert list(open_store(data, SPEC, on_bad="skip").bad) == [2]
    report = data.check()
    assert not report.ok
    assert report.problems["id"].tolist()[0] == "000002"


def test_a_cmyk_picture_in_memory_is_named() -> None:
    class Printed(Fragile):
        def __getitem__(self, number: int) -> tuple[Any, int]:
            return Image.new("CMYK", (9, 9)), self.targets[number]

    data = Dataset.from_torch(Printed())
    with pytest.raises(DecodeError, match="image '000001' must be grey, RGB or palette, got CMYK"):
        data.original(1)


def test_a_build_goes_on_though_its_own_part_fills_the_budget(
    make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Dataset.from_folder(make_images(*(f"{kind}/{number}.png" for kind in "ab" for number in range(9))))
    folder = open_store(data, SPEC).folder
    partial = folder.with_name(folder.name + ".partial")
    folder.rename(partial)
    (partial / "store.json").unlink()
    (partial / "progress.json").write_text('{"done": 0, "bad": {}}')
    monkeypatch.setenv("IMGCLS_CACHE_LIMIT", str(3000 / 2**30))
    assert isinstance(open_source(data, SPEC), Resident)
    assert [entry.whole for entry in entries()] == [True]


@pytest.mark.parametrize("note", [None, "{"])
def test_a_part_without_a_good_note_is_begun_anew(make_images: Make, note: str | None) -> None:
    data = Dataset.from_folder(make_images("a/1.png", "b/1.png"))
    folder = open_store(data, SPEC).folder
    partial = folder.with_name(folder.name + ".partial")
    folder.rename(partial)
    (partial / "progress.json").unlink(missing_ok=True)
    if note is not None:
        (partial / "progress.json").write_text(note)
    assert open_store(data, SPEC).verify() == []


@pytest.mark.parametrize("mode", ["disk", "stream"])
def test_a_set_of_unreadable_images_only_is_an_error(make_images: Make, mode: str) -> None:
    root = make_images("a/1.png", "b/1.png")
    for file in root.rglob("*.png"):
        file.write_text("no image")
    with pytest.raises(DecodeError, match="all images must be readable, got 2 of 2 that are not"):
        open_source(Dataset.from_folder(root), SPEC, mode=mode, on_bad="skip")


def test_a_cache_folder_that_cannot_be_made_is_named_and_images_stream(
    make_images: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Dataset.from_folder(make_images("a/1.png", "b/1.png"))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("IMGCLS_CACHE", str(tmp_path / "file"))
    assert isinstance(open_source(data, SPEC), Streamed)
    with pytest.raises(DataError, match=r"the cache folder must be one that can be made.*; set IMGCLS_CACHE"):
        open_source(data, SPEC, mode="disk")


def test_a_store_that_was_cut_short_is_named(make_images: Make) -> None:
    data = Dataset.from_folder(make_images("a/1.png", "b/1.png"))
    folder = open_store(data, SPEC).folder
    os.truncate(folder / "images.npy", 200)
    with pytest.raises(DataError, match=r"must be as it was written, got .*; delete it"):
        open_store(data, SPEC)


@pytest.mark.parametrize("limit", ["nan", "-1", "inf"])
def test_a_budget_that_is_none_is_refused(make_images: Make, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setenv("IMGCLS_CACHE_LIMIT", limit)
    with pytest.raises(ConfigError, match="IMGCLS_CACHE_LIMIT must be a number of GiB from 0 on"):
        open_store(Dataset.from_folder(make_images("a/1.png", "b/1.png")), SPEC)


def test_what_is_not_finite_is_an_error_of_the_check(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((4, 9, 9), dtype=np.float32)
    values[1, 0, 0], values[2, 3, 3] = np.nan, np.inf
    for number, image in enumerate(values):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "ab"[number % 2] / f"{number}.tif")
    data = Dataset.from_folder(tmp_path)
    problems = data.check().problems
    assert sorted(problems["id"][problems["kind"] == "not finite"]) == ["a/2.tif", "b/1.tif"]
    with pytest.raises(DecodeError, match="must hold numbers only, got NaN or infinity"):
        data.pixels(1, ImageSpec(size=8, channels=1, range=(0, 1)))


def test_a_picture_whose_second_half_was_never_written_is_found(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        stream, noise = io.BytesIO(), np.random.default_rng(len(name)).integers(0, 256, (64, 64), dtype=np.uint8)
        Image.fromarray(noise).save(stream, "JPEG")
        content = stream.getvalue()
        half = len(content) // 2
        (tmp_path / name).write_bytes(content[:half] + bytes(half) if name == "a/2.jpg" else content)
    problems = Dataset.from_folder(tmp_path).check(near=False).problems
    assert problems["id"][problems["kind"].isin(["no end", "unreadable"])].tolist() == ["a/2.jpg"]


def test_codes_in_other_columns_stay_as_they_are(make_images: Make) -> None:
    root = make_images("1.png", "2.png")
    table = "image,label,site,when,flag,age,dose\n1.png,a,007,1e5,TRUE,31,0.5\n2.png,b,012,2e5,FALSE,40,1e-05\n"
    (root / "x.csv").write_text(table)
    frame = Dataset.from_csv(root / "x.csv").frame
    assert frame[["site", "when", "flag"]].to_numpy().tolist() == [["007", "1e5", "TRUE"], ["012", "2e5", "FALSE"]]
    assert frame["age"].tolist() == [31, 40]
    assert frame["dose"].tolist() == [0.5, 1e-05]


def test_whole_numbers_with_a_point_are_one_class_and_one_group(make_images: Make) -> None:
    root = make_images("1.png", "2.png", "3.png")
    (root / "x.csv").write_text("image,label,who\n1.png,1.0,7\n2.png,0.0,7.0\n3.png,1,8.0\n")
    data = Dataset.from_csv(root / "x.csv", group="who")
    assert data.classes == ("0", "1")
    assert data.frame["group"].tolist() == ["7", "7", "8"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.xlsx", b"PK\x03\x04", "must name a table as text, got the spreadsheet '.*x.xlsx'; save it as CSV"),
        ("x.csv", b"sep=;\nimage;label\n", "got 'sep=;' in .*; delete that line and give delimiter=';'"),
        ("x.csv", b'image,label\n1.png,"a\n', "must name a table with one header and rows that fit it"),
    ],
)
def test_what_is_no_table_is_told_apart(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        Dataset.from_csv(tmp_path / name)


def test_a_column_that_looks_like_a_role_is_told(
    make_images: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("IMGCLS_QUIET")
    frame = pd.DataFrame({"image": ["1.png"], "label": ["a"], "group": ["p1"]})
    Dataset.from_frame(frame, root=make_images("1.png"))
    assert "'group' has no role and is kept as 'group_'; give group=... to use it" in capsys.readouterr().err


def test_columns_of_the_set_do_not_vanish_behind_those_of_the_table() -> None:
    found = Predictions(
        ids=["a"],
        labels=[0],
        logits=[[1.0, 0.0]],
        probs=[[0.75, 0.25]],
        fold=[0],
        split="test",
        classes=["x", "y"],
        positive="y",
        columns={"fold": ["seventh"], "prob_x": [3], "age": [50]},
    )
    row = found.frame().iloc[0]
    assert (row["fold"], row["fold_"], row["prob_x"], row["prob_x_"], row["age"]) == (0, "seventh", 0.75, 3, 50)


def test_a_file_that_became_a_link_out_of_the_root_is_not_read(
    make_images: Make, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = Dataset.from_folder(make_images("a/1.png", "b/1.png"))
    outside = tmp_path_factory.mktemp("outside") / "x.png"
    data.path(0).rename(outside)
    data.path(0).symlink_to(outside)
    with pytest.raises(DecodeError, match="must lie below its root, got a link to"):
        data.original(0)
    assert not data.check().ok


def test_a_class_whose_records_weigh_nothing_is_refused() -> None:
    arrays, labels = np.asarray(blobs().arrays), blobs().frame["label"]
    weights = (labels == "a").astype(float)
    with pytest.raises(DataError, match="'weight' must be above 0 for some record of each class, got none of 'b'"):
        Trainer(Dataset.from_arrays(arrays, labels, weights=weights))


def test_images_in_memory_of_one_pixel_are_refused() -> None:
    with pytest.raises(DataError, match="must be images of at least 2 x 2 pixels, got 1 x 7; leave them out"):
        Dataset.from_arrays(np.zeros((3, 1, 7), np.uint8), [0, 1, 0])


@pytest.mark.parametrize("name", ["mean", "std"])
def test_statistics_of_0_to_255_are_refused(name: str) -> None:
    options = {"mean": 0.5, "std": 0.25, "channels": 1} | {name: 123.0}
    with pytest.raises(ConfigError, match=f"'{name}' must be in units of 0 to 1, got .*; divide it by 255"):
        ImageSpec(**options)  # type: ignore[arg-type]
