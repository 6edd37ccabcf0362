"""From a file to pixels, in one place for training, evaluation, prediction and explanation."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, BinaryIO

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import DecodeError
from imgcls.data import deep, dicom, headers
from imgcls.data.deep import Deep
from imgcls.data.fitting import padded, placement, resized
from imgcls.data.headers import Header, named
from imgcls.data.spec import ImageSpec

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFile import ImageFile

__all__ = ["EXTENSIONS", "Header", "InMemory", "decode", "from_pillow", "header", "original", "pixels", "read"]

#: File names that readers of folders take for images.
EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".dcm", ".dicom"})


@attrs.frozen(kw_only=True)
class InMemory:
    """An image file that is not on disk.

    Attributes:
        name: Its name, for messages; the ending matters for DICOM alone.
        content: Its bytes.
    """

    name: str
    content: bytes = attrs.field(repr=False)

    @property
    def suffix(self) -> str:
        """The ending of the name."""
        return PurePath(self.name).suffix

    def __str__(self) -> str:
        return self.name


def read(path: Path | InMemory, spec: ImageSpec) -> NDArray[Any]:
    """Decode an image file and bring it to the form of a spec.

    Args:
        path: The file.
        spec: The form.

    Returns:
        Pixels (height, width, channels) from 0 to the highest level, of the type of the spec.
    """
    with named(f"image {str(path)!r}"):
        # A JPEG is decoded at the smallest of its own scales that is at least twice the wanted size.
        picture, whole = _picture(path, draft=2 * max(spec.size))
        return deep.fit(picture, spec) if isinstance(picture, Deep) else _fit(picture, spec, whole=whole)


def original(path: Path) -> NDArray[Any]:
    """Decode an image file at its own size.

    Args:
        path: The file.

    Returns:
        Pixels (height, width, 1 or 3) as in the file, upright: uint8 from 0 to 255, and for deeper
        images uint16 or float32 (those of DICOM after its rescaling).
    """
    with named(f"image {str(path)!r}"):
        return pixels(path)


def header(path: Path | InMemory) -> Header:
    """Read the header of an image file, without decoding it.

    Args:
        path: The file.

    Returns:
        The header. What `read` refuses for its form, size, frames or mode is refused here too.
    """
    with named(f"image {str(path)!r}"), _opened(path) as (stream, image):
        return dicom.header(stream) if image is None else headers.of_image(image, stream)


def decode(array: NDArray[Any], spec: ImageSpec) -> NDArray[Any]:
    """Bring an image in memory to the form of a spec.

    Args:
        array: Pixels (height, width) or (height, width, 1 or 3), uint8, uint16 or float32.
        spec: The form.

    Returns:
        Pixels (height, width, channels) from 0 to the highest level, of the type of the spec.

    Raises:
        DecodeError: if it is of another type, or a deep one and the spec has no range.
    """
    from PIL import Image

    with named("image in memory"):
        if array.dtype not in {np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32)}:
            raise DecodeError(f"must be uint8, uint16 or float32, got {array.dtype}; convert it")
        if array.dtype != np.uint8:
            return deep.fit(Deep(stored=array[..., None] if array.ndim == 2 else array), spec)
        image = Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)
        return _fit(image, spec, whole=image.size)


def pixels(path: Path) -> NDArray[Any]:
    """Do what `original` does, for callers that put the file's name before an error themselves.

    Args:
        path: The file.

    Returns:
        As `original`.
    """
    picture, _ = _picture(path)
    return deep.values(picture) if isinstance(picture, Deep) else from_pillow(picture)


def from_pillow(image: Image.Image) -> NDArray[Any]:
    """Give the pixels of an image of Pillow, as it lies in memory.

    Args:
        image: Decoded.

    Returns:
        Pixels (height, width, 1 or 3): uint8, and for deeper images uint16 or float32.

    Raises:
        DecodeError: if it is neither grey, RGB nor palette.
    """
    headers.check_mode(image.mode)
    if image.mode.startswith(("I", "F")):
        return deep.values(Deep(stored=np.asarray(image)[..., None]))
    found = np.asarray(_coloured(image, channels=1 if image.mode in {"1", "L", "LA", "La"} else 3))
    return found if found.ndim == 3 else found[..., None]


@contextmanager
def _opened(path: Path | InMemory) -> Iterator[tuple[BinaryIO, ImageFile | None]]:
    with path.open("rb") if isinstance(path, Path) else io.BytesIO(path.content) as stream:
        form = headers.form_of(stream, path.suffix)
        yield stream, None if form == "DICOM" else headers.opened(stream, form)


def _picture(path: Path | InMemory, *, draft: int | None = None) -> tuple[Image.Image | Deep, tuple[int, int]]:
    """Decode a file.

    Args:
        path: The file.
        draft: A JPEG may be decoded smaller, as long as both sides keep this size.

    Returns:
        The image, upright, and its width and height in the file, upright.
    """
    from PIL import ImageOps

    with _opened(path) as (stream, image):
        found = dicom.header(stream) if image is None else headers.of_image(image, stream)
        whole = found.width, found.height
        if image is None:
            return dicom.picture(stream), whole
        if deep.is_deep(found):
            return deep.loaded(image, found, stream), whole
        if draft is not None:
            image.draft(None, (draft, draft))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return image, whole


def _fit(image: Image.Image, spec: ImageSpec, *, whole: tuple[int, int]) -> NDArray[Any]:
    place = placement(*whole, spec)
    found = resized(_coloured(image, channels=spec.channels), place, whole=whole)
    fitted = padded(found, place, spec, fill=spec.fill)
    return fitted if spec.bits == 8 else fitted * np.uint16(257)  # 255 becomes 65535


def _coloured(image: Image.Image, *, channels: int) -> Image.Image:
    from PIL import Image

    if image.has_transparency_data:  # what lies under transparent pixels was never meant to be seen
        premultiplied = {"La": "LA", "RGBa": "RGBA"}
        image = image.convert(premultiplied.get(image.mode, image.mode)).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return image.convert("L" if channels == 1 else "RGB")
