"""The features of frozen layers, computed once and kept on disk for epochs, folds, trials and runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, final

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imgcls.core.errors import DataError
from imgcls.core.folders import hold, whole, write_json
from imgcls.core.progress import progress, say
from imgcls.data.cache import VERSION, check_room, make_folder, store_folder
from imgcls.runtime.batches import Batches

__all__ = ["Features", "features_of"]

#: From pixels (B, H, W, C) and positions (B,) to images or features.
Make = Callable[[Tensor, NDArray[np.int64]], Tensor]

#: Records whose features are computed at a time.
_BLOCK = 64

#: Blocks between two moments at which what is computed is noted, so that a killed process loses little.
_NOTED = 16


@final
@attrs.frozen(kw_only=True, eq=False)
class Features:
    """The features of records, some of which may not be computed yet.

    Attributes:
        folder: Where they lie.
        values: Features (N, F), float32, a file that processes share.
        device: Where they go.
    """

    folder: Path
    values: NDArray[np.float32]
    device: str

    def of(self, positions: NDArray[np.int64]) -> Tensor:
        """Give the features of some records.

        Args:
            positions: Positions (B,), all of them computed.

        Returns:
            Features (B, F), float32, on the device.
        """
        return torch.from_numpy(self.values[positions]).to(self.device)


def features_of(
    body: nn.Module,
    batches: Batches,
    positions: NDArray[np.int64],
    *,
    make: Make | None = None,
    key: str = "",
) -> Features | None:
    """Compute the features of records that are not computed yet.

    They are computed in blocks of neighbours that never change, since the last digits of a feature
    may depend on what else is in its batch.

    Args:
        body: The frozen layers, on the device.
        batches: The images.
        positions: Which records, (N,).
        make: From pixels (B, H, W, C) and positions (B,) to what the layers see; None takes the
            normalised images.
        key: What names `make`.

    Returns:
        The features; None where there is no room for them, or nothing names the images.
    """
    if not batches.source.key:
        return None
    place = store_folder() / _key(body, batches, key)
    make_folder(place.parent)
    with hold(place.with_suffix(".lock")):
        try:
            found, done = _opened(place, body, batches, positions)
        except DataError as error:
            say(f"{error}. The features of frozen layers are computed in every epoch")
            return None
        needed = np.unique(positions // _BLOCK)
        with torch.no_grad(), _evaluating(body):
            _compute(_layers(body, batches, make), batches, needed[~done[needed]], found, done)
    os.utime(place / "store.json")  # when they were used last
    return found


@contextlib.contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    modes = {part: part.training for part in module.modules()}
    try:
        module.eval()
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


# Everything that features depend on: weights and structure of the layers, pixels, normalisation, precision.
def _key(body: nn.Module, batches: Batches, key: str) -> str:
    runtime = batches.runtime
    facts = [VERSION, batches.source.key, batches.spec.statistics, runtime.precision, runtime.device.split(":")[0], key]
    digest = hashlib.sha256(json.dumps([*facts, repr(body)]).encode())
    for name, value in body.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _opened(
    place: Path, body: nn.Module, batches: Batches, positions: NDArray[np.int64]
) -> tuple[Features, NDArray[np.bool_]]:
    if not (place / "store.json").exists():
        count, width = len(batches.source), _width(body, batches, positions)
        check_room(place.parent, 4 * count * width)
        place.mkdir(exist_ok=True)
        for name, kind, shape in (("features", np.float32, (count, width)), ("done", np.bool_, (-(-count // _BLOCK),))):
            memory: Any = np.lib.format.open_memmap(place / f"{name}.npy", mode="w+", dtype=kind, shape=shape)
            memory.flush()
        write_json(place / "store.json", {"version": VERSION, "features": [count, width]})
    values = np.lib.format.open_memmap(place / "features.npy", mode="r+")
    return Features(folder=place, values=values, device=batches.runtime.device), np.load(place / "done.npy")


def _width(body: nn.Module, batches: Batches, positions: NDArray[np.int64]) -> int:
    with torch.no_grad(), _evaluating(body), batches.runtime.autocast():
        return int(body(batches.images(positions[:1])).shape[1])


def _layers(body: nn.Module, batches: Batches, make: Make | None) -> Make:
    def compute(raw: Tensor, part: NDArray[np.int64]) -> Tensor:
        images = batches.ready(raw) if make is None else make(raw, part)
        with batches.runtime.autocast():
            found: Tensor = body(images)
        return found.float().cpu()

    return compute


def _compute(
    layers: Make, batches: Batches, blocks: NDArray[np.int64], found: Features, done: NDArray[np.bool_]
) -> None:
    parts = [_readable(block, batches) for block in blocks.tolist()]
    if not parts:
        return
    with progress("Features of frozen layers", sum(map(len, parts))) as advance:
        for block, part, raw in zip(blocks, parts, batches.source.each(parts), strict=True):
            found.values[part] = layers(raw, part).numpy()
            done[block] = True
            advance(len(part))
            if block == blocks[-1] or block % _NOTED == 0:
                _note(found, done)


def _readable(block: int, batches: Batches) -> NDArray[np.int64]:
    every = np.arange(block * _BLOCK, min((block + 1) * _BLOCK, len(batches.source)))
    return np.setdiff1d(every, list(batches.source.bad))


# Values first: what is marked as done is on disk.
def _note(found: Features, done: NDArray[np.bool_]) -> None:
    memory: Any = found.values
    memory.flush()
    with whole(found.folder / "done.npy") as temporary, temporary.open("wb") as file:
        np.save(file, done)
