"""Files that cannot be read or look unlike the rest of their set.

Rules are few and coarse on purpose: a list of findings that nobody reads finds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgcls.data.check.problems import Problem

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["file_problems"]

_EXTENSIONS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".dcm": "DICOM",
    ".dicom": "DICOM",
}

#: Images with a shorter side, in pixels, hold next to nothing.
_SMALLEST = 8

#: The standard deviation of 8-bit pixels below which an image shows nothing.
_FLAT = 2.0

#: The mean of 8-bit pixels, from 0 and from 255, at which an image is all dark or all bright.
_EXTREME = 8.0

#: Robust deviations beyond which a size is far from the rest.
_FAR = 5.0


def file_problems(files: pd.DataFrame) -> Iterator[Problem]:
    """Judge the files of a set one by one and against each other.

    Args:
        files: The table of a `Scan`.

    Yields:
        The findings.
    """
    for row in files[~files["readable"]].itertuples():
        yield Problem(severity="error", kind="unreadable", id=str(row.id), detail=str(row.reason))
    yield from _not_finite(files)
    yield from _without_end(files)
    good = files[files["readable"] & np.isfinite(files["low"]) & np.isfinite(files["high"])]
    yield from _wrong_extension(files)
    yield from _same_stem(files)
    if len(good):
        yield from _tiny(good)
        yield from _empty(good)
        yield from _exposure(good)
        yield from _odd_size(good)
        yield from _mixed(good)


def _not_finite(files: pd.DataFrame) -> Iterator[Problem]:
    odd = files["readable"] & ~(np.isfinite(files["low"]) & np.isfinite(files["high"]))
    for name in files["id"][odd]:
        yield Problem(severity="error", kind="not finite", id=str(name), detail="has NaN or infinity for a pixel")


def _without_end(files: pd.DataFrame) -> Iterator[Problem]:
    for name in files["id"][files["readable"] & ~files["ends"]]:
        detail = "has no mark of its end; it may be half written, the rest of the picture filled in"
        yield Problem(severity="warning", kind="no end", id=str(name), detail=detail)


def _wrong_extension(files: pd.DataFrame) -> Iterator[Problem]:
    for name, kind in zip(files["id"], files["format"], strict=True):
        ending = PurePosixPath(name).suffix.lower()
        if kind and _EXTENSIONS.get(ending, kind) != kind:
            yield Problem(severity="warning", kind="extension", id=name, detail=f"is a {kind} file by its content")


def _same_stem(files: pd.DataFrame) -> Iterator[Problem]:
    first: dict[PurePosixPath, str] = {}
    for name in files["id"][files["format"] != ""]:
        other = first.setdefault(PurePosixPath(name).with_suffix(""), name)
        if other != name:
            detail = "the same name with another extension; one may be a mask or a copy"
            yield Problem(severity="warning", kind="same stem", id=name, other=other, detail=detail)


def _tiny(good: pd.DataFrame) -> Iterator[Problem]:
    for row in good[good[["width", "height"]].min(axis=1) < _SMALLEST].itertuples():
        yield Problem(severity="warning", kind="tiny", id=str(row.id), detail=f"{row.width} x {row.height} pixels")


def _empty(good: pd.DataFrame) -> Iterator[Problem]:
    for row in good[good["low"] == good["high"]].itertuples():
        detail = f"every pixel is {row.low:g}"
        yield Problem(severity="warning", kind="constant", id=str(row.id), detail=detail)
    flat = (good["bits"] == 8) & (good["std"] < _FLAT) & (good["low"] < good["high"])
    for row in good[flat].itertuples():
        detail = f"pixel values vary by a standard deviation of {row.std:.2f} only"
        yield Problem(severity="warning", kind="nearly constant", id=str(row.id), detail=detail)


# Compared with the set too: where most images are dark, dark is no finding. Deep images have no common range.
def _exposure(good: pd.DataFrame) -> Iterator[Problem]:
    seen = good[(good["bits"] == 8) & (good["low"] < good["high"])]
    usual = seen["mean"].median()
    for row in seen[(seen["mean"] < _EXTREME) & (usual > 4 * _EXTREME)].itertuples():
        yield Problem(severity="warning", kind="dark", id=str(row.id), detail=f"mean {row.mean:.1f} of 255")
    for row in seen[(seen["mean"] > 255 - _EXTREME) & (usual < 255 - 4 * _EXTREME)].itertuples():
        yield Problem(severity="warning", kind="bright", id=str(row.id), detail=f"mean {row.mean:.1f} of 255")


def _odd_size(good: pd.DataFrame) -> Iterator[Problem]:
    width, height = (good[name].to_numpy(np.float64) for name in ("width", "height"))
    size = f"{np.median(width):.0f} x {np.median(height):.0f}"
    area, aspect = np.log2(width * height), np.log2(width / height)
    for kind, values, least in (("size", area, 4.0), ("aspect", aspect, 1.0)):
        for place in np.flatnonzero(_far(values, least)):
            detail = f"{width[place]:.0f} x {height[place]:.0f} pixels, usual is {size}"
            yield Problem(severity="note", kind=kind, id=str(good["id"].iloc[place]), detail=detail)


# Robust: the median and the median distance from it are not moved by the odd ones.
def _far(values: NDArray[np.float64], least: float) -> NDArray[np.bool_]:
    distance = np.abs(values - np.median(values))
    result: NDArray[np.bool_] = distance > max(least, _FAR * 1.4826 * float(np.median(distance)))
    return result


# A network can read the class from the channels or the depth, where only one class has them.
def _mixed(good: pd.DataFrame) -> Iterator[Problem]:
    for name, unit in (("channels", "channels"), ("bits", "bits a channel")):
        counts = good[name].value_counts()
        for value in counts.index[1:]:
            labels = good["label"][good[name] == value].value_counts()
            detail = f"{counts[value]} of {len(good)} images have {value} {unit}, most have {counts.index[0]}: "
            yield Problem(severity="note", kind=name, detail=detail + _listed(labels))


def _listed(counts: Any) -> str:
    shown = ", ".join(f"{count} {name or 'without label'}" for name, count in counts.head(6).items())
    return shown + (f" and {len(counts) - 6} more classes" if len(counts) > 6 else "")
