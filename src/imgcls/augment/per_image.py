"""What is done image by image on the CPU: libraries for one image at a time, and functions of the user."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, ClassVar, final

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imgcls.augment.base import Intensity
from imgcls.augment.foreign import as_function, name_of
from imgcls.augment.ranges import SEED, Range, chance, interval, pair
from imgcls.core import options
from imgcls.core.errors import DataError
from imgcls.core.randomness import generator

__all__ = ["Clahe", "Jpeg", "PerSample", "each_image", "from_bytes", "to_bytes"]

Pixels = NDArray[Any]


def each_image(images: Tensor, function: Callable[[Pixels, int], Pixels]) -> Tensor:
    """Put images through a function one by one.

    Args:
        images: Images (B, C, H, W), float32.
        function: From an image (H, W, C), contiguous float32, and its position in the batch to
            one of the same size; a single channel may be left out.

    Returns:
        Images (B, C, H, W), where the images were.
    """
    size = images.shape[2:]
    arrays = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    found = [function(array, number).reshape(*size, -1) for number, array in enumerate(arrays)]
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).contiguous().to(images.device)


def to_bytes(pixels: Pixels) -> NDArray[np.uint8]:
    """Round values from 0 to 1 to 256 levels.

    Args:
        pixels: Values from 0 to 1.

    Returns:
        Whole numbers from 0 to 255.
    """
    return np.rint(pixels * 255).astype(np.uint8)


def from_bytes(pixels: Pixels) -> NDArray[np.float32]:
    """Undo `to_bytes`.

    Args:
        pixels: Whole numbers from 0 to 255.

    Returns:
        Values from 0 to 1.
    """
    return pixels.astype(np.float32) / np.float32(255)


@final
@attrs.frozen(kw_only=True)
class Clahe(Intensity):
    """Spreads the grey levels of each part of the image evenly, within a limit (Zuiderveld, 1994).

    Colours change by the same amount in each channel, which is what their luminance gains.
    Works on 256 levels.

    Attributes:
        clip: How often a level may occur in a part, in means over all levels.
        grid: Parts along each side.
        p: The chance.
    """

    name: ClassVar[str] = "clahe"
    clip: Range = attrs.field(default=(1.0, 4.0), converter=pair, validator=interval(0.1, 100))
    grid: int = attrs.field(default=8, validator=options.count(1))
    p: float = chance()

    def _ranges(self) -> tuple[Range, ...]:
        return (self.clip,)

    def _change(self, images: Tensor, parameters: Tensor, /) -> Tensor:
        limits = parameters[:, 0].tolist()
        return each_image(images, lambda pixels, number: _equalised(pixels, limits[number], self.grid))


def _equalised(pixels: Pixels, limit: float, grid: int) -> Pixels:
    import cv2

    grey = pixels if pixels.shape[2] == 1 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None]
    levels = to_bytes(grey)
    found = cv2.createCLAHE(clipLimit=limit, tileGridSize=(grid, grid)).apply(levels)
    return pixels + (from_bytes(found.reshape(levels.shape)) - from_bytes(levels))


@final
@attrs.frozen(kw_only=True)
class Jpeg(Intensity):
    """Compresses and decompresses, on 256 levels.

    Attributes:
        quality: From 1 (worst) to 100.
        p: The chance.
    """

    name: ClassVar[str] = "jpeg"
    quality: Range = attrs.field(default=(40, 95), converter=pair, validator=interval(1, 100))
    p: float = chance()

    def _ranges(self) -> tuple[Range, ...]:
        return (self.quality,)

    def _change(self, images: Tensor, parameters: Tensor, /) -> Tensor:
        qualities = parameters[:, 0].round().int().tolist()
        return each_image(images, lambda pixels, number: _compressed(pixels, qualities[number]))


# torchvision's jpeg has one quality for a batch and needs its own build of libjpeg.
def _compressed(pixels: Pixels, quality: int) -> Pixels:
    import cv2

    # OpenCV takes blue, green, red.
    _, packed = cv2.imencode(
        ".jpg", np.ascontiguousarray(to_bytes(pixels)[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    found = cv2.imdecode(packed, cv2.IMREAD_COLOR if pixels.shape[2] == 3 else cv2.IMREAD_GRAYSCALE)
    assert found is not None
    return from_bytes(found.reshape(pixels.shape)[..., ::-1])


def _check_function(_: Any, _field: attrs.Attribute[Any], value: Any) -> None:
    as_function(value)


# Objects of other libraries keep state during a call, which threads must not share.
_ONE_AT_A_TIME = threading.Lock()


@final
@attrs.frozen(kw_only=True)
class PerSample(Intensity):
    """Puts images through a function of the user, one by one.

    Masks do not follow it, so it should leave everything where it is if there are masks.

    Attributes:
        function: From an image (H, W, C), uint8, and a generator of its own to an image of the
            same shape and type. The generator depends on seed, epoch and draw alone. Or a
            transform of torchvision v2 or albumentations, which is seeded by that generator.
        p: The chance.
    """

    name: ClassVar[str] = "per-sample"
    function: Any = attrs.field(validator=_check_function)
    p: float = chance(1.0)

    def _ranges(self) -> tuple[Range, ...]:
        return (SEED, SEED)

    def _change(self, images: Tensor, parameters: Tensor, /) -> Tensor:
        keys, function = parameters.long().tolist(), as_function(self.function)

        def changed(pixels: Pixels, number: int) -> Pixels:
            image, rng = to_bytes(pixels), generator(0, "per-sample", *keys[number])
            with _ONE_AT_A_TIME:
                return from_bytes(self._checked(self._called(function, image, rng), image.shape))

        return each_image(images, changed)

    def _called(self, function: Callable[..., Any], image: Pixels, rng: np.random.Generator) -> Any:
        try:
            return function(image, rng)
        except Exception as error:
            name, cause = name_of(self.function), f"{type(error).__name__}: {error}"
            raise DataError(
                f"'{name}' must augment any image of the set, got {cause}; its traceback is above"
            ) from error

    def _checked(self, found: Any, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        if not isinstance(found, np.ndarray) or found.shape != shape or found.dtype != np.uint8:
            got = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
            name = name_of(self.function)
            raise DataError(f"'{name}' must return a uint8 array of shape {shape}, got {got}; keep shape and type")
        return found
