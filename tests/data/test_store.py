from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from imgcls.core.errors import DataError, DecodeError
from imgcls.core.folders import cache_folder
from imgcls.data import images
from imgcls.data.dataset import Dataset
from imgcls.data.spec import ImageSpec
from imgcls.data.store import open_store

Make = Callable[..., Path]
SPEC = ImageSpec(size=(6, 8), fit="letterbox")


@pytest.fixture
def root(make_images: Make) -> Path:
    return make_images("cat/1.png", "cat/2.jpg", "dog/1.png")


def stores() -> list[str]:
    return sorted(path.name for path in (cache_folder() / "store").iterdir() if path.suffix != ".lock")


def no_decoding(*_: object) -> None:
    raise AssertionError("decoded again")


def test_values_are_those_of_each_image_alone(root: Path) -> None:
    data = Dataset.from_folder(root)
    store = open_store(data, SPEC)
    assert store.images.shape == (3, 6, 8, 3)
    for position in range(3):
        assert np.array_equal(store.images[position], images.read(root / data.ids[position], SPEC))


def test_arrays_have_a_store_too() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 6, 8, 3), dtype=np.uint8)
    store = open_store(Dataset.from_arrays(pixels, [0, 1, 0]), SPEC)
    assert np.array_equal(store.images, pixels)


def test_store_is_opened_again_without_decoding(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_store(Dataset.from_folder(root), SPEC)
    monkeypatch.setattr(images, "read", no_decoding)
    again = open_store(Dataset.from_folder(root), ImageSpec(size=(6, 8), fit="letterbox", mean=[0] * 3, std=[1] * 3))
    assert again.folder == first.folder
    assert np.array_equal(again.images, first.images)


def test_other_spec_subset_or_file_makes_another_store(root: Path) -> None:
    data = Dataset.from_folder(root)
    made = {open_store(data, spec).folder for spec in (SPEC, ImageSpec(size=(6, 8)), ImageSpec(size=(8, 6)))}
    made.add(open_store(data.subset([0, 2]), SPEC).folder)
    os.utime(root / "cat/1.png", ns=(1, 1))
    made.add(open_store(Dataset.from_folder(root), SPEC).folder)
    assert len(made) == len(stores()) == 5


def test_writing_into_the_images_does_not_change_the_store(root: Path) -> None:
    data = Dataset.from_folder(root)
    store = open_store(data, SPEC)
    before = store.images.copy()
    store.images[:] = 0
    assert np.array_equal(open_store(data, SPEC).images, before)


def test_failure_names_files(root: Path) -> None:
    (root / "cat/2.jpg").write_text("no image")
    (root / "dog/1.png").write_bytes(b"")
    with pytest.raises(DecodeError) as caught:
        open_store(Dataset.from_folder(root), SPEC)
    lines = str(caught.value).splitlines()
    assert lines[0] == "all images must be readable, got 2 of 3 that are not:"
    assert lines[1].startswith("  record 1: image ")
    assert lines[1].endswith("cat/2.jpg' must be readable, got no image of a known format")
    assert lines[2].endswith("dog/1.png' must be readable, got an empty file")
    assert open_store(Dataset.from_folder(root), SPEC, on_bad="skip").bad.keys() == {1, 2}


def test_many_failures_are_counted(make_images: Make) -> None:
    root = make_images(*(f"cat/{number:02}.png" for number in range(14)))
    for file in (root / "cat").iterdir():
        file.write_text("x")
    with pytest.raises(DecodeError, match=r"14 of 14 that are not:(\n  record \d+: .*){10}\n  and 4 more$"):
        open_store(Dataset.from_folder(root), SPEC)


def test_file_that_vanishes_is_named(root: Path) -> None:
    data = Dataset.from_folder(root)
    _ = data.fingerprint
    (root / "cat/1.png").unlink()
    with pytest.raises(DataError, match=r"got no 'cat/1\.png' \(record 0\); correct 'root' or the paths"):
        open_store(data, SPEC)


def test_failure_names_the_row_of_a_table_also_in_a_part_of_it(root: Path) -> None:
    (root / "x.csv").write_text("image,label\ncat/1.png,cat\ncat/2.jpg,cat\ndog/1.png,dog\n")
    (root / "dog/1.png").write_text("no image")
    data = Dataset.from_csv(root / "x.csv")
    for part, got in ((data, "1 of 3"), (data.subset([2, 0]), "1 of 2")):
        with pytest.raises(DecodeError, match=rf"got {got} that are not:\n  row 4: image '.*dog/1\.png' must be"):
            open_store(part, SPEC)


def test_file_that_vanishes_before_the_fingerprint_is_named(root: Path) -> None:
    data = Dataset.from_folder(root)
    (root / "cat/2.jpg").unlink()
    with pytest.raises(DataError, match=r"got no 'cat/2\.jpg' \(record 1\)"):
        open_store(data, SPEC)


def test_repaired_set_is_built_after_a_failure(root: Path, make_images: Make) -> None:
    (root / "cat/2.jpg").write_text("no image")
    with pytest.raises(DecodeError):
        open_store(Dataset.from_folder(root), SPEC)
    make_images("cat/2.jpg")
    assert len(open_store(Dataset.from_folder(root), SPEC).images) == 3


def test_two_processes_build_a_store_once(make_images: Make, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = make_images(*(f"{kind}/{number}.png" for kind in "ab" for number in range(30)))
    log = tmp_path_factory.mktemp("log") / "reads"
    code = f"""
import os
from imgcls.data import images, store
from imgcls.data.dataset import Dataset
from imgcls.data.spec import ImageSpec
read = images.read
def noted(path, spec):
    with open({str(log)!r}, "a") as file:
        file.write(f"{{path}}\\n")
    return read(path, spec)
images.read = noted
print(store.open_store(Dataset.from_folder({str(root)!r}), ImageSpec(size=8)).images.sum())
"""
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    sums = [process.communicate(timeout=60)[0] for process in running]
    assert sums[0] == sums[1] != ""
    assert len(log.read_text().splitlines()) == 60


def test_full_disk_is_refused_before_decoding(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "read", no_decoding)
    with pytest.raises(DataError, match=r"must have room for .* GiB of decoded images, got .* GiB .*; delete stores"):
        open_store(Dataset.from_folder(root), ImageSpec(size=10**7))


def test_damaged_store_is_refused(root: Path) -> None:
    data = Dataset.from_folder(root)
    folder = open_store(data, SPEC).folder
    np.save(folder / "images.npy", np.zeros((2, 6, 8, 3), np.uint8))
    with pytest.raises(DataError, match=r"must have shape \[3, 6, 8, 3\], got \(2, 6, 8, 3\); delete it"):
        open_store(data, SPEC)
