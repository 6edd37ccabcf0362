from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imgcls.core.errors import ConfigError, DataError, DecodeError
from imgcls.core.folders import cache_folder, hold, write_json
from imgcls.data import images
from imgcls.data.cache import entries, prune
from imgcls.data.dataset import Dataset
from imgcls.data.spec import ImageSpec
from imgcls.data.store import open_store, store_bytes

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


# Killed, repaired, damaged


def killed_while_building(root: Path, after: int) -> str:
    code = f"""
import os
from imgcls.data import images, store
from imgcls.data.dataset import Dataset
from imgcls.data.spec import ImageSpec
store._BLOCK = 8
read, count = images.read, 0
def dying(path, spec):
    global count
    count += 1
    if count > {after}:
        os.kill(os.getpid(), 9)
    return read(path, spec)
images.read = dying
store.open_store(Dataset.from_folder({str(root)!r}), ImageSpec(size=8), workers=1)
"""
    return str(subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode)


def test_killed_build_is_continued_where_it_was(make_images: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_images(*(f"{kind}/{number:02}.png" for kind in "ab" for number in range(20)))
    assert killed_while_building(root, after=29) == "-9"
    assert [entry.whole for entry in entries()] == [False]
    decoded: list[Path] = []
    read = images.read

    def noted(path: Path, spec: ImageSpec) -> Any:
        decoded.append(path)
        return read(path, spec)

    monkeypatch.setattr(images, "read", noted)
    data = Dataset.from_folder(root)
    store = open_store(data, ImageSpec(size=8))
    assert len(decoded) == 40 - 24  # three blocks of eight were noted as done
    for position in range(40):
        assert np.array_equal(store.images[position], read(root / data.ids[position], ImageSpec(size=8)))
    assert store.verify() == []


def test_unreadable_images_may_be_noted_instead(root: Path) -> None:
    (root / "cat/2.jpg").write_text("no image")
    store = open_store(Dataset.from_folder(root), SPEC, on_bad="skip")
    assert list(store.bad) == [1]
    assert "got no image of a known format" in store.bad[1]
    assert not store.images[1].any()
    assert store.verify() == []


def test_image_that_failed_for_a_moment_is_tried_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, read = Dataset.from_folder(root), images.read

    def failing(path: Path, spec: ImageSpec) -> Any:
        if path.name == "2.jpg":
            raise DecodeError("the network is away")
        return read(path, spec)

    with monkeypatch.context() as patch:
        patch.setattr(images, "read", failing)
        with pytest.raises(DecodeError, match="1 of 3 that are not:\n  record 1: the network is away"):
            open_store(data, SPEC)
    store = open_store(data, SPEC)
    assert not store.bad
    assert np.array_equal(store.images[1], read(root / "cat/2.jpg", SPEC))
    assert store.verify() == []


def test_damaged_pixels_are_found(root: Path) -> None:
    data = Dataset.from_folder(root)
    folder = open_store(data, SPEC).folder
    images_ = np.load(folder / "images.npy", mmap_mode="r+")
    images_[2, 0, 0, 0] ^= 1
    images_.flush()
    with pytest.raises(DataError, match="must be as it was written, got damaged images; delete it"):
        open_store(data, SPEC)


def test_file_of_another_size_is_refused_while_the_set_is_open(root: Path, make_images: Make) -> None:
    data = Dataset.from_folder(root)
    make_images("cat/1.png", size=(30, 31))
    with pytest.raises(DataError, match=r"must not change while the set is open, got 1 of another size, such as 'cat"):
        open_store(data, SPEC)


# Depth, views and masks


def test_deep_images_stay_deep() -> None:
    deep = np.random.default_rng(0).integers(0, 4096, (3, 6, 8), dtype=np.uint16)
    data = Dataset.from_arrays(deep, [0, 1, 0])
    store = open_store(data, ImageSpec(size=(6, 8), channels=1, bits=16, range=(0, 4095)))
    assert store.images.dtype == np.uint16
    assert np.array_equal(store.images[..., 0], np.rint(deep / 4095 * 65535).astype(np.uint16))


def test_views_and_masks_have_stores_of_their_own(make_images: Make) -> None:
    root = make_images("a/1.png", "a/2.png", "flat/1.png", "flat/2.png")
    Image.fromarray(np.eye(12, 10, dtype=np.uint8) * 255).save(root / "a/1_mask.png")
    table = "image,label,flat,mask\na/1.png,x,flat/1.png,a/1_mask.png\na/2.png,y,flat/2.png,\n"
    (root / "index.csv").write_text(table)
    data = Dataset.from_csv(root / "index.csv", views={"flat": "flat"}, mask="mask")
    spec = ImageSpec(size=(12, 10))
    flat, mask = open_store(data, spec, view="flat"), open_store(data, spec, view="mask")
    assert np.array_equal(flat.images[0], images.read(root / "flat/1.png", spec))
    assert np.array_equal(mask.images[..., 0], [np.eye(12, 10) * 255, np.zeros((12, 10))])
    assert len({open_store(data, spec).folder, flat.folder, mask.folder}) == 3


# Room


def test_budget_is_kept_and_counts_what_is_there(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Dataset.from_folder(root)
    monkeypatch.setenv("IMGCLS_CACHE_LIMIT", str(5000 / 2**30))
    open_store(data, SPEC)
    with pytest.raises(DataError, match=r"must have room for 0\.0 MiB of decoded images.*; delete stores with"):
        open_store(data, ImageSpec(size=(30, 30)))
    monkeypatch.setenv("IMGCLS_CACHE_LIMIT", "much")
    with pytest.raises(ConfigError, match="IMGCLS_CACHE_LIMIT must be a number of GiB from 0 on, got 'much'"):
        open_store(data, ImageSpec(size=(30, 30)))


def test_size_is_known_before_building(root: Path) -> None:
    data = Dataset.from_folder(root)
    expected = store_bytes(data, SPEC)
    files = open_store(data, SPEC).folder
    assert expected == 3 * 6 * 8 * 3 + 3 * 16
    written = sum((files / name).stat().st_size for name in ("images.npy", "digests.npy"))
    assert 0 < written - expected < 512  # the headers of two npy files


def test_stores_are_listed_and_deleted(root: Path) -> None:
    data = Dataset.from_folder(root)
    first, second = (open_store(data, spec).folder for spec in (SPEC, ImageSpec(size=5)))
    os.utime(first / "store.json", (1, 1))
    for file in first.iterdir():
        os.utime(file, (1, 1))
    assert [entry.folder for entry in entries()] == [second, first]
    assert entries()[0].about == f"3 images 5 x 5 x 3 uint8 of {root}"
    assert [entry.folder for entry in prune(older_than=30)[0]] == [first]
    assert [entry.folder for entry in prune(keys=[second.name[:6]])[0]] == [second]
    assert entries() == []


def test_a_store_of_an_older_imgcls_is_listed_as_such_and_deleted() -> None:
    folder = cache_folder() / "store" / "0260769d"
    folder.mkdir(parents=True)
    write_json(folder / "store.json", {"version": 1, "shape": [1797, 16, 16, 1], "fingerprint": "aa9c4a1e"})
    assert [(entry.about, entry.whole) for entry in entries()] == [("of an older imgcls, not used any more", True)]
    prune(keys=["026"])
    assert entries() == []


def test_store_that_is_being_built_is_not_deleted(root: Path) -> None:
    folder = open_store(Dataset.from_folder(root), SPEC).folder
    with hold(folder.with_suffix(".lock")):
        deleted, left = prune(older_than=0)
    assert (deleted, [entry.folder for entry in left]) == ([], [folder])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "'older_than' or 'keys' must be given"),
        ({"older_than": -1}, "'older_than' must be a number of days of at least 0, got -1"),
        ({"keys": ["zz"]}, "'keys' must each mean one store, got 'zz' for 0"),
    ],
)
def test_wrong_choices_of_stores_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prune(**options)
