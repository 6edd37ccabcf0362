"""The images of a set read one by one, and their tiles written."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import DataError, DecodeError
from imgcls.core.progress import progress
from imgcls.data import grid, images
from imgcls.data.dataset import Dataset
from imgcls.data.files import places
from imgcls.data.tile_rules import Picture, Rules, Tile, plan

__all__ = ["write_tiles"]


def write_tiles(dataset: Dataset, rules: Rules, folder: Path) -> list[list[Tile]]:
    """Cut every image of a set and write the tiles that are kept, in parallel threads.

    Args:
        dataset: The set.
        rules: The rules.
        folder: Where `images` and `masks` shall lie.

    Returns:
        The tiles of each record, those left out among them.

    Raises:
        DataError: if masks do not fit; up to ten records are named, each with its row in the
            CSV or TSV file, or its position from 0 where the set comes from none.
        DecodeError: if there are unreadable files among them.
    """
    stems = _stems(dataset.ids.tolist())

    def work(position: int) -> list[Tile] | DataError:
        try:
            return _write(dataset, rules, position, folder, stems[position])
        except DataError as error:
            return error

    # Decoding and encoding release the interpreter's lock, so threads share the work.
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress("Tiling", len(dataset)) as advance:
        results = []
        for result in pool.map(work, range(len(dataset))):
            advance(1)
            results.append(result)
    failures = [(position, result) for position, result in enumerate(results) if isinstance(result, DataError)]
    if failures:
        raise _unusable(failures, dataset)
    return [result for result in results if not isinstance(result, DataError)]


def _stems(ids: Sequence[str]) -> Sequence[str]:
    stems = [str(PurePosixPath(name).with_suffix("")) for name in ids]
    return stems if len(set(stems)) == len(stems) else ids  # 'a.png' beside 'a.jpg'


def _unusable(failures: Sequence[tuple[int, DataError]], dataset: Dataset) -> DataError:
    kind = DecodeError if any(isinstance(error, DecodeError) for _, error in failures) else DataError
    shown = "\n".join(f"  {places([position], dataset.rows)}: {error}" for position, error in failures[:10])
    more = f"\n  and {len(failures) - 10} more" if len(failures) > 10 else ""
    got = f"got {len(failures)} of {len(dataset)} that are not"
    return kind(f"all images must be fit to be cut, {got}:\n{shown}{more}")


def _write(dataset: Dataset, rules: Rules, position: int, folder: Path, stem: str) -> list[Tile]:
    picture = _read(dataset, position)
    save = functools.partial(_save_tile, rules, picture, folder, stem)
    return [tile if tile.dropped else save(tile) for tile in plan(rules, picture)]


def _read(dataset: Dataset, position: int) -> Picture:
    name, label = (dataset.frame[column].iloc[position] for column in ("id", "label"))
    if dataset.arrays is None and images.header(dataset.path(position)).inverted:
        raise DataError(f"image {name!r} must have bright high values, got an inverted one; convert it first")
    image, mask = dataset.original(position), dataset.original_mask(position)
    if image.dtype.kind == "f" and image.shape[-1] != 1:
        raise DataError(
            f"image {name!r} must have 8 or 16 bits, got colours as {image.dtype}; bring it to 16 bits first"
        )
    return Picture(name=name, label=label, image=image, mask=mask)


def _save_tile(rules: Rules, picture: Picture, folder: Path, stem: str, tile: Tile) -> Tile:
    suffix = ".tif" if picture.image.dtype.kind == "f" else ".png"
    image = f"images/{stem}_{tile.x}_{tile.y}{suffix}"
    _save(grid.cut(picture.image, tile.x, tile.y, rules.size, fill=rules.fill), folder / image)
    if picture.mask is None:
        return attrs.evolve(tile, image=image)
    mask = f"masks/{stem}_{tile.x}_{tile.y}.png"
    _save(grid.cut(picture.mask, tile.x, tile.y, rules.size)[..., None] * np.uint8(255), folder / mask)
    return attrs.evolve(tile, image=image, mask=mask)


def _save(pixels: NDArray[Any], path: Path) -> None:
    import cv2

    # Pillow writes no 16-bit colours. Encoded in memory, since OpenCV takes no path that is not ASCII on some systems.
    _, encoded = cv2.imencode(path.suffix, np.ascontiguousarray(pixels[..., ::-1]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded.tobytes())
