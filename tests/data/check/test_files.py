from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imgcls.data.check.checking import check
from imgcls.data.check.report import CheckReport
from imgcls.data.dataset import Dataset

Texture = Callable[..., NDArray[np.uint8]]


@pytest.fixture
def folder(tmp_path: Path, texture: Texture) -> Path:
    """Twelve good images of two classes."""
    for seed in range(12):
        file = tmp_path / "ab"[seed % 2] / f"{seed}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(texture(seed)).save(file)
    return tmp_path


def _found(report: CheckReport) -> dict[str, list[str]]:
    return {str(kind): rows["id"].tolist() for kind, rows in report.problems.groupby("kind")}


def _write(path: Path, pixels: NDArray[np.uint8], form: str | None = None) -> None:
    Image.fromarray(pixels).save(path, form)


def test_a_good_set_has_no_problem_and_facts_of_each_file(folder: Path, texture: Texture) -> None:
    report = check(Dataset.from_folder(folder))
    assert report.ok
    assert _found(report) == {}
    row = report.files[report.files["id"] == "a/4.png"].iloc[0]
    assert (row["width"], row["height"], row["channels"], row["bits"]) == (80, 72, 1, 8)
    assert (row["format"], row["readable"], row["reason"]) == ("PNG", True, "")
    assert (row["low"], row["high"]) == (texture(4).min(), texture(4).max())
    assert row["mean"] == pytest.approx(texture(4).mean(), rel=1e-6)
    assert row["std"] == pytest.approx(texture(4).std(), rel=1e-4)


def test_unreadable_files_are_errors_and_stop_nothing(folder: Path) -> None:
    data = Dataset.from_folder(folder)
    (folder / "a" / "0.png").write_bytes(b"no image")
    whole = (folder / "b" / "1.png").read_bytes()
    (folder / "b" / "1.png").write_bytes(whole[: len(whole) // 2])
    report = check(data)
    assert not report.ok
    assert _found(report)["unreadable"] == ["a/0.png", "b/1.png"]
    assert report.problems["detail"].str.contains("must be readable").sum() == 2
    assert report.files["readable"].sum() == 10
    assert report.classes["unreadable"].tolist() == [1, 1]
    assert report.num_compared == 10


def test_views_and_masks_that_cannot_be_read_are_errors_too(tmp_path: Path, texture: Texture) -> None:
    for folder in ("a", "b", "flat", "mask"):
        (tmp_path / folder).mkdir()
    for seed in range(4):
        for place in ("ab"[seed % 2], "flat", "mask"):
            _write(tmp_path / place / f"{seed}.png", texture(seed))
    (tmp_path / "flat" / "2.png").write_bytes(b"no image")
    _write(tmp_path / "mask" / "1.png", texture(1)[:50])
    views = {"flat": "flat/<stem>.png"}
    data = Dataset.from_names(tmp_path, pattern="^(?P<label>[ab])/", views=views, mask="mask/<stem>.png")
    report = check(data)
    found = report.problems[report.problems["severity"] == "error"]
    assert found["id"].tolist() == ["a/2.png", "b/1.png"]
    assert found["kind"].tolist() == ["unreadable", "unreadable"]
    assert found["detail"].iloc[0].startswith("view 'flat': image ")
    assert "mask: mask " in found["detail"].iloc[1]
    assert "must have the size of its image" in found["detail"].iloc[1]
    assert report.files["readable"].all()


def test_a_set_without_a_readable_file_is_checked(folder: Path) -> None:
    data = Dataset.from_folder(folder)
    for file in folder.rglob("*.png"):
        file.write_bytes(b"")
    report = check(data)
    assert len(_found(report)["unreadable"]) == 12
    assert report.save(folder / "page.html").exists()


def test_missing_files_are_unreadable(folder: Path) -> None:
    data = Dataset.from_folder(folder)
    (folder / "a" / "2.png").unlink()
    assert _found(check(data))["unreadable"] == ["a/2.png"]


def test_files_are_left_as_they_were(folder: Path) -> None:
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.rglob("*") if file.is_file()}
    check(Dataset.from_folder(folder))
    assert {
        file: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.rglob("*") if file.is_file()
    } == before


def test_extension_is_compared_with_content(folder: Path, texture: Texture) -> None:
    _write(folder / "a" / "x.jpg", texture(20), "PNG")
    _write(folder / "a" / "y.jpeg", texture(21), "JPEG")
    report = check(Dataset.from_folder(folder))
    assert _found(report) == {"extension": ["a/x.jpg"]}
    assert report.problems["detail"].tolist() == ["is a PNG file by its content"]


def test_one_name_with_two_extensions_is_told(folder: Path, texture: Texture) -> None:
    _write(folder / "a" / "x.jpg", texture(20))
    _write(folder / "a" / "x.png", texture(21))
    _write(folder / "b" / "x.png", texture(22))
    report = check(Dataset.from_folder(folder))
    assert report.problems[["kind", "id", "other"]].to_numpy().tolist() == [["same stem", "a/x.png", "a/x.jpg"]]


def test_names_with_dots_are_no_extensions_of_each_other(folder: Path, texture: Texture) -> None:
    _write(folder / "a" / "x.1.png", texture(20))
    _write(folder / "a" / "x.2.png", texture(21))
    assert check(Dataset.from_folder(folder)).problems.empty


def test_empty_dark_bright_and_tiny_images_are_told(folder: Path, texture: Texture) -> None:
    rng = np.random.default_rng(0)
    planted = {
        "constant": np.full((72, 80), 128, np.uint8),
        "nearly constant": rng.integers(127, 130, (72, 80)).astype(np.uint8),
        "dark": texture(30, low=0, high=12),
        "bright": texture(31, low=243, high=255),
        "tiny": texture(32, size=(7, 30)),
    }
    for name, pixels in planted.items():
        _write(folder / "a" / f"{name}.png", pixels)
    found = _found(check(Dataset.from_folder(folder)))
    for name in planted:
        assert found[name] == [f"a/{name}.png"]


def test_dark_is_no_finding_where_all_are_dark(texture: Texture) -> None:
    images = np.stack([texture(seed, low=0, high=12) for seed in range(6)])
    assert "dark" not in _found(check(Dataset.from_arrays(images, list("ababab"))))


def test_odd_sizes_are_told(folder: Path, texture: Texture) -> None:
    _write(folder / "a" / "large.png", texture(30, size=(720, 800)))
    _write(folder / "a" / "long.png", texture(31, size=(40, 160)))
    _write(folder / "a" / "other.png", texture(32, size=(90, 90)))
    report = check(Dataset.from_folder(folder))
    assert _found(report) == {"size": ["a/large.png"], "aspect": ["a/long.png"]}
    assert report.problems["detail"].iloc[0] == "800 x 720 pixels, usual is 80 x 72"


def test_sets_of_many_sizes_are_not_odd(tmp_path: Path, texture: Texture) -> None:
    rng = np.random.default_rng(0)
    for seed in range(24):
        height, width = (int(side) for side in rng.integers(60, 400, 2))
        (tmp_path / "ab"[seed % 2]).mkdir(exist_ok=True)
        _write(tmp_path / "ab"[seed % 2] / f"{seed}.png", texture(seed, size=(height, width)))
    assert _found(check(Dataset.from_folder(tmp_path))) == {}


def test_colour_in_one_class_only_is_told(folder: Path, texture: Texture) -> None:
    for seed in range(3):
        _write(folder / "b" / f"colour{seed}.png", np.stack([texture(40 + 3 * seed + c) for c in range(3)], axis=-1))
    report = check(Dataset.from_folder(folder))
    assert _found(report) == {"channels": [""]}
    assert report.problems["detail"].iloc[0] == "3 of 15 images have 3 channels, most have 1: 3 b"


def test_a_copied_folder_is_all_copies(folder: Path) -> None:
    shutil.copytree(folder / "a", folder / "c")
    report = check(Dataset.from_folder(folder))
    assert report.num_surplus == 6
    assert report.problems["kind"].value_counts().to_dict() == {"label conflict": 6, "duplicate": 6, "no groups": 1}
