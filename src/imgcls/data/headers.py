"""What an image file is, from its header: its form and size, and whether it is read at all."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import DecodeError, ImgclsError

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFile import ImageFile

__all__ = ["Header", "check_frames", "check_mode", "check_size", "form_of", "named", "of_image", "opened", "upright"]

#: The tag of TIFF that says whether 0 is white.
_PHOTOMETRIC = 262

#: Larger images are refused from their header: a file of 31 kB can hold 16000 x 16000 pixels.
_MAX_PIXELS = 64_000_000

#: How files begin; a file is judged by its content, not by its name.
_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}

#: Of Pillow and of DICOM.
_MODES = frozenset(["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "I", "F"]) | {
    *("MONOCHROME1", "MONOCHROME2", "RGB", "PALETTE COLOR"),
    *("YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"),
}

T = TypeVar("T", bound=np.generic)

_ORIENTATION = 0x0112
_WIDTH, _HEIGHT, _BITS = 256, 257, 258  # tags of TIFF


@attrs.frozen(kw_only=True)
class Header:
    """What a file says about its image before it is decoded.

    Attributes:
        width: In pixels, upright.
        height: In pixels, upright.
        format: `JPEG`, `PNG`, `TIFF`, `BMP`, `WEBP`, `GIF` or `DICOM`.
        mode: Pillow's mode, such as `RGB`; for DICOM the photometric interpretation.
        bits: Of a channel: 1, 8, or more for deep images.
        orientation: How the file's rows and columns lie, 1 to 8, as EXIF numbers them.
        raw_width: In pixels, as stored.
        raw_height: In pixels, as stored.
        inverted: Whether low values are bright in what `original` gives, as in deep MONOCHROME1.
    """

    width: int
    height: int
    format: str
    mode: str
    bits: int
    orientation: int = 1
    raw_width: int
    raw_height: int
    inverted: bool = False


@contextlib.contextmanager
def named(subject: str) -> Iterator[None]:
    """Turn whatever fails inside into an error that names the file.

    Args:
        subject: Such as `image 'a.png'`. Errors of the block begin with `must`.

    Yields:
        Nothing.

    Raises:
        DecodeError: if anything fails.
    """
    try:
        yield
    except FileNotFoundError:
        raise DecodeError(f"{subject} must exist, got no such file") from None
    except DecodeError as error:
        raise DecodeError(f"{subject} {error}") from None
    except ImgclsError:
        raise
    except Exception as error:  # a damaged file makes the decoders fail in any way
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DecodeError(f"{subject} must be readable, got an error: {reason}") from None


def form_of(stream: BinaryIO, suffix: str) -> str:
    """Tell the form of a file from its content.

    Args:
        stream: The file; stands at its beginning before and after.
        suffix: Of its name; only `.dcm` and `.dicom` matter, since DICOM may lack its preamble.

    Returns:
        Its form, as in `Header`.

    Raises:
        DecodeError: if it is empty or of no known form.
    """
    prefix = stream.read(132)
    stream.seek(0)
    if not prefix:
        raise DecodeError("must be readable, got an empty file")
    if prefix[128:] == b"DICM":
        return "DICOM"
    if prefix[:4] == b"RIFF" and prefix[8:12] == b"WEBP":
        return "WEBP"
    form = next((form for start, form in _SIGNATURES.items() if prefix.startswith(start)), None)
    if form is None and suffix.lower() not in {".dcm", ".dicom"}:
        raise DecodeError("must be readable, got no image of a known format")
    return form or "DICOM"


def opened(stream: BinaryIO, form: str) -> ImageFile:
    """Open a file with the one plugin of its form; nothing is decoded.

    `Image.open` would try several, and would warn of a size that is refused here anyway.

    Args:
        stream: The file; must stay open until the image is loaded.
        form: Its form, not DICOM.

    Returns:
        The image.

    Raises:
        DecodeError: if the header cannot be used.
    """
    from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

    plugins: dict[str, type[ImageFile]] = {
        "JPEG": JpegImagePlugin.JpegImageFile,
        "PNG": PngImagePlugin.PngImageFile,
        "GIF": GifImagePlugin.GifImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
        "TIFF": TiffImagePlugin.TiffImageFile,
        "WEBP": WebPImagePlugin.WebPImageFile,
    }
    try:
        # Without the file's name, since Pillow maps a named raw TIFF in rows of its upright width.
        return plugins[form](stream)
    except SyntaxError as error:
        raise DecodeError(f"must be readable, got a {form} header that cannot be used: {error}") from None


def of_image(image: ImageFile, stream: BinaryIO) -> Header:
    """Read the header of an opened image and refuse what is not supported.

    Args:
        image: Not yet loaded.
        stream: Its file.

    Returns:
        The header.

    Raises:
        DecodeError: if the image is too small or too large, has several frames or is
            neither grey, RGB nor palette.
    """
    width, height = _raw_size(image)
    check_size(width, height)
    check_frames(getattr(image, "n_frames", 1))
    check_mode(image.mode)
    orientation = _orientation(image, stream)
    turned = orientation >= 5
    return Header(
        width=height if turned else width,
        height=width if turned else height,
        format=str(image.format),
        mode=image.mode,
        bits=_bits(image),
        orientation=orientation,
        raw_width=width,
        raw_height=height,
        inverted=_is_inverted(image),
    )


# Pillow turns TIFF of 8 bits whose 0 is white, but not deeper ones.
def _is_inverted(image: ImageFile) -> bool:
    from PIL.TiffImagePlugin import TiffImageFile

    if not isinstance(image, TiffImageFile) or not image.mode.startswith(("I", "F")):
        return False
    return bool(image.tag_v2.get(_PHOTOMETRIC) == 0)


def check_size(width: int, height: int) -> None:
    """Refuse an image for its size.

    Args:
        width: In pixels.
        height: In pixels.

    Raises:
        DecodeError: if it is too small or too large.
    """
    if min(width, height) < 2:
        raise DecodeError(f"must have at least 2 x 2 pixels, got {width} x {height}; leave it out")
    if width * height > _MAX_PIXELS:
        limit = f"at most {_MAX_PIXELS // 10**6} megapixels"
        raise DecodeError(f"must have {limit}, got {width} x {height}; cut it into smaller files")


def check_frames(count: int) -> None:
    """Refuse a file of several pictures: which one is meant is not known.

    Args:
        count: Number of frames or pages.

    Raises:
        DecodeError: if there is more than one.
    """
    if count > 1:
        raise DecodeError(f"must hold one picture, got {count} frames; save each to a file of its own")


def check_mode(mode: str) -> None:
    """Refuse colours that only a printer or a colour profile could show.

    Args:
        mode: Of Pillow, or the photometric interpretation of DICOM.

    Raises:
        DecodeError: if it is not supported.
    """
    if mode not in _MODES and not mode.startswith("I;16"):
        raise DecodeError(f"must be grey, RGB or palette, got {mode}; convert it")


def _raw_size(image: ImageFile) -> tuple[int, int]:
    from PIL.TiffImagePlugin import TiffImageFile

    # Pillow gives the size of a turned TIFF as it will be after loading, that of others as it is stored.
    return (image.tag_v2[_WIDTH], image.tag_v2[_HEIGHT]) if isinstance(image, TiffImageFile) else image.size


def _bits(image: ImageFile) -> int:
    from PIL.PngImagePlugin import PngImageFile
    from PIL.TiffImagePlugin import TiffImageFile

    if image.mode == "1":
        return 1
    if isinstance(image, TiffImageFile):
        return max(8, *image.tag_v2.get(_BITS, (1,)))
    # Pillow opens PNG of 16-bit colours as 8-bit ones; only the mode that it reads them by tells.
    return 16 if isinstance(image, PngImageFile) and "16" in str(image.tile[0][3]) else 8


def _orientation(image: ImageFile, stream: BinaryIO) -> int:
    found = _exif(image, stream).get(_ORIENTATION, 1)
    return int(found) if found in range(1, 9) else 1


def _exif(image: ImageFile, stream: BinaryIO) -> Image.Exif:
    from PIL import Image
    from PIL.PngImagePlugin import PngImageFile

    if not isinstance(image, PngImageFile):
        return image.getexif()
    # That of PNG decodes the image to look behind the pixels, which is rarely needed.
    place = stream.tell()
    late = _has_late_chunks(stream)
    stream.seek(0)
    exif = PngImageFile(stream).getexif() if late else Image.Image.getexif(image)
    stream.seek(place)
    return exif


def _has_late_chunks(stream: BinaryIO) -> bool:
    kinds = []
    stream.seek(8)
    while len(start := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        kinds.append(kind)
        stream.seek(length + 4, 1)
    behind = kinds[kinds.index(b"IDAT") :] if b"IDAT" in kinds else []
    return not set(behind) <= {b"IDAT", b"IEND"}


def upright(array: NDArray[T], orientation: int) -> NDArray[T]:
    """Turn an array that lies as the file has it.

    Args:
        array: (height, width, ...).
        orientation: 1 to 8, as EXIF numbers them.

    Returns:
        A view of it that stands upright.
    """
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    rows, columns = _FLIPS[orientation]
    return array[::rows, ::columns]


#: Steps along rows and columns that undo an orientation, those from 5 on after the axes are exchanged.
_FLIPS = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
