"""One look at every image of a set: its facts, the digest of its pixels and a thumbnail."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import ImgclsError
from imgcls.core.progress import progress
from imgcls.data.dataset import Dataset
from imgcls.data.headers import form_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SIDE", "Scan", "each", "eight_bits", "scan"]

Found = TypeVar("Found")

#: What the last bytes of a whole file have in them.
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}

#: So many bytes are looked at; some cameras write notes behind the image.
_TAIL = 2**16

#: Side of the thumbnails in pixels.
SIDE = 64


@attrs.frozen(kw_only=True, eq=False)
class Scan:
    """What one look at every image found.

    Attributes:
        files: A row per record: `id`, `label`, `readable`, `format` (by content; empty for
            images in memory), `width`, `height`, `channels`, `bits` (of a channel), `low`,
            `high`, `mean`, `std` (of the pixel values as stored), `reason` (why it is not readable)
            and `ends` (whether the file has the mark of its end).
        digests: A checksum of shape and upright pixels of each record, (N,); empty where unreadable.
        thumbs: Grey thumbnails (N, 64, 64), uint8, stretched to the square; 0 where unreadable.
    """

    files: pd.DataFrame
    digests: NDArray[np.str_]
    thumbs: NDArray[np.uint8]


@attrs.frozen(kw_only=True)
class _Facts:
    readable: bool = True
    format: str = ""
    width: int | None = None
    height: int | None = None
    channels: int | None = None
    bits: int | None = None
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    std: float | None = None
    reason: str = ""
    ends: bool = True


def scan(dataset: Dataset) -> Scan:
    """Decode every image once, in parallel threads; a bad file is noted and passed over.

    Args:
        dataset: The set.

    Returns:
        What was found.
    """
    thumbs = np.zeros((len(dataset), SIDE, SIDE), np.uint8)

    def work(position: int) -> tuple[_Facts, str]:
        kind, ends = _form(dataset, position)
        try:
            image = dataset.original(position)
        except ImgclsError as error:
            return _Facts(readable=False, format=kind, reason=str(error)), ""
        thumbs[position] = _thumb(image)
        return attrs.evolve(_facts(image, kind), ends=ends), _digest(image)

    facts, digests = zip(*each(range(len(dataset)), work, "Looking at images"), strict=True)
    return Scan(files=_table(dataset, facts), digests=np.array(digests), thumbs=thumbs)


def each(positions: Sequence[int], work: Callable[[int], Found], title: str) -> list[Found]:
    """Do something for each record in parallel threads, with a progress bar.

    Args:
        positions: The records.
        work: What is done for a position.
        title: What the bar says.

    Returns:
        The results in order.
    """
    found = []
    # Decoding releases the interpreter's lock, so threads share the work.
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress(title, len(positions)) as advance:
        for item in pool.map(work, positions):
            found.append(item)
            advance(1)
    return found


def _table(dataset: Dataset, facts: tuple[_Facts, ...]) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame([attrs.asdict(item) for item in facts])
    whole = ["width", "height", "channels", "bits"]
    frame[whole] = frame[whole].astype("Int64")
    numbers = ["low", "high", "mean", "std"]
    frame[numbers] = frame[numbers].astype("float64")
    frame.insert(0, "id", dataset.ids)
    frame.insert(1, "label", dataset.frame["label"].to_numpy())
    return frame


# By content: a name may lie.
def _form(dataset: Dataset, position: int) -> tuple[str, bool]:
    if dataset.root is None:
        return "", True
    path = dataset.path(position)
    try:
        with path.open("rb") as file:
            kind = form_of(file, path.suffix)
            return kind, _ends(file, kind)
    except (OSError, ImgclsError):
        return "", True


# Decoders fill in what an interrupted copy left as zeros without a word.
def _ends(file: BinaryIO, kind: str) -> bool:
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - _TAIL))
    tail = file.read()
    return _ENDS.get(kind, b"") in tail


def _facts(image: NDArray[Any], kind: str) -> _Facts:
    height, width, channels = image.shape
    with np.errstate(invalid="ignore", over="ignore"):  # values that are not finite are a finding
        mean = image.mean(dtype=np.float64)
        std = float(image.std(dtype=np.float32, mean=mean.astype(np.float32)))
    return _Facts(
        format=kind,
        width=width,
        height=height,
        channels=channels,
        bits=8 * image.dtype.itemsize,
        low=float(image.min()),
        high=float(image.max()),
        mean=float(mean),
        std=std,
    )


def _digest(image: NDArray[Any]) -> str:
    digest = hashlib.sha256(repr((image.shape, image.dtype.str)).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def _thumb(image: NDArray[Any]) -> NDArray[np.uint8]:
    from PIL import Image

    pixels = eight_bits(image)
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("L")
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=1.5))


def eight_bits(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Bring deep pixels to 8 bits by stretching their range; fit to look at and to compare, not to measure.

    Args:
        image: Pixels of any shape; uint8 stays as it is.

    Returns:
        Pixels from 0 to 255.

    Examples:
        >>> eight_bits(np.array([0, 500, 1000], np.uint16)).tolist()
        [0, 127, 255]
    """
    if image.dtype == np.uint8:
        return image
    values = np.nan_to_num(image.astype(np.float32), posinf=0, neginf=0)
    span = max(float(np.ptp(values)), 1e-12)
    return ((values - values.min()) * (255 / span)).astype(np.uint8)
