"""DICOM files: one picture each, with the rescaling and the window that the file states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import DecodeError, missing_extra
from imgcls.data.deep import Deep
from imgcls.data.headers import Header, check_frames, check_mode, check_size

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["header", "picture"]

_GREY = ("MONOCHROME1", "MONOCHROME2")

#: A transfer syntax that hides the size of a file's content until all of it is in memory.
_DEFLATED = b"1.2.840.10008.1.2.1.99"


def header(stream: BinaryIO) -> Header:
    """Read the header of a file, without its pixels.

    Args:
        stream: The file; stands at its beginning before and after.

    Returns:
        The header.

    Raises:
        MissingExtraError: if pydicom is not installed.
        DecodeError: if the file holds no picture, several, one of a wrong size or of colours
            that are not supported.
    """
    found = _read(stream, pixels=False)
    if "Rows" not in found or "Columns" not in found:
        modality = f"modality {found.Modality}" if found.get("Modality") else "no modality"
        raise DecodeError(f"must hold a DICOM picture, got {modality} and no pixels; leave it out")
    width, height, mode = int(found.Columns), int(found.Rows), str(found.get("PhotometricInterpretation"))
    check_size(width, height)
    check_frames(int(found.get("NumberOfFrames") or 1))
    check_mode(mode)
    return Header(
        width=width,
        height=height,
        format="DICOM",
        mode=mode,
        bits=int(found.BitsStored),
        raw_width=width,
        raw_height=height,
        inverted=mode == "MONOCHROME1" and not _is_plain(found),
    )


# What is stored is shown as it is.
def _is_plain(found: Any) -> bool:
    rescaled = (float(found.get("RescaleSlope") or 1), float(found.get("RescaleIntercept") or 0)) != (1, 0)
    whole = int(found.BitsStored) == int(found.BitsAllocated) == 8
    return whole and not rescaled and "ModalityLUTSequence" not in found


def _read(stream: BinaryIO, *, pixels: bool) -> Any:
    pydicom = _pydicom()
    deflated = _DEFLATED in stream.read(4096)
    stream.seek(0)
    if deflated:
        raise DecodeError("must not be deflated as a whole, got the deflated transfer syntax; write it uncompressed")
    # Forced, since files without preamble come here only if their names say that they are DICOM.
    found = pydicom.dcmread(stream, force=True, stop_before_pixels=not pixels)
    stream.seek(0)
    return found


def _pydicom() -> Any:
    try:
        import pydicom
    except ImportError:
        raise missing_extra("pydicom", "dicom") from None
    return pydicom


def picture(stream: BinaryIO) -> Image.Image | Deep:
    """Decode a file whose header is known to be good.

    Args:
        stream: The file; stands at its beginning.

    Returns:
        An 8-bit image, or a deep one with its rescaling and its window.
    """
    found = _read(stream, pixels=True)
    return _grey(found) if found.PhotometricInterpretation in _GREY else _coloured(found)


def _decoded(found: Any) -> NDArray[Any]:
    from pydicom.pixels.utils import pixel_array

    _state_encoding(found)
    return pixel_array(found)


def _state_encoding(found: Any) -> None:
    """Files without meta information are uncompressed, in the encoding that was found in reading them."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if "TransferSyntaxUID" not in found.file_meta:
        implicit, little = found.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        found.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def _coloured(found: Any) -> Image.Image | Deep:
    from PIL import Image
    from pydicom.pixels.processing import apply_color_lut

    stored, levels = _decoded(found), 2 ** int(found.BitsStored) - 1
    if found.PhotometricInterpretation == "PALETTE COLOR":
        stored = apply_color_lut(stored, found)
        levels = np.iinfo(stored.dtype).max
    # Colours are meant to be shown as they are: no window, but all levels that the file can hold.
    return Image.fromarray(stored) if stored.dtype == np.uint8 else Deep(stored=stored, window=(0, levels))


def _grey(found: Any) -> Image.Image | Deep:
    from PIL import Image
    from pydicom.pixels.processing import apply_modality_lut

    stored, slope, intercept = _decoded(found), 1.0, 0.0
    inverted = found.PhotometricInterpretation == "MONOCHROME1"
    if found.get("ModalityLUTSequence"):
        stored = apply_modality_lut(stored, found)
    elif "RescaleSlope" in found:
        slope, intercept = float(found.RescaleSlope), float(found.get("RescaleIntercept") or 0)
    if stored.dtype == np.uint8 and int(found.BitsStored) == 8 and (slope, intercept) == (1, 0):
        return Image.fromarray(255 - stored if inverted else stored)
    return Deep(stored=stored[..., None], slope=slope, intercept=intercept, window=_window(found), inverted=inverted)


def _window(found: Any) -> tuple[float, float] | None:
    """Read the file's first window, by PS3.3 C.11.2.1.2.

    Args:
        found: The file.

    Returns:
        The values that become black and white, or None where there is no linear window.
    """
    centre, width = _first(found.get("WindowCenter")), _first(found.get("WindowWidth"))
    function = found.get("VOILUTFunction") or "LINEAR"
    if centre is None or width is None or function not in {"LINEAR", "LINEAR_EXACT"}:
        return None
    if function == "LINEAR":  # counts whole values: a width of 256 has 255 steps
        centre, width = centre - 0.5, width - 1
    return (centre - width / 2, centre + width / 2) if width > 0 else None


def _first(value: Any) -> float | None:
    values = [value] if isinstance(value, int | float | str) else list(value or [])
    return float(values[0]) if values and values[0] not in {None, ""} else None
