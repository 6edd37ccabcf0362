"""Sets of images that are in memory, or that something else holds."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgcls.core.errors import DataError, listing
from imgcls.data import labels as labelling
from imgcls.data.files import places
from imgcls.data.images import from_pillow
from imgcls.data.records import SPLITS, Records, refuse_gaps, with_splits

__all__ = ["Items", "Pixels", "chosen", "digest", "from_arrays", "joined", "label_array", "npz_parts"]

#: What a pixel may be; other numbers have no agreed range.
_TYPES = (np.uint8, np.uint16)


@final
class Items:
    """Images of several shapes, or images that are decoded when they are asked for.

    Args:
        get: Gives the image of a number: (height, width) or (height, width, 1 or 3), uint8 or uint16.
        numbers: The numbers of the N images.
        known: A checksum of all of them where the source has one; else their pixels are read for it.
    """

    def __init__(
        self, get: Callable[[int], NDArray[Any]], numbers: NDArray[np.int64], *, known: str | None = None
    ) -> None:
        self._get, self._numbers, self._known = get, numbers, known

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, position: int) -> NDArray[Any]:
        return self._get(int(self._numbers[position]))

    def take(self, positions: NDArray[np.int64]) -> Items:
        """Choose some images.

        Args:
            positions: Positions (M,).

        Returns:
            These.
        """
        return Items(self._get, self._numbers[positions], known=self._known)

    def digest(self) -> bytes:
        """Compute a checksum of the images.

        Returns:
            The checksum.
        """
        total = hashlib.sha256(self._numbers.tobytes())
        if self._known is not None:
            total.update(self._known.encode())
            return total.digest()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for part in pool.map(self._digest_of, range(len(self))):
                total.update(part)
        return total.digest()

    # One that cannot be read is an error where it is needed, and may be left out there.
    def _digest_of(self, position: int) -> bytes:
        try:
            return _image_digest(self[position])
        except Exception:
            return b"unreadable"

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[position] for position in range(len(self)))


#: Images in memory: (N, height, width[, 1 or 3]), uint8 or uint16, or one by one.
Pixels = NDArray[Any] | Items


def _image_digest(image: NDArray[Any]) -> bytes:
    return hashlib.sha256(repr((image.shape, str(image.dtype))).encode() + np.ascontiguousarray(image).data).digest()


def chosen(arrays: Pixels, positions: NDArray[np.int64]) -> Pixels:
    """Choose some images.

    Args:
        arrays: The images.
        positions: Positions (M,).

    Returns:
        These.
    """
    return arrays.take(positions) if isinstance(arrays, Items) else arrays[positions]


def joined(parts: Sequence[Pixels]) -> Pixels:
    """Put the images of several sets behind each other.

    Args:
        parts: The images of each set.

    Returns:
        All images.
    """
    arrays = [part for part in parts if not isinstance(part, Items)]
    if len(arrays) == len(parts) and len({(part.shape[1:], part.dtype) for part in arrays}) == 1:
        return np.concatenate(arrays)
    ends = np.cumsum([len(part) for part in parts])

    def get(number: int) -> NDArray[Any]:
        part = int(np.searchsorted(ends, number, side="right"))
        return parts[part][number - (int(ends[part - 1]) if part else 0)]

    return Items(get, np.arange(ends[-1]))


def digest(arrays: Pixels) -> bytes:
    """Compute what a fingerprint says of images in memory.

    Args:
        arrays: The images.

    Returns:
        Shape and pixels of an array, a checksum of others.
    """
    if isinstance(arrays, Items):
        return arrays.digest()
    kind = "" if arrays.dtype == np.uint8 else str(arrays.dtype)
    return (repr(arrays.shape) + kind).encode() + np.ascontiguousarray(arrays).tobytes()


def from_arrays(
    arrays: Any,
    labels: ArrayLike,
    *,
    groups: ArrayLike | None,
    splits: ArrayLike | None,
    weights: ArrayLike | None,
    classes: Sequence[str] | None,
) -> Records:
    """Make the records of images in memory.

    Args:
        arrays: Images (N, height, width[, 1 or 3]), uint8 or uint16; or a list of images of several shapes.
        labels: Labels (N,), or 0 and 1 of K classes (N, K).
        groups: Groups (N,), or None.
        splits: Splits (N,), or None.
        weights: Weights (N,), or None.
        classes: The classes, or None.

    Returns:
        The records; ids are positions with leading zeros.

    Raises:
        DataError: if a shape, a type or a length does not fit.
    """
    import pandas as pd

    pixels = arrays if isinstance(arrays, Items) else _pixels(arrays)
    given, count = np.asarray(labels), len(pixels)
    several = given.ndim == 2
    columns: dict[str, NDArray[Any]] = {"label": _several(given, classes) if several else _names(given, classes)}
    optional = {"group": groups, "split": splits, "weight": weights}
    columns |= {role: _texts(np.asarray(values)) for role, values in optional.items() if values is not None}
    for role, values in columns.items():
        if values.shape != (count,):
            raise DataError(f"'{role}s' must have shape ({count},) like the images, got {values.shape}")
    weight = columns.pop("weight", None)
    found = {role: labelling.words(pd.Series(values, name=role)) for role, values in columns.items()}
    for role, texts in found.items():
        if not (several and role == "label"):
            refuse_gaps(texts, role, role)
    frame = pd.DataFrame({"id": [f"{number:06d}" for number in range(count)], **found})
    if weight is not None:
        frame["weight"] = _weights(weight)
    return Records(frame=with_splits(frame), multilabel=several, arrays=pixels)


def _pixels(arrays: Any) -> Pixels:
    if isinstance(arrays, list | tuple):
        images = list(map(_array, arrays))
        if len({(image.shape, image.dtype) for image in images}) > 1:
            return _ragged(images)
        arrays = images
    found = np.asarray(arrays)
    good = found.ndim == 3 or (found.ndim == 4 and found.shape[-1] in {1, 3})
    if not good or 0 in found.shape:
        raise DataError(f"'arrays' must have shape (N, height, width[, 1 or 3]), got {found.shape}")
    _refuse_type(found)
    _refuse_tiny(found.shape[1:3])
    return found


# Pillow gives an array of the numbers of colours for an image with a palette.
def _array(image: Any) -> NDArray[Any]:
    if not type(image).__module__.startswith("PIL."):
        return np.asarray(image)
    from PIL import ImageOps

    return from_pillow(ImageOps.exif_transpose(image))


def _ragged(images: Sequence[NDArray[Any]]) -> Items:
    for image in images:
        if image.ndim not in {2, 3} or 0 in image.shape or (image.ndim == 3 and image.shape[-1] not in {1, 3}):
            raise DataError(f"'arrays' must be images (height, width[, 1 or 3]), got {image.shape}")
        _refuse_type(image)
        _refuse_tiny(image.shape[:2])
    return Items(images.__getitem__, np.arange(len(images)))


def _refuse_tiny(sides: tuple[int, ...]) -> None:
    if min(sides) < 2:
        raise DataError(
            f"'arrays' must be images of at least 2 x 2 pixels, got {sides[0]} x {sides[1]}; leave them out"
        )


def _refuse_type(found: NDArray[Any]) -> None:
    if found.dtype not in _TYPES:
        raise DataError(f"'arrays' must be uint8 or uint16, got {found.dtype}; scale the images to 0..255 first")


def _weights(values: NDArray[Any]) -> NDArray[np.float64]:
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError):
        numbers = np.full(len(values), np.nan)
    odd = np.flatnonzero(~np.isfinite(numbers) | (numbers < 0))
    if len(odd):
        raise DataError(f"'weights' must hold numbers from 0 on, got {values.tolist()[odd[0]]!r} in record {odd[0]}")
    return numbers


def _several(labels: NDArray[Any], classes: Sequence[str] | None) -> NDArray[np.object_]:
    import pandas as pd

    names = list(classes or ())
    if len(set(names)) < len(names):
        raise DataError(f"'classes' must name each class once, got {names!r}")
    if len(names) != labels.shape[1]:
        raise DataError(f"'classes' must name the {labels.shape[1]} columns of 'labels', got {len(names)} names")
    table = pd.DataFrame(labels, columns=names)
    return labelling.one_hot_text(table, lambda positions: places(positions, None))


def label_array(labels: Any) -> NDArray[Any]:
    """Take labels as an array.

    Args:
        labels: Labels (N,), or 0 and 1 of K classes (N, K).

    Returns:
        The array; one column (N, 1), as MedMNIST has it, is (N,).

    Raises:
        DataError: if the records have lists of several lengths.
    """
    try:
        found = _texts(np.asarray(labels))
    except ValueError:
        raise DataError(
            "'labels' must be one a record, or 0 and 1 of each class, got lists of several lengths"
        ) from None
    return found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found


# Text of other languages and libraries comes as bytes.
def _texts(values: NDArray[Any]) -> NDArray[Any]:
    return np.char.decode(values, "utf-8", "backslashreplace") if values.dtype.kind == "S" else values


def _names(labels: NDArray[Any], classes: Sequence[str] | None) -> NDArray[Any]:
    if labels.dtype.kind == "f":
        odd = [str(value) for value in np.unique(labels) if not float(value).is_integer()]
        if odd:
            raise DataError(
                f"'labels' must hold words or whole numbers, got {listing(odd, limit=3)}; if it is a measurement, make "
                "classes of it first"
            )
    if classes is None or labels.dtype.kind not in "iu" or set(map(str, np.unique(labels))) <= set(classes):
        return labels
    if labels.size and (labels.min() < 0 or labels.max() >= len(classes)):
        raise DataError(f"'labels' must index the {len(classes)} classes, got {labels.min()} to {labels.max()}")
    return np.asarray(classes, dtype=object)[labels]


def npz_parts(path: Path) -> Mapping[str, Any]:
    """Read images, labels and splits from an npz file.

    Args:
        path: A file as MedMNIST has it, `train_images`, `train_labels` and so on for `val` and
            `test`; or with `images`, `labels` and, if wanted, `groups`, `splits` and `weights`.

    Returns:
        The arguments of `from_arrays`.

    Raises:
        DataError: if the file is missing or holds something else.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
    except OSError:
        raise DataError(f"'path' must name an existing file, got {str(path)!r}") from None
    except Exception as error:  # a damaged archive makes numpy and zipfile fail in any way
        raise DataError(f"'path' must name an npz file without objects, got {str(path)!r}; {error}") from None
    splits = [split for split in SPLITS if f"{split}_images" in content]
    if splits:
        return _official(content, splits, path)
    if not {"images", "labels"} <= content.keys():
        raise DataError(
            f"'path' must hold 'images' and 'labels', or 'train_images' and so on, got {listing(content)} "
            f"in {str(path)!r}"
        )
    known = {"groups", "splits", "weights"}
    rest = {name: content[name] for name in sorted(known & content.keys())}
    return {"arrays": content["images"], "labels": content["labels"], **rest}


def _official(content: Mapping[str, NDArray[Any]], splits: Sequence[str], path: Path) -> Mapping[str, Any]:
    missing = [f"{split}_labels" for split in splits if f"{split}_labels" not in content]
    if missing:
        raise DataError(f"'path' must hold labels of all images, got no {listing(missing)} in {str(path)!r}")
    images = [content[f"{split}_images"] for split in splits]
    found = [label_array(content[f"{split}_labels"]) for split in splits]
    for split, part, given in zip(splits, images, found, strict=True):
        _refuse_unlike(split, (part, given), (images[0], found[0]))
    names = [np.full(len(part), split) for split, part in zip(splits, images, strict=True)]
    return {"arrays": np.concatenate(images), "labels": np.concatenate(found), "splits": np.concatenate(names)}


def _refuse_unlike(split: str, part: tuple[NDArray[Any], NDArray[Any]], first: tuple[NDArray[Any], ...]) -> None:
    images, labels = part
    if len(np.atleast_1d(images)) != len(np.atleast_1d(labels)):
        got = f"{images.shape} and {labels.shape}"
        raise DataError(f"'{split}_labels' must be as many as '{split}_images', got {got}")
    for name, array, other in (("images", images, first[0]), ("labels", labels, first[1])):
        if (array.shape[1:], array.dtype.kind) != (other.shape[1:], other.dtype.kind):
            got = f"{array.dtype} {array.shape} and {other.dtype} {other.shape}"
            raise DataError(f"'{split}_{name}' must be like those of the other splits, got {got}")
