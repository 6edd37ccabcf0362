"""From uploads to what the model says of each, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import ImgclsError
from imgcls.data import images
from imgcls.inference.reading import Told
from imgcls.serving.limits import Limits
from imgcls.serving.served import Served
from imgcls.serving.uploads import Refused

__all__ = ["Looker", "Seen"]


@attrs.frozen(kw_only=True, eq=False)
class Seen:
    """What the model saw, and says of it.

    Attributes:
        pixels: (H, W, C) in the form that the model takes.
        told: Of this image alone.
    """

    pixels: NDArray[Any]
    told: Told


@final
@attrs.frozen(kw_only=True, eq=False)
class Looker:
    """Decodes and predicts.

    Both in the thread that is asked: handing an image from thread to thread costs more than decoding a small one.

    Attributes:
        served: The model.
        limits: How large an image may be.
        predicted: Is called with the size of each batch.
    """

    served: Served
    limits: Limits
    predicted: Callable[[int], None]

    def __call__(self, files: Sequence[images.InMemory]) -> list[Seen | Exception]:
        """Look at images; threads may call it at the same time.

        Args:
            files: Their files.

        Returns:
            For each what was seen, or why it cannot be read.
        """
        found = [self._read(file) for file in files]
        readable = [one for one in found if not isinstance(one, Refused)]
        told = iter(self._told(readable) if readable else ())
        return [one if isinstance(one, Refused) else Seen(pixels=one, told=next(told)) for one in found]

    def _told(self, pixels: Sequence[NDArray[Any]]) -> list[Told]:
        self.predicted(len(pixels))
        return self.served.tell(np.stack(pixels)).apart()

    def _read(self, file: images.InMemory) -> NDArray[Any] | Refused:
        try:
            header = images.header(file)
            size = header.width * header.height / 1e6
            if size > self.limits.megapixels:
                text = f"image {file.name!r} must have at most {self.limits.megapixels:g} megapixels, got {size:.1f}"
                return Refused(text, status=413, file=file.name)
            return images.read(file, self.served.image)
        except ImgclsError as error:  # damaged, or of a form that needs a package which is not here
            return Refused(str(error), file=file.name)
