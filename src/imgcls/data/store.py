"""Every image decoded once into one memory-mapped array, shared by epochs, folds, trials and processes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import DataError, DecodeError, RunError
from imgcls.core.folders import hold, read_json, settle, write_json
from imgcls.core.progress import Advance, progress
from imgcls.core.spacing import evenly
from imgcls.data.cache import PARTIAL, VERSION, check_room, in_words, make_folder, store_folder
from imgcls.data.dataset import Dataset
from imgcls.data.files import places
from imgcls.data.spec import ImageSpec

__all__ = ["Store", "find_bad", "is_begun", "open_store", "pixels_key", "store_bytes", "unreadable"]

#: Images between two notes of how far a store is, at most.
_BLOCK = 256

#: Bytes of images that are held in memory until they are written.
_BUFFER = 64 * 2**20

#: Bytes of an image's checksum.
_DIGEST = 16

#: So many images are compared with their checksums whenever a store is opened.
_SAMPLED = 8


@attrs.frozen(kw_only=True, eq=False)
class Store:
    """The decoded images of a set.

    Attributes:
        images: Pixels (N, height, width, channels), uint8 or uint16, read from disk as needed.
        spec: The form they were brought to.
        bad: Why images could not be read, by position; their pixels are zeros.
        folder: Where they lie.
    """

    images: NDArray[Any]
    spec: ImageSpec
    bad: Mapping[int, str]
    folder: Path

    def verify(self, positions: Sequence[int] | None = None) -> list[int]:
        """Compare images with the checksums that were taken when they were decoded.

        Args:
            positions: Which; None compares all.

        Returns:
            The positions of damaged images.
        """
        digests = np.load(self.folder / "digests.npy", allow_pickle=False)
        chosen = range(len(self.images)) if positions is None else positions
        return [p for p in chosen if p not in self.bad and digests[p].tobytes() != _digest(self.images[p])]


def open_store(
    dataset: Dataset,
    spec: ImageSpec,
    *,
    view: str | None = None,
    on_bad: str = "raise",
    workers: int | None = None,
    folder: Path | None = None,
) -> Store:
    """Open the decoded images of a set; the first call decodes them in parallel threads.

    A store is known by the set's fingerprint, the files' times of change and the spec, so
    a changed file makes a new one. Two processes that want the same store build it once, and a
    process that was killed while it built is continued by the next one.

    Args:
        dataset: The set.
        spec: The form of the images; mean and std do not matter here.
        view: Another picture of the records, `mask`, or None for the images.
        on_bad: `raise` for unreadable images, or `skip`, which notes them in `Store.bad`.
        workers: Threads that decode; None takes one a core.
        folder: Where stores are kept; default is `store` in the cache folder.

    Returns:
        The store.

    Raises:
        DecodeError: if images cannot be read and `on_bad` is `raise`; up to ten are named, each
            with its row in the CSV or TSV file, or its position from 0 where the set comes from none.
        DataError: if the disk or the budget has no room, files changed since the set was opened,
            or the store is damaged.
    """
    place = (folder or store_folder()) / pixels_key(dataset, spec, view)
    job = _Job(dataset=dataset, spec=spec, view=view, place=place, workers=workers)
    make_folder(place.parent)
    with hold(place.with_suffix(".lock")):
        if not (place / "store.json").exists():
            _build(job)
        facts = _try_again(job, read_json(place / "store.json"))
    os.utime(place / "store.json")  # when it was used last, for `imgcls cache`
    bad = {int(position): reason for position, reason in facts["bad"].items()}
    if bad and on_bad == "raise":
        raise unreadable(bad, dataset)
    return _checked(Store(images=_mapped(place, facts), spec=spec, bad=bad, folder=place))


@attrs.frozen(kw_only=True, eq=False)
class _Job:
    dataset: Dataset
    spec: ImageSpec
    view: str | None
    place: Path
    workers: int | None

    @property
    def shape(self) -> tuple[int, ...]:
        channels = 1 if self.view == "mask" else self.spec.channels
        return (len(self.dataset), *self.spec.size, channels)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8) if self.view == "mask" else self.spec.dtype

    @property
    def block(self) -> int:
        """Images between two notes of how far the store is; so many are decoded again after a kill."""
        return max(1, min(_BLOCK, _BUFFER // int(np.prod(self.shape[1:]) * self.dtype.itemsize)))

    @property
    def partial(self) -> Path:
        return self.place.with_name(self.place.name + PARTIAL)


def store_bytes(dataset: Dataset, spec: ImageSpec, *, view: str | None = None) -> int:
    """Say how large a store is.

    Args:
        dataset: The set.
        spec: The form of the images.
        view: Another picture of the records, `mask`, or None.

    Returns:
        Bytes.
    """
    job = _Job(dataset=dataset, spec=spec, view=view, place=Path(), workers=None)
    return int(np.prod(job.shape, dtype=np.int64)) * job.dtype.itemsize + len(dataset) * _DIGEST


def is_begun(dataset: Dataset, spec: ImageSpec, *, view: str | None = None, folder: Path | None = None) -> bool:
    """Tell whether a store is there already, or its room is taken and a part of it is.

    Args:
        dataset: The set.
        spec: The form of the images.
        view: Another picture of the records, `mask`, or None.
        folder: Where stores are kept.

    Returns:
        Whether it is.
    """
    place = (folder or store_folder()) / pixels_key(dataset, spec, view)
    return (place / "store.json").exists() or (place.with_name(place.name + PARTIAL) / "progress.json").exists()


def pixels_key(dataset: Dataset, spec: ImageSpec, view: str | None) -> str:
    """Name the decoded pixels of a set.

    Args:
        dataset: The set.
        spec: The form of the images.
        view: Another picture of the records, `mask`, or None for the images.

    Returns:
        Hexadecimal digits, others if anything changed that pixels depend on.
    """
    digest = hashlib.sha256(json.dumps([VERSION, dataset.fingerprint, spec.pixels, view]).encode())
    if dataset.arrays is None:
        digest.update(dataset.times(view).tobytes())
    return digest.hexdigest()[:32]


def _build(job: _Job) -> None:
    note = _begin(job)
    done, bad = int(note["done"]), dict(note["bad"])
    size = in_words(store_bytes(job.dataset, job.spec, view=job.view))
    block = job.block
    with _pool(job) as pool, progress(f"Decoding to {size} on disk", len(job.dataset)) as advance:
        advance(done)
        for start in range(done, len(job.dataset), block):
            positions = range(start, min(start + block, len(job.dataset)))
            bad |= _decode(job, positions, job.partial, pool, advance)
            write_json(job.partial / "progress.json", {"done": positions.stop, "bad": bad})
    write_json(job.partial / "store.json", _facts(job, bad))
    settle(job.partial, job.place)


# What a killed process left is taken over up to its last note.
def _begin(job: _Job) -> dict[str, Any]:
    path = job.partial / "progress.json"
    with contextlib.suppress(RunError):  # none, or a damaged one
        found: dict[str, Any] = read_json(path)
        return found
    shutil.rmtree(job.partial, ignore_errors=True)
    check_room(job.place.parent, store_bytes(job.dataset, job.spec, view=job.view))
    job.partial.mkdir(parents=True, exist_ok=True)
    _reserve(job.partial / "images.npy", job.shape, job.dtype)
    _reserve(job.partial / "digests.npy", (len(job.dataset), _DIGEST), np.dtype(np.uint8))
    start: dict[str, Any] = {"done": 0, "bad": {}}
    write_json(path, start)
    return start


# The space is taken at once, so that a disk cannot become full in between.
def _reserve(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape).flush()
    if sys.platform == "linux":
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


# Decoding releases the interpreter's lock, so threads share the work.
def _pool(job: _Job) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(job.workers or os.cpu_count())


def _decode(job: _Job, positions: range, folder: Path, pool: ThreadPoolExecutor, advance: Advance) -> dict[str, str]:
    images = np.zeros((len(positions), *job.shape[1:]), dtype=job.dtype)
    digests = np.zeros((len(positions), _DIGEST), dtype=np.uint8)

    def work(position: int) -> tuple[str, str] | None:
        row = position - positions.start
        try:
            images[row] = job.dataset.pixels(position, job.spec, view=job.view)
        except DecodeError as error:
            return str(position), str(error)
        digests[row] = np.frombuffer(_digest(images[row]), np.uint8)
        return None

    failures = {}
    for failure in pool.map(work, positions):
        advance(1)
        if failure is not None:
            failures[failure[0]] = failure[1]
    for name, rows in (("images", images), ("digests", digests)):
        _put(folder / f"{name}.npy", positions.start, rows)
    return failures


# As a stream, where a full disk is an error; a write through a map would kill the process.
def _put(path: Path, start: int, rows: NDArray[Any]) -> None:
    header = np.lib.format.open_memmap(path, mode="r").offset
    with path.open("r+b") as file:
        file.seek(header + start * rows[0].nbytes)
        file.write(rows.data)
        file.flush()
        os.fsync(file.fileno())


def _digest(image: NDArray[Any]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=_DIGEST).digest()


def _facts(job: _Job, bad: Mapping[str, str]) -> dict[str, Any]:
    root = None if job.dataset.root is None else str(job.dataset.root.resolve())
    return {
        "version": VERSION,
        "shape": list(job.shape),
        "dtype": str(job.dtype),
        "spec": job.spec.pixels,
        "view": job.view,
        "root": root,
        "fingerprint": job.dataset.fingerprint,
        "bad": dict(bad),
    }


# A disk or network that failed once may work now; a file that was repaired makes another store.
def _try_again(job: _Job, facts: dict[str, Any]) -> dict[str, Any]:
    if not facts["bad"]:
        return facts
    with _pool(job) as pool:
        tries = [_decode(job, range(p, p + 1), job.place, pool, _unseen) for p in map(int, facts["bad"])]
    bad = {position: reason for failures in tries for position, reason in failures.items()}
    if len(bad) < len(facts["bad"]):
        facts = {**facts, "bad": bad}
        write_json(job.place / "store.json", facts)
    return facts


def _unseen(steps: int, note: str = "") -> None:
    """Show no progress."""


def _mapped(place: Path, facts: Mapping[str, Any]) -> NDArray[Any]:
    # Copy-on-write: torch wants memory that may be written; nobody writes, so it stays on disk.
    try:
        images: NDArray[Any] = np.load(place / "images.npy", mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"store {str(place)!r} must be as it was written, got {error}; delete it") from None
    if list(images.shape) != facts["shape"]:
        raise DataError(f"store {str(place)!r} must have shape {facts['shape']}, got {images.shape}; delete it")
    return images


def _checked(store: Store) -> Store:
    count = len(store.images)
    damaged = store.verify(evenly(count, _SAMPLED).tolist())
    if damaged:
        raise DataError(f"store {str(store.folder)!r} must be as it was written, got damaged images; delete it")
    return store


def find_bad(
    dataset: Dataset, spec: ImageSpec, *, view: str | None = None, workers: int | None = None
) -> dict[int, str]:
    """Decode every image once without keeping any, to learn which cannot be read.

    Args:
        dataset: The set.
        spec: The form of the images.
        view: Another picture of the records, or None.
        workers: Threads that decode; None takes one a core.

    Returns:
        The reasons by position.
    """

    def work(position: int) -> tuple[int, str] | None:
        try:
            dataset.pixels(position, spec, view=view)
        except DecodeError as error:
            return position, str(error)
        return None

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool, progress("Checking", len(dataset)) as advance:
        found = {}
        for failure in pool.map(work, range(len(dataset))):
            advance(1)
            if failure is not None:
                found[failure[0]] = failure[1]
    return found


def unreadable(bad: Mapping[int, str], dataset: Dataset) -> DecodeError:
    """Say which images cannot be read.

    Args:
        bad: The reasons by position.
        dataset: The set.

    Returns:
        The error, to be raised; up to ten images are named.
    """
    shown = "\n".join(f"  {places([position], dataset.rows)}: {text}" for position, text in list(bad.items())[:10])
    more = f"\n  and {len(bad) - 10} more" if len(bad) > 10 else ""
    got = f"got {len(bad)} of {len(dataset)} that are not"
    return DecodeError(f"all images must be readable, {got}:\n{shown}{more}")
