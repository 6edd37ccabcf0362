"""Pictures inside of a page, so many as keep it below 10 MB."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import attrs

from imgcls.core.errors import ImgclsError
from imgcls.data.check.scan import eight_bits
from imgcls.data.dataset import Dataset

__all__ = ["Album", "Picture"]

#: Characters of all pictures of a page together.
_ROOM = 7_500_000


@attrs.frozen(kw_only=True)
class Picture:
    """A picture of a page.

    Attributes:
        source: A data URI; empty where the picture could not be read.
        caption: What it shows.
    """

    source: str
    caption: str


@attrs.define(kw_only=True)
class Album:
    """Embeds pictures as long as there is room.

    Attributes:
        room: Characters that are left.
        left_out: How many pictures had none.
    """

    room: int = _ROOM
    left_out: int = 0

    def file(self, path: Path, caption: str) -> Picture | None:
        """Embed a PNG file.

        Args:
            path: The file.
            caption: What it shows.

        Returns:
            The picture, or None where there is no room.
        """
        return self._kept("data:image/png;base64," + base64.b64encode(path.read_bytes()).decode(), caption)

    def record(self, data: Dataset, position: int, caption: str, *, side: int = 160) -> Picture | None:
        """Embed an image of a set, made small.

        Args:
            data: The set.
            position: Which record.
            caption: What it shows.
            side: Its longer side in pixels.

        Returns:
            The picture, or None where there is no room.
        """
        return self._kept(_small(data, position, side), caption)

    def _kept(self, source: str, caption: str) -> Picture | None:
        if len(source) > self.room:
            self.left_out += 1
            return None
        self.room -= len(source)
        return Picture(source=source, caption=caption)


def _small(data: Dataset, position: int, side: int) -> str:
    from PIL import Image

    try:
        pixels = eight_bits(data.original(position))
    except (ImgclsError, OSError):
        return ""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    scale = min(1.0, side / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    buffer = io.BytesIO()
    image.resize(size).convert("L" if image.mode == "L" else "RGB").save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
