"""From a file to pixels, in one place for training, evaluation, prediction and explanation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import DecodeError
from imgcls.data.spec import ImageSpec

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["EXTENSIONS", "decode", "fit", "original", "read"]

#: File names that readers of folders take for images.
EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})

#: Formats that may be decoded; a file is judged by its content, not by its name.
_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")

#: Larger images are refused from their header: a file of 31 kB can hold 16000 x 16000 pixels.
_MAX_PIXELS = 64_000_000


def read(path: Path, spec: ImageSpec) -> NDArray[np.uint8]:
    """Decode an image file and bring it to the form of a spec.

    Args:
        path: The file.
        spec: The form.

    Returns:
        Pixels (height, width, channels) from 0 to 255.
    """
    with _named(path):
        # A JPEG is decoded at the smallest of its own scales that is at least twice the wanted size.
        return fit(_opened(path, draft=2 * max(spec.size)), spec)


def original(path: Path) -> NDArray[np.uint8]:
    """Decode an image file at its own size.

    Args:
        path: The file.

    Returns:
        Pixels (height, width, 1 or 3) from 0 to 255, upright.
    """
    with _named(path):
        image = _opened(path)
        spec = ImageSpec(size=(image.height, image.width), channels=1 if image.mode in {"1", "L"} else 3)
        return fit(image, spec)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DecodeError(f"image {str(path)!r} must exist, got no such file") from None
    except DecodeError:
        raise
    except Exception as error:  # a damaged file makes the decoders fail in any way
        raise DecodeError(f"image {str(path)!r} must be readable, got {_why(error, path)}") from None


def _opened(path: Path, *, draft: int | None = None) -> Image.Image:
    from PIL import Image, ImageOps

    with Image.open(path, formats=_FORMATS) as image:
        _refuse(image, path)
        if draft is not None:
            image.draft(None, (draft, draft))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return image


def _refuse(image: Image.Image, path: Path) -> None:
    width, height = image.size
    if width * height > _MAX_PIXELS:
        limit = f"at most {_MAX_PIXELS // 10**6} megapixels"
        raise DecodeError(f"image {str(path)!r} must have {limit}, got {width} x {height}; cut it into tiles")
    if image.mode.startswith(("I", "F")):
        got = f"got mode {image.mode!r}; scale it to 8 bits first"
        raise DecodeError(f"image {str(path)!r} must have 8 bits a channel, {got}")


def _why(error: Exception, path: Path) -> str:
    if path.is_file() and path.stat().st_size == 0:
        return "an empty file"
    text = str(error)
    return "no image of a known format" if text.startswith("cannot identify") else f"an error: {text}"


def decode(array: NDArray[np.uint8], spec: ImageSpec) -> NDArray[np.uint8]:
    """Bring an image in memory to the form of a spec.

    Args:
        array: Pixels (height, width) or (height, width, 1 or 3).
        spec: The form.

    Returns:
        Pixels (height, width, channels) from 0 to 255.
    """
    from PIL import Image

    flat = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
    return fit(Image.fromarray(flat), spec)


def fit(image: Image.Image, spec: ImageSpec) -> NDArray[np.uint8]:
    """Bring a decoded image into the channels and to the size of a spec.

    Args:
        image: The image, upright.
        spec: The form.

    Returns:
        Pixels (height, width, channels) from 0 to 255.
    """
    from PIL import Image, ImageOps

    if image.has_transparency_data:  # what lies under transparent pixels was never meant to be seen
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    coloured = image.convert("L" if spec.channels == 1 else "RGB")
    height, width = spec.size
    method = Image.Resampling[spec.interpolation.upper()]
    if spec.fit == "letterbox":
        fitted = ImageOps.pad(coloured, (width, height), method=method)
    elif spec.fit == "crop":
        fitted = ImageOps.fit(coloured, (width, height), method=method)
    else:
        fitted = coloured.resize((width, height), method)
    return np.asarray(fitted, dtype=np.uint8).reshape(height, width, spec.channels)
