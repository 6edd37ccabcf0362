"""Boxes of Pascal VOC annotations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import DecodeError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["annotation", "inside", "size"]

_EDGES = ("xmin", "ymin", "xmax", "ymax")


def annotation(path: Path) -> Element:
    """Read an annotation.

    Args:
        path: An XML file.

    Returns:
        Its root.

    Raises:
        DecodeError: if it is no annotation, or declares entities, which can blow up a small file.
    """
    from xml.etree import ElementTree as ET

    text = path.read_bytes()
    if b"\0" in text:  # UTF-16 would hide what is looked for below
        raise DecodeError("must be XML in UTF-8, got another encoding; convert it")
    for declaration in (b"<!DOCTYPE", b"<!ENTITY"):
        if declaration in text:
            raise DecodeError(f"must be plain XML, got {declaration.decode()}; remove it")
    try:
        root = ET.fromstring(text)  # noqa: S314 (entities are refused above)
    except ET.ParseError as error:
        raise DecodeError(f"must be XML, got an error: {error}") from None
    if root.tag != "annotation":
        raise DecodeError(f"must be a Pascal VOC <annotation>, got <{root.tag}>; give a mask image or VOC boxes")
    return root


def size(root: Element) -> tuple[int, int] | None:
    """Give the size of the image that was annotated.

    Args:
        root: The annotation.

    Returns:
        Width and height in pixels, or None where it does not say.

    Raises:
        DecodeError: if one of them is no number.
    """
    found = root.find("size")
    if found is None:
        return None
    return _number(found, "width", "size"), _number(found, "height", "size")


def inside(root: Element, width: int, height: int) -> NDArray[np.bool_]:
    """Mark what lies in any box.

    Args:
        root: The annotation; its boxes count pixels from 1 and include their last ones.
        width: Of the image, in pixels.
        height: Of the image, in pixels.

    Returns:
        (height, width).

    Raises:
        DecodeError: if a box is missing, inverted or outside of the image.
    """
    mask = np.zeros((height, width), np.bool_)
    for position, item in enumerate(root.iter("object"), start=1):
        box = item.find("bndbox")
        if box is None:
            raise DecodeError(f"must have a <bndbox> in each object, got none in object {position}")
        left, top, right, bottom = (_number(box, edge, f"box {position}") for edge in _EDGES)
        if not (1 <= left <= right <= width and 1 <= top <= bottom <= height):
            edges = f"xmin {left}, ymin {top}, xmax {right}, ymax {bottom}"
            rule = f"have boxes inside of {width} x {height} pixels, counted from 1"
            raise DecodeError(f"must {rule}, got box {position} with {edges}; correct it")
        mask[top - 1 : bottom, left - 1 : right] = True
    return mask


def _number(parent: Element, name: str, place: str) -> int:
    text = parent.findtext(name)
    try:
        return round(float(text or ""))
    except (ValueError, OverflowError):
        raise DecodeError(f"must have a number as <{name}> of its {place}, got {text!r}; correct it") from None
