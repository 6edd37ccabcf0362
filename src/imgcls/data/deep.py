"""Images of more than 8 bits a channel: their values, and how a range of them becomes levels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import DecodeError
from imgcls.data.fitting import padded, placement, resized_by_rows
from imgcls.data.headers import Header, upright
from imgcls.data.spec import ImageSpec

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

__all__ = ["Deep", "fit", "is_deep", "loaded", "values"]

#: Of red, green and blue, as in Pillow's conversion to grey (ITU-R 601).
_LUMA = np.array([0.299, 0.587, 0.114])

#: Rows that are treated at a time where an image is changed in place.
_ROWS = 256

_SAMPLE_FORMAT = 339  # a tag of TIFF


@attrs.frozen(kw_only=True, eq=False)
class Deep:
    """A decoded image of more than 8 bits a channel; a value is `slope * stored + intercept`.

    Attributes:
        stored: (height, width, 1 or 3), upright, of any type of number.
        slope: Of the rescaling.
        intercept: Of the rescaling.
        window: (low, high) that the file itself wants to be shown; None where it does not say.
        inverted: Whether low values are bright.
    """

    stored: NDArray[Any]
    slope: float = 1.0
    intercept: float = 0.0
    window: tuple[float, float] | None = None
    inverted: bool = False


def is_deep(header: Header) -> bool:
    """Tell whether an image must be decoded as a deep one.

    Args:
        header: Its header, not of DICOM.

    Returns:
        Whether a channel has more than 8 bits.
    """
    return header.bits > 8 or header.mode.startswith(("I", "F"))


def values(image: Deep) -> NDArray[np.uint16] | NDArray[np.float32]:
    """Give the values of an image.

    Args:
        image: The image.

    Returns:
        (height, width, 1 or 3): uint16 where they are stored so, else float32.
    """
    if (image.slope, image.intercept) == (1, 0) and image.stored.dtype.kind == "u" and image.stored.itemsize <= 2:
        return image.stored.astype(np.uint16)
    found = image.stored.astype(np.float32)
    found *= image.slope
    found += image.intercept
    return found


def fit(image: Deep, spec: ImageSpec) -> NDArray[Any]:
    """Bring a deep image into the channels, the range and the size of a spec.

    Args:
        image: The image.
        spec: The form.

    Returns:
        Pixels (height, width, channels) of the type of the spec.

    Raises:
        DecodeError: if neither the spec nor the file gives a range, or a value is not a number.
    """
    window = spec.range or image.window
    if window is None:
        ends = image.stored.min(), image.stored.max()
        low, high = sorted(float(end) * image.slope + image.intercept for end in ends)
        got = f"got more than 8 bits with values from {low:.7g} to {high:.7g}"
        raise DecodeError(f"must come with a range, {got}; set ImageSpec(range=(low, high))")
    height, width, channels = image.stored.shape
    place = placement(width, height, spec)

    def rows(which: slice) -> NDArray[np.float32]:
        return _scaled(image, which, window, grey=spec.channels == 1)

    shares = resized_by_rows(rows, (height, width, min(channels, spec.channels)), place)
    pixels = np.rint(shares.clip(0, 1) * spec.levels).astype(spec.dtype)
    return padded(np.repeat(pixels, spec.channels // pixels.shape[-1], axis=-1), place, spec, fill=spec.fill)


def _scaled(image: Deep, rows: slice, window: tuple[float, float], *, grey: bool) -> NDArray[np.float32]:
    found = image.stored[rows].astype(np.float64)
    if not np.isfinite(found).all():
        raise DecodeError("must hold numbers only, got NaN or infinity; replace it or leave the image out")
    low, high = window
    found = ((found * image.slope + image.intercept - low) / (high - low)).clip(0, 1)
    if grey and found.shape[-1] == 3:
        found = found @ _LUMA[:, None]
    return (1 - found if image.inverted else found).astype(np.float32)


def loaded(image: ImageFile, header: Header, stream: BinaryIO) -> Deep:
    """Decode a deep PNG or TIFF.

    Args:
        image: Opened, not yet loaded.
        header: Its header.
        stream: Its file.

    Returns:
        The image, upright.
    """
    layout = str(image.tile[0][3])  # such as RGB;16B; gone once the image is loaded
    image.load()
    if header.mode.startswith(("I", "F")):
        return _grey(image, header)
    # Pillow keeps only the high byte of 16-bit colours. It has found the file whole above, so
    # that OpenCV has nothing to print on stderr.
    colours = _decoded(stream, header)
    if colours.shape[-1] == 4 and "RGBa;" not in layout and "RGBX;" not in layout:
        _put_on_black(colours)
    stored = colours[..., :1] if "LA;" in layout else colours[..., 2::-1]
    # OpenCV turns TIFF by itself.
    return Deep(stored=stored if header.format == "TIFF" else upright(stored, header.orientation))


def _grey(image: ImageFile, header: Header) -> Deep:
    from PIL import ImageOps
    from PIL.TiffImagePlugin import TiffImageFile

    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    unsigned = header.bits == 32 and header.mode == "I" and tags.get(_SAMPLE_FORMAT, (1,))[0] == 1
    ImageOps.exif_transpose(image, in_place=True)
    stored = np.asarray(image)[..., None]
    if "transparency" in image.info:  # a value, of which every pixel is transparent
        stored = np.where(stored == image.info["transparency"], 0, stored)
    # Pillow holds unsigned 32 bits as signed ones, and does not invert deep TIFF whose 0 is white.
    return Deep(stored=stored.view(np.uint32) if unsigned else stored, inverted=header.inverted)


def _decoded(stream: BinaryIO, header: Header) -> NDArray[np.uint16]:
    """Decode blue, green, red and perhaps alpha.

    Args:
        stream: The file, at any place.
        header: Its header.

    Returns:
        (height, width, 3 or 4), those of PNG as stored, those of TIFF upright.

    Raises:
        DecodeError: if OpenCV finds something else.
    """
    import cv2

    stream.seek(0)
    found: Any = cv2.imdecode(np.frombuffer(stream.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    png = header.format == "PNG"
    size = (header.raw_height, header.raw_width) if png else (header.height, header.width)
    if found is None or found.dtype != np.uint16 or found.shape not in {(*size, 3), (*size, 4)}:
        raise DecodeError("must be readable, got 16-bit colours in an unknown arrangement; write it as PNG")
    return found


def _put_on_black(colours: NDArray[np.uint16]) -> None:
    for start in range(0, len(colours), _ROWS):
        rows = colours[start : start + _ROWS]
        rows[..., :3] = np.rint(rows[..., :3] * (rows[..., 3:] / 65535))
