"""Pictures of relevance maps; the one place where maps are scaled, and only to be looked at."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imgcls.core.errors import ConfigError
from imgcls.core.options import rejected

if TYPE_CHECKING:
    from PIL import Image, ImageFont

__all__ = ["colored", "overlay", "panel", "panel_name"]

Pixels = npt.NDArray[np.uint8]
Map = npt.NDArray[np.floating[Any]]

#: Pixels that a tile has at least on its longer side, the space around it, and the height of a line of the title.
_TILE, _SPACE, _LINE = 192, 6, 18


def colored(relevance: Map) -> Pixels:
    """Paint a map.

    Args:
        relevance: (H, W). Without negative values it is painted from 0 to its maximum in
            jet; else from minus to plus its largest size in blue, white and red, so that
            white is zero. Values that are not finite count as zero.

    Returns:
        (H, W, 3) uint8.
    """
    from matplotlib import colormaps

    values = np.nan_to_num(np.asarray(relevance, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    if values.ndim != 2:
        raise rejected("relevance", "be a map (H, W)", values.shape)
    top = np.abs(values).max() or 1.0
    signed = bool((values < 0).any())
    shares, colors = ((values / top + 1) / 2, "bwr") if signed else (values / top, "jet")
    painted: Pixels = colormaps[colors](shares, bytes=True)[..., :3]
    return painted


def overlay(image: Pixels, relevance: Map, *, alpha: float = 0.4) -> Pixels:
    """Lay a painted map over its image.

    Args:
        image: (H, W, 3), (H, W, 1) or (H, W), uint8.
        relevance: (H, W).
        alpha: The share of the map in the mixture, from 0 to 1.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ConfigError: if the sizes differ or `alpha` is out of range.

    Examples:
        >>> overlay(np.full((1, 1), 100, np.uint8), np.ones((1, 1)), alpha=0.0)
        array([[[100, 100, 100]]], dtype=uint8)
    """
    if not 0 <= alpha <= 1:
        raise rejected("alpha", "be a number of at least 0 and at most 1", alpha)
    base, heat = _rgb(image), colored(relevance)
    if base.shape != heat.shape:
        raise ConfigError(f"'relevance' must have the size of the image {base.shape[:2]}, got {heat.shape[:2]}")
    mixed: Pixels = np.rint((1 - alpha) * base + alpha * heat).astype(np.uint8)
    return mixed


def panel(
    image: Pixels,
    relevance: Map,
    *,
    truth: str | None,
    predicted: str,
    prob: float,
    title: str = "",
    alpha: float = 0.4,
) -> bytes:
    """Draw image, map and overlay side by side under a title.

    Args:
        image: (H, W, 3), (H, W, 1) or (H, W), uint8.
        relevance: (H, W).
        truth: The name of the true class, None where it is not known.
        predicted: The name of the predicted class.
        prob: Its probability, 0 to 1.
        title: What else the title says, such as the name of the image.
        alpha: The share of the map in the overlay.

    Returns:
        A PNG file; the same arguments always give the same bytes.

    Raises:
        ConfigError: if the sizes differ or `alpha` is out of range.
    """
    tiles = [_rgb(image), colored(relevance), overlay(image, relevance, alpha=alpha)]
    verdict = f"predicted: {predicted} ({prob:.2f})"
    lines = [title] if title else []
    lines += [verdict if truth is None else f"true: {truth}, {verdict}"]
    if not np.any(np.nan_to_num(relevance)):
        lines += ["no relevance found: this map says nothing"]
    buffer = io.BytesIO()
    _sheet(tiles, lines).save(buffer, format="PNG")
    return buffer.getvalue()


def panel_name(number: int, *, image: str, truth: str | None, predicted: str, method: str) -> str:
    """Name the file of a panel.

    Args:
        number: The position of the image among those explained; keeps names apart.
        image: The name or path of the image.
        truth: The name of the true class, None where it is not known.
        predicted: The name of the predicted class.
        method: The explainer.

    Returns:
        A file name of plain letters, the same for the same arguments.

    Examples:
        >>> panel_name(3, image="test/b 1.jpeg", truth="cat", predicted="dog", method="grad-cam")
        '00003_b-1_true-cat_pred-dog_grad-cam.png'
    """
    stem = image.replace("\\", "/").rpartition("/")[2]
    stem = stem.rpartition(".")[0] or stem
    known = [] if truth is None else [f"true-{_plain(truth)}"]
    return "_".join([f"{number:05d}", _plain(stem), *known, f"pred-{_plain(predicted)}", _plain(method)]) + ".png"


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-.")[:60] or "x"


def _rgb(image: Pixels) -> Pixels:
    pixels = np.asarray(image)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in {1, 3} or not pixels.size:
        raise rejected("image", "be uint8 pixels (H, W), (H, W, 1) or (H, W, 3)", f"{image.shape} {image.dtype}")
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def _sheet(tiles: list[Pixels], lines: list[str]) -> Image.Image:
    from PIL import Image, ImageDraw, ImageFont

    pictures = [_enlarged(Image.fromarray(np.ascontiguousarray(tile))) for tile in tiles]
    width, height = pictures[0].size
    top = _SPACE + _LINE * len(lines)
    sheet = Image.new("RGB", (len(tiles) * (width + _SPACE) + _SPACE, top + height + _SPACE), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for row, line in enumerate(lines):
        text = _fitting(line, font, sheet.width - 2 * _SPACE)
        draw.text((_SPACE, _SPACE // 2 + row * _LINE), text, fill="black", font=font)
    for column, picture in enumerate(pictures):
        sheet.paste(picture, (_SPACE + column * (width + _SPACE), top))
    return sheet


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
