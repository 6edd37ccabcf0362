"""Datasets of torchvision and Hugging Face, taken by what they offer; neither library is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import DataError, DecodeError, ImgclsError, listing
from imgcls.data import arguments, files, joining
from imgcls.data import labels as labelling
from imgcls.data.headers import check_size
from imgcls.data.memory import Items, chosen
from imgcls.data.naming import text
from imgcls.data.records import Records, other_names, refuse_gaps, with_files, with_splits

__all__ = ["Foreign", "take_over", "together"]


@attrs.frozen(kw_only=True, eq=False)
class Foreign:
    """What another library's dataset holds.

    Attributes:
        records: The records.
        root: The folder of the files, or None.
        classes: The classes in their order, or None where it does not name them.
    """

    records: Records
    root: Path | None
    classes: list[str] | None


def take_over(dataset: Any, *, image: str | None, label: str | None, group: str | None) -> Foreign:
    """Take the records of a dataset.

    Args:
        dataset: A Hugging Face dataset, a torchvision dataset, or anything of a length whose
            items are pairs of image and label.
        image: The column of images, for Hugging Face; None takes the only one of images.
        label: The column of labels, for Hugging Face; None takes the only one of class labels.
        group: The column of groups, for Hugging Face, or None.

    Returns:
        What it holds. Files of an `ImageFolder` are read by imgcls; other images are taken
        from the dataset whenever they are needed.

    Raises:
        DataError: if it is no such dataset, or changes its images on the way.
    """
    if hasattr(dataset, "features") and hasattr(dataset, "column_names"):
        return _hugging_face(dataset, image, label, group)
    if image is not None or label is not None or group is not None:
        raise DataError("'image', 'label' and 'group' must be left out unless 'dataset' has columns")
    _refuse_transforms(dataset)
    if hasattr(dataset, "dataset") and hasattr(dataset, "indices"):  # a part of another, as random_split makes them
        return _part(take_over(dataset.dataset, image=None, label=None, group=None), dataset.indices)
    if hasattr(dataset, "samples") and hasattr(dataset, "root"):
        return _folder(dataset)
    return _pairs(dataset)


def _refuse_transforms(dataset: Any) -> None:
    for name in ("transform", "transforms", "target_transform"):
        if getattr(dataset, name, None) is not None:
            raise _changed(f"one with {name!r}; make it without")
    for part in getattr(dataset, "datasets", ()):  # one behind the other
        _refuse_transforms(part)


def _changed(got: str) -> DataError:
    reason = "since imgcls sizes, normalises and augments by itself"
    return DataError(f"'dataset' must give images as they are, got {got}, {reason}")


def _part(whole: Foreign, indices: Sequence[int]) -> Foreign:
    records = whole.records
    positions = arguments.positions(np.asarray(indices), len(records.frame))
    part = attrs.evolve(
        records,
        frame=records.frame.iloc[positions].reset_index(drop=True),
        sizes=None if records.sizes is None else records.sizes[:, positions],
        arrays=None if records.arrays is None else chosen(records.arrays, positions),
    )
    return attrs.evolve(whole, records=part)


def together(parts: Mapping[str, Foreign]) -> Foreign:
    """Make one set of the parts of a dataset.

    Args:
        parts: What each part holds, by `train`, `val` or `test`.

    Returns:
        All records, with their splits.

    Raises:
        DataError: if a name is no split, or the parts do not fit together.
    """
    if not parts:
        raise DataError("'dataset' must have parts, got none")
    split = [attrs.evolve(part.records, frame=part.records.frame.assign(split=name)) for name, part in parts.items()]
    records, root = joining.together(split, [part.root for part in parts.values()])
    classes = [name for part in parts.values() for name in part.classes or ()]
    named = list(dict.fromkeys(classes)) if all(part.classes is not None for part in parts.values()) else None
    return Foreign(records=attrs.evolve(records, frame=with_splits(records.frame)), root=root, classes=named)


def _folder(dataset: Any) -> Foreign:
    import pandas as pd

    root, classes = Path(dataset.root), list(map(text, dataset.classes))
    outside = [path for path, _ in dataset.samples if not Path(path).is_relative_to(root)]
    if outside:
        raise DataError(f"files of 'dataset' must lie below its root {str(root)!r}, got {listing(outside, limit=3)}")
    ids = [Path(path).relative_to(root).as_posix() for path, _ in dataset.samples]
    files.refuse_paths(ids, None)
    names = [classes[index] for _, index in dataset.samples]
    frame, sizes = with_files(pd.DataFrame({"id": ids, "label": names}), root, {})
    return Foreign(records=Records(frame=frame, sizes=sizes), root=root, classes=classes)


def _pairs(dataset: Any) -> Foreign:
    import pandas as pd

    try:
        count = len(dataset)
        given = getattr(dataset, "targets", None)
        found = np.asarray([dataset[number][1] for number in range(count)] if given is None else given)
    except (TypeError, ValueError, IndexError, KeyError):
        raise DataError(
            f"'dataset' must have a length and give pairs of image and label, got {type(dataset).__name__}"
        ) from None
    if not count or found.shape != (count,):
        raise DataError(f"'dataset' must have records with one label each, got {count} and labels {found.shape}")
    classes = _names(getattr(dataset, "classes", None), found)
    words = np.asarray(classes, dtype=object)[found] if classes is not None else labelling.words(pd.Series(found))
    refuse_gaps(words, "label", "label")
    labelling.refuse_measurements(words, "label")
    lock = Lock()  # images are wanted by several threads, and few datasets were written for that

    def get(number: int) -> NDArray[Any]:
        with lock:
            return to_array(dataset[number][0])

    return Foreign(records=_in_memory(Items(get, np.arange(count)), words, None), root=None, classes=classes)


# torchvision's names sometimes repeat or do not fit the numbers; then the numbers are the names.
def _names(classes: Any, labels: NDArray[Any]) -> list[str] | None:
    if classes is None or labels.dtype.kind not in "iu" or len(set(classes)) != len(classes):
        return None
    if labels.min() < 0:
        raise _unlabelled(labels.min())
    return list(map(text, classes)) if labels.max() < len(classes) else None


def _unlabelled(label: Any) -> DataError:
    return DataError(f"'label' must be known of every record, got {label}; leave these out")


def _in_memory(
    items: Items,
    words: NDArray[np.object_],
    groups: NDArray[np.object_] | None,
    others: dict[str, list[Any]] | None = None,
) -> Records:
    import pandas as pd

    _refuse_form(items)
    frame = pd.DataFrame({"id": [f"{number:06d}" for number in range(len(items))], "label": words})
    frame = frame if groups is None else frame.assign(group=groups)
    return Records(frame=frame.assign(**(others or {})), arrays=items)


# A wrong form of all images shows at once; a first one that is damaged is named where it is read.
def _refuse_form(items: Items) -> None:
    try:
        items[0]
    except DecodeError:
        return
    except ImgclsError:
        raise
    except Exception:
        return


def _hugging_face(dataset: Any, image: str | None, label: str | None, group: str | None) -> Foreign:
    import pandas as pd

    _refuse_streams(dataset)
    if dataset.format["type"] is not None:  # labels would come as tensors
        dataset = dataset.with_format(None)
    pictures = _column(dataset, "image", image, kind="Image")
    named = _column(dataset, "label", label, kind="ClassLabel")
    names = getattr(dataset.features[named], "names", None)
    classes = None if names is None else list(map(text, names))
    values = pd.Series(list(dataset[named]), name=named)
    words = labelling.words(values) if classes is None else _named(values, classes)
    refuse_gaps(words, "label", named)
    labelling.refuse_measurements(words, "label")
    groups = None
    if group is not None:
        groups = labelling.words(pd.Series(list(dataset[_column(dataset, "group", group, kind="")])))
        refuse_gaps(groups, "group", group)
    known = getattr(dataset, "_fingerprint", None)
    column = dataset.select_columns(pictures)  # else other columns of images were decoded too
    items = Items(lambda number: to_array(column[number][pictures]), np.arange(len(dataset)), known=known)
    others = _others(dataset, {pictures, named, group})
    return Foreign(records=_in_memory(items, words, groups, others), root=None, classes=classes)


# Plain values are kept; pictures, sounds and lists are not read for it.
def _others(dataset: Any, taken: set[str | None]) -> dict[str, list[Any]]:
    rest = [name for name in dataset.column_names if name not in taken]
    plain = [name for name in rest if type(dataset.features[name]).__name__ in {"Value", "ClassLabel"}]
    names = other_names(plain)
    return {names.get(name, name): list(dataset[name]) for name in plain}


def _refuse_streams(dataset: Any) -> None:
    if not hasattr(dataset, "__len__") or not len(dataset):
        raise DataError(f"'dataset' must have records that can be counted, got none in {type(dataset).__name__}")
    if dataset.format["type"] == "custom":
        raise _changed("one with a transform; call reset_format()")


def _named(numbers: Any, classes: Sequence[str]) -> NDArray[np.object_]:
    odd = numbers[numbers.isna() | (numbers < 0)]
    if len(odd):
        raise _unlabelled(odd.iloc[0])
    return np.array(classes, dtype=object)[numbers.to_numpy(dtype=np.int64)]


def _column(dataset: Any, option: str, wanted: str | None, *, kind: str) -> str:
    columns = list(dataset.column_names)
    if wanted is not None:
        if wanted not in columns:
            raise DataError(f"'{option}' must name a column, got {wanted!r}; the dataset has {listing(columns)}")
        return wanted
    fitting = [name for name in columns if type(dataset.features[name]).__name__ == kind]
    if len(fitting) != 1:
        raise DataError(f"'{option}' must name a column, got none and not one of type {kind}: {listing(columns)}")
    return fitting[0]


def to_array(image: Any) -> NDArray[Any]:
    """Turn a picture of another library into pixels.

    Args:
        image: An image of Pillow, an array (height, width[, channels]) or a tensor
            ([channels, ]height, width), uint8 or uint16.

    Returns:
        Pixels (height, width) or (height, width, 1 or 3).

    Raises:
        DataError: if it is something else.
    """
    from PIL import Image, ImageOps

    from imgcls.data import images

    if isinstance(image, Image.Image):
        check_size(*image.size)
        return images.from_pillow(ImageOps.exif_transpose(image))
    found = np.asarray(image)
    if type(image).__module__.split(".")[0] == "torch" and found.ndim == 3 and found.shape[0] in {1, 3}:
        found = found.transpose(1, 2, 0)
    good = found.ndim == 2 or (found.ndim == 3 and found.shape[2] in {1, 3})
    if found.dtype not in {np.dtype(np.uint8), np.dtype(np.uint16)} or not good:
        raise DataError(
            f"'dataset' must give images of uint8 or uint16, got {type(image).__name__} of {found.dtype} {found.shape}"
        )
    check_size(found.shape[1], found.shape[0])
    return found
