"""Where batches get their pixels: the decoded store, or files decoded on the way where it does not fit."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, final

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imgcls.core.errors import DataError
from imgcls.core.progress import say
from imgcls.data.cache import free_room, in_words, store_folder
from imgcls.data.dataset import Dataset
from imgcls.data.spec import ImageSpec
from imgcls.data.store import Store, find_bad, is_begun, open_store, pixels_key, store_bytes, unreadable

__all__ = ["MODES", "Resident", "Source", "Streamed", "open_source", "resolved", "statistics"]

#: How a source may be chosen.
MODES = ("auto", "disk", "stream")

#: Batches that are decoded while the network works on another one.
_AHEAD = 2

#: Images whose sums are taken at a time.
_SUMMED = 64


class Source(Protocol):
    """Gives the pixels of records."""

    @property
    def spec(self) -> ImageSpec:
        """The form of the images."""

    @property
    def bad(self) -> Mapping[int, str]:
        """Why images could not be read, by position."""

    @property
    def key(self) -> str:
        """What names the pixels; empty where nothing does."""

    def __len__(self) -> int:
        """Count the records of the set."""

    def pixels(self, positions: NDArray[np.int64]) -> Tensor:
        """Give the pixels (B, H, W, C) of some records."""

    def each(self, parts: Iterable[NDArray[np.int64]]) -> Iterator[Tensor]:
        """Give the pixels of one part after the other."""

    def to(self, device: str) -> Source:
        """Move what fits to a device."""


@final
@attrs.frozen(kw_only=True, eq=False)
class Resident:
    """A decoded store.

    Attributes:
        images: All images (N, H, W, C), uint8 or uint16; on the CPU a view of the file.
        spec: Their form.
        bad: Why images could not be read, by position.
        key: What names the pixels; empty where nothing does.
    """

    images: Tensor
    spec: ImageSpec
    bad: Mapping[int, str]
    key: str = ""

    @classmethod
    def over(cls, store: Store) -> Resident:
        """Take the images of a store.

        Args:
            store: The store.

        Returns:
            The source, on the CPU.
        """
        return cls(images=torch.from_numpy(store.images), spec=store.spec, bad=store.bad, key=store.folder.name)

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, positions: NDArray[np.int64]) -> Tensor:
        """Copy the pixels of some records.

        Args:
            positions: Positions (B,).

        Returns:
            Pixels (B, H, W, C).
        """
        return self.images.index_select(0, torch.from_numpy(positions).to(self.images.device))

    def each(self, parts: Iterable[NDArray[np.int64]]) -> Iterator[Tensor]:
        """Copy the pixels of one part after the other.

        Args:
            parts: Positions (B,) of each.

        Yields:
            Pixels (B, H, W, C).
        """
        for part in parts:
            yield self.pixels(part)

    def to(self, device: str) -> Resident:
        """Move the whole store to a GPU that has room for it.

        Args:
            device: The device.

        Returns:
            The source.
        """
        size = self.images.numel() * self.images.element_size()
        if device.startswith("cuda") and size < 0.3 * torch.cuda.mem_get_info(device)[0]:
            return attrs.evolve(self, images=self.images.to(device))
        return self


@final
@attrs.frozen(kw_only=True, eq=False)
class Streamed:
    """Files that are decoded whenever they are needed, some batches ahead, by threads.

    Attributes:
        dataset: The set.
        spec: The form of the images.
        view: Another picture of the records, or None.
        workers: How many threads decode.
        bad: Why images cannot be read, by position.
        key: What names the pixels.
    """

    dataset: Dataset
    spec: ImageSpec
    view: str | None
    workers: int
    bad: Mapping[int, str]
    key: str = ""

    def __len__(self) -> int:
        return len(self.dataset)

    def pixels(self, positions: NDArray[np.int64]) -> Tensor:
        """Decode some records.

        Args:
            positions: Positions (B,).

        Returns:
            Pixels (B, H, W, C).
        """
        return next(self.each([positions]))

    def each(self, parts: Iterable[NDArray[np.int64]]) -> Iterator[Tensor]:
        """Decode one part after the other, some ahead of the one that is asked for.

        Args:
            parts: Positions (B,) of each.

        Yields:
            Pixels (B, H, W, C).
        """
        waiting: deque[list[Future[NDArray[Any]]]] = deque()
        with ThreadPoolExecutor(self.workers) as pool:
            for part in parts:
                waiting.append([pool.submit(self._decode, position) for position in part.tolist()])
                if len(waiting) > _AHEAD:
                    yield self._together(waiting.popleft())
            while waiting:
                yield self._together(waiting.popleft())

    def _decode(self, position: int) -> NDArray[Any]:
        return self.dataset.pixels(position, self.spec, view=self.view)

    def _together(self, images: list[Future[NDArray[Any]]]) -> Tensor:
        if not images:  # as in the share of a process that has nothing of a small batch
            return torch.from_numpy(np.empty((0, *self.spec.size, self.spec.channels), dtype=self.spec.dtype))
        return torch.from_numpy(np.stack([image.result() for image in images]))

    def to(self, device: str) -> Streamed:
        """Stay as it is; there is nothing to move.

        Args:
            device: The device.

        Returns:
            The source.
        """
        del device
        return self


def open_source(
    dataset: Dataset,
    spec: ImageSpec,
    *,
    view: str | None = None,
    mode: str = "auto",
    on_bad: str = "raise",
    workers: int | None = None,
) -> Source:
    """Open the images of a set.

    Args:
        dataset: The set.
        spec: Their form.
        view: Another picture of the records, or None.
        mode: `disk` decodes each image once into a store; `stream` decodes it whenever it is
            needed; `auto` takes the store where disk and budget have room for it.
        on_bad: `raise` for unreadable images, or `skip`, which notes them in `bad`.
        workers: Threads that decode; None takes one a core.

    Returns:
        The source.

    Raises:
        DecodeError: if images cannot be read and `on_bad` is `raise`. Streamed images are tried
            before only where unreadable ones are to be skipped.
        DataError: if there must be a store and there is no room for it.
    """
    source: Source
    if mode == "disk" or (mode == "auto" and _fits(dataset, spec, view)):
        source = Resident.over(open_store(dataset, spec, view=view, on_bad=on_bad, workers=workers))
    else:
        bad = find_bad(dataset, spec, view=view, workers=workers) if on_bad == "skip" else {}
        threads, key = workers or os.cpu_count() or 1, pixels_key(dataset, spec, view)
        source = Streamed(dataset=dataset, spec=spec, view=view, workers=threads, bad=bad, key=key)
    if len(source.bad) == len(dataset):  # none is left to train on
        raise unreadable(source.bad, dataset)
    return source


def _fits(dataset: Dataset, spec: ImageSpec, view: str | None) -> bool:
    needed = store_bytes(dataset, spec, view=view)
    try:
        free = free_room(store_folder())
    except DataError as error:
        say(f"{error}. Images are decoded anew in every epoch")
        return False
    if needed <= free or is_begun(dataset, spec, view=view):
        return True
    say(
        f"The decoded images need {in_words(needed)} and there is room for {in_words(free)}; they are decoded anew in "
        "every epoch"
    )
    return False


def statistics(source: Source, positions: NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute mean and standard deviation of each channel over all pixels of some records.

    Args:
        source: The images.
        positions: The records, (N,).

    Returns:
        Mean and deviation (C,), in units of 0 to 1.
    """
    channels = source.spec.channels
    total, squares, count = np.zeros(channels), np.zeros(channels), 0
    parts = [positions[start : start + _SUMMED] for start in range(0, len(positions), _SUMMED)]
    for raw in source.each(parts):
        values = raw.reshape(-1, channels).double()
        total += values.sum(dim=0).cpu().numpy()
        squares += values.square().sum(dim=0).cpu().numpy()
        count += len(values)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    levels = source.spec.levels
    # A channel without any contrast is left as it is, as if its deviation were one.
    deviation = np.where(std > 0, std / levels, 1.0)
    return tuple((mean / levels).tolist()), tuple(deviation.tolist())


def resolved(spec: ImageSpec, source: Source, positions: NDArray[np.int64]) -> ImageSpec:
    """Put numbers in the place of the words of a spec's mean and standard deviation.

    Args:
        spec: The spec.
        source: The images.
        positions: The training records, (N,), by which `dataset` is measured.

    Returns:
        The spec with numbers.
    """
    mean, std = spec.statistics or statistics(source, positions)
    return attrs.evolve(spec, mean=mean, std=std)
