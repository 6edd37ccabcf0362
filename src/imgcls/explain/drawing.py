"""Tiles laid out under titles, as one picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imgcls.core.options import rejected

if TYPE_CHECKING:
    from PIL import Image, ImageFont

__all__ = ["Pixels", "as_rgb", "layout", "scale", "to_png"]

Pixels = npt.NDArray[np.uint8]

#: Pixels that a tile has at least on its longer side, the space around it, and the height of a line of text.
_TILE, _SPACE, _LINE = 192, 6, 18

#: Pixels of the bar of a scale and of the numbers beside it.
_BAR, _NUMBERS = 14, 54


def as_rgb(image: npt.NDArray[Any]) -> Pixels:
    """Read pixels that are shown.

    Args:
        image: (H, W), (H, W, 1) or (H, W, 3), uint8.

    Returns:
        (H, W, 3).

    Raises:
        ConfigError: if they are anything else.
    """
    given = np.asarray(image)
    pixels = given[..., None] if given.ndim == 2 else given
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in {1, 3} or not pixels.size:
        raise rejected("image", "be uint8 pixels (H, W), (H, W, 1) or (H, W, 3)", f"{given.shape} {given.dtype}")
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def layout(
    rows: Sequence[Sequence[Pixels]],
    *,
    lines: Sequence[str] = (),
    heads: Sequence[str] = (),
    notes: Sequence[str] = (),
    legend: Pixels | None = None,
) -> Image.Image:
    """Lay out tiles.

    Args:
        rows: Tiles (h, w, 3), as many in each row; small ones are enlarged without smoothing.
        lines: Texts at the top.
        heads: A text above each column.
        notes: A text above each row.
        legend: What stands at the right of the first row, as it is.

    Returns:
        The picture.
    """
    from PIL import Image, ImageDraw, ImageFont

    pictures = [[_enlarged(Image.fromarray(np.ascontiguousarray(tile))) for tile in row] for row in rows]
    width = max(picture.width for row in pictures for picture in row) + _SPACE
    heights = [max(picture.height for picture in row) + _SPACE + _LINE * bool(notes) for row in pictures]
    top = _SPACE + _LINE * (len(lines) + bool(heads))
    right = 0 if legend is None else legend.shape[1] + _SPACE
    sheet = Image.new("RGB", (len(pictures[0]) * width + _SPACE + right, top + sum(heights)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)

    def write(text: str, left: int, y: int, room: int) -> None:
        draw.text((left, y), _fitting(text, font, room), fill="black", font=font)

    for number, line in enumerate(lines):
        write(line, _SPACE, _SPACE // 2 + number * _LINE, sheet.width - 2 * _SPACE)
    for number, head in enumerate(heads):
        write(head, _SPACE + number * width, top - _LINE - 1, width - _SPACE)
    if legend is not None:
        sheet.paste(Image.fromarray(legend), (len(pictures[0]) * width + _SPACE, top + _LINE * bool(notes)))
    for number, row in enumerate(pictures):
        if notes:
            write(notes[number], _SPACE, top, sheet.width - 2 * _SPACE)
        for column, picture in enumerate(row):
            sheet.paste(picture, (_SPACE + column * width, top + _LINE * bool(notes)))
        top += heights[number]
    return sheet


def scale(colours: Pixels, low: float, high: float, *, height: int = _TILE) -> Pixels:
    """Draw the scale of a map's colours.

    Args:
        colours: (M, 3) from the lowest to the highest value.
        low: The lowest value.
        high: The highest value.
        height: Of the scale.

    Returns:
        (height, w, 3), with numbers at both ends and in the middle.
    """
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGB", (_BAR + _NUMBERS, height), "white")
    shares = np.linspace(len(colours) - 1, 0, height).round().astype(np.int64)
    bar = np.ascontiguousarray(np.broadcast_to(colours[shares][:, None], (height, _BAR, 3)))
    picture.paste(Image.fromarray(bar), (0, 0))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=11)
    for value, place in ((high, 0), ((low + high) / 2, height // 2 - 7), (low, height - 14)):
        draw.text((_BAR + 4, place), f"{value:.2g}", fill="black", font=font)
    return np.asarray(picture)


def to_png(picture: Image.Image) -> bytes:
    """Write a picture as the bytes of a PNG file, the same for the same picture.

    Args:
        picture: The picture.

    Returns:
        The bytes.
    """
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


# By a whole number and without smoothing, so that the pixels of small images stay what they are.
def _enlarged(picture: Image.Image) -> Image.Image:
    from PIL import Image

    factor = max(1, -(-_TILE // max(picture.size)))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def _fitting(line: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> str:
    line = " ".join(line.split())
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(line + "...") > width:
        line = line[:-1]
    return line + "..."
