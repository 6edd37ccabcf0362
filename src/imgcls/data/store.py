"""Every image decoded once into one memory-mapped array, shared by epochs, folds, trials and processes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import DataError, DecodeError
from imgcls.core.folders import cache_folder, hold, read_json, whole, write_json
from imgcls.core.progress import progress
from imgcls.data.dataset import Dataset
from imgcls.data.readers import places
from imgcls.data.spec import ImageSpec

__all__ = ["Store", "open_store"]

#: Part of every key: raised when decoding or fitting changes, so that old stores are not used.
_VERSION = 1


@attrs.frozen(kw_only=True, eq=False)
class Store:
    """The decoded images of a set.

    Attributes:
        images: Pixels (N, height, width, channels), uint8, read from disk as needed.
        spec: The form they were brought to.
        folder: Where they lie.
    """

    images: NDArray[np.uint8]
    spec: ImageSpec
    folder: Path


def open_store(dataset: Dataset, spec: ImageSpec, *, folder: Path | None = None) -> Store:
    """Open the decoded images of a set; the first call decodes them in parallel threads.

    A store is known by the set's fingerprint, the files' times of change and the spec, so
    a changed file makes a new one. Two processes that want the same store build it once.

    Args:
        dataset: The set.
        spec: The form of the images; mean and std do not matter here.
        folder: Where stores are kept; default is `store` in the cache folder.

    Returns:
        The store.

    Raises:
        DecodeError: if images cannot be read; up to ten are named, each with its row in the CSV
            or TSV file, or its position from 0 where the set comes from none.
        DataError: if the disk has no room.
    """
    key = _key(dataset, spec)
    place = (folder or cache_folder() / "store") / key
    with hold(place.with_suffix(".lock")):
        if not (place / "store.json").exists():
            _build(dataset, spec, place)
    facts = read_json(place / "store.json")
    # Copy-on-write: torch wants memory that may be written; nobody writes, so it stays on disk.
    images = np.load(place / "images.npy", mmap_mode="c", allow_pickle=False)
    if list(images.shape) != facts["shape"]:
        raise DataError(f"store {str(place)!r} must have shape {facts['shape']}, got {images.shape}; delete it")
    return Store(images=images, spec=spec, folder=place)


def _key(dataset: Dataset, spec: ImageSpec) -> str:
    digest = hashlib.sha256(json.dumps([_VERSION, dataset.fingerprint, spec.pixels]).encode())
    if dataset.arrays is None:
        digest.update(dataset.files[1].tobytes())
    return digest.hexdigest()[:32]


def _build(dataset: Dataset, spec: ImageSpec, place: Path) -> None:
    shape = (len(dataset), *spec.size, spec.channels)
    _refuse_full_disk(place.parent, int(np.prod(shape)))
    with whole(place) as temporary:
        temporary.mkdir()
        images = np.lib.format.open_memmap(temporary / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
        failures = list(_fill(images, dataset, spec))
        if failures:
            raise _unreadable(failures, dataset)
        images.flush()
        facts: dict[str, Any] = {"version": _VERSION, "shape": list(shape), "spec": spec.pixels}
        write_json(temporary / "store.json", facts | {"fingerprint": dataset.fingerprint})


def _refuse_full_disk(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > 0.9 * free:
        raise DataError(
            f"the disk of {str(folder)!r} must have {needed / 2**30:.1f} GiB free for the decoded images, got "
            f"{free / 2**30:.1f}; set IMGCLS_CACHE to another disk or choose a smaller image size"
        )


def _fill(images: NDArray[np.uint8], dataset: Dataset, spec: ImageSpec) -> Iterator[tuple[int, str]]:
    def work(position: int) -> tuple[int, str] | None:
        try:
            images[position] = dataset.pixels(position, spec)
        except DecodeError as error:
            return position, str(error)
        return None

    # Decoding releases the interpreter's lock, so threads share the work.
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress("Decoding", len(dataset)) as advance:
        for failure in pool.map(work, range(len(dataset))):
            advance(1, "")
            if failure is not None:
                yield failure


def _unreadable(failures: list[tuple[int, str]], dataset: Dataset) -> DecodeError:
    shown = "\n".join(f"  {places([position], dataset.rows)}: {text}" for position, text in failures[:10])
    more = f"\n  and {len(failures) - 10} more" if len(failures) > 10 else ""
    got = f"got {len(failures)} of {len(dataset)} that are not"
    return DecodeError(f"all images must be readable, {got}:\n{shown}{more}")
