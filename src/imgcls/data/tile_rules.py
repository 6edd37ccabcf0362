"""Which tiles of an image there are, what they are called and which are left out."""

from __future__ import annotations

import functools
import math
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core import options
from imgcls.core.errors import DataError
from imgcls.core.options import rejected
from imgcls.core.randomness import generator
from imgcls.data import arguments, grid
from imgcls.data.spec import ImageSpec

__all__ = ["Picture", "Rules", "Tile", "plan"]


def _size(value: Any) -> tuple[int, int]:
    return ImageSpec(size=value).size


def _class(value: Any) -> str | None:
    return arguments.class_name("good", value)


@attrs.frozen(kw_only=True)
class Rules:
    """The options of `imgcls.data.tiling.tile`, which explains them."""

    size: tuple[int, int] = attrs.field(default=(224, 224), converter=_size)
    overlap: int = attrs.field(default=10, validator=options.count(0))
    label: str = attrs.field(default="image", validator=options.choice("image", "mask"))
    good: str | None = attrs.field(default=None, converter=_class)
    min_share: float = attrs.field(default=0.01, validator=options.number(0, 1, above=True))
    centred_step: int | None = attrs.field(default=None, validator=options.optional(options.count()))
    keep_good: float = attrs.field(default=1.0, validator=options.number(0, 1, above=True))
    drop_background: float | None = attrs.field(
        default=None, validator=options.optional(options.number(0, 1, below=True))
    )
    background: float = attrs.field(default=0, validator=options.number(0))
    fill: grid.Fill = attrs.field(default="constant", validator=options.choice("constant", "replicate"))
    seed: int = attrs.field(default=0, validator=options.seed())

    def __attrs_post_init__(self) -> None:
        if self.overlap >= min(self.size):
            raise rejected("overlap", f"be below the shorter side of a tile, {min(self.size)}", self.overlap)
        if self.label == "mask" and self.good is None:
            raise rejected("good", "name the class of tiles without a mark where masks decide", None)
        if self.label == "image":
            self._refuse_idle("good", "min_share", "keep_good", remedy="leave it out, or set label='mask'")
        if self.drop_background is None:
            self._refuse_idle("background", remedy="leave it out, or set 'drop_background'")

    def _refuse_idle(self, *names: str, remedy: str) -> None:
        fields = attrs.fields_dict(Rules)
        for name in names:
            if getattr(self, name) != fields[name].default:
                raise rejected(name, "have an effect", getattr(self, name), remedy)


@attrs.frozen(kw_only=True, eq=False)
class Picture:
    """One record of a set, read.

    Attributes:
        name: What names it; the chance of its tiles depends on this and the seed alone.
        label: Its class.
        image: Pixels (H, W, channels).
        mask: Which pixels are marked (H, W), or None.
    """

    name: str
    label: str
    image: NDArray[Any]
    mask: NDArray[np.bool_] | None

    @functools.cached_property
    def marked(self) -> int:
        """How many pixels are marked."""
        return 0 if self.mask is None else int(self.mask.sum())


@attrs.frozen(kw_only=True)
class Tile:
    """One tile of an image.

    Attributes:
        x: The column of its left edge in the image, in pixels.
        y: The row of its upper edge.
        width: The width of its part in the image.
        height: The height of that part.
        label: Its class.
        mask_share: The share of its pixels that the mask marks, from 0 to 1; None without a mask.
        dropped: Why it is left out, `ambiguous`, `background` or `thinned`; empty where it is kept.
        image: Its file below the folder of the set, once it is written.
        mask: The file of its mask.
    """

    x: int
    y: int
    width: int
    height: int
    label: str
    mask_share: float | None
    dropped: str = ""
    image: str = ""
    mask: str = ""


def plan(rules: Rules, picture: Picture) -> list[Tile]:
    """Decide about the tiles of a picture.

    Args:
        rules: The rules.
        picture: The picture.

    Returns:
        The tiles, those left out among them: first the lattice, then those centred on marks.

    Raises:
        DataError: if the mask contradicts the label.
    """
    if rules.label == "mask":
        _refuse_contradiction(rules, picture)
    places = grid.lattice(picture.image.shape[:2], rules.size, overlap=rules.overlap)
    if picture.mask is not None and rules.centred_step is not None:
        places = np.concatenate([places, grid.along(picture.mask, rules.size, step=rules.centred_step)])
    distinct = dict.fromkeys((x, y) for x, y in places.tolist())
    return _thinned(rules, [_judged(rules, picture, x, y) for x, y in distinct], picture.name)


def _refuse_contradiction(rules: Rules, picture: Picture) -> None:
    marked = picture.marked > 0
    if marked == (picture.label == rules.good):
        rule, got = ("be empty", "marks") if marked else ("mark something", "nothing")
        remedy = "correct the mask or the label, or leave the image out"
        raise DataError(f"mask of {picture.name!r} must {rule} for label {picture.label!r}, got {got}; {remedy}")


def _judged(rules: Rules, picture: Picture, x: int, y: int) -> Tile:
    part = grid.inside(picture.image, x, y, rules.size)
    share = None if picture.mask is None else float(grid.cut(picture.mask, x, y, rules.size).mean())
    if rules.label == "mask" and share and not _shows(rules, picture, share):
        dropped = "ambiguous"
    else:
        dropped = "background" if not share and _is_background(rules, part) else ""
    label = picture.label if rules.good is None or share else rules.good
    return Tile(x=x, y=y, width=part.shape[1], height=part.shape[0], label=label, mask_share=share, dropped=dropped)


# Marks smaller than the smallest share count as well where a tile has most of them.
def _shows(rules: Rules, picture: Picture, share: float) -> bool:
    return share >= rules.min_share or 2 * round(share * math.prod(rules.size)) >= picture.marked


def _is_background(rules: Rules, part: NDArray[Any]) -> bool:
    limit = rules.drop_background
    return limit is not None and float((part <= rules.background).all(axis=-1).mean()) > limit


def _thinned(rules: Rules, tiles: list[Tile], name: str) -> list[Tile]:
    good = [number for number, tile in enumerate(tiles) if tile.label == rules.good and not tile.dropped]
    surplus = len(good) - max(1, round(rules.keep_good * len(good)))
    if surplus <= 0:
        return tiles
    away = set(generator(rules.seed, "tile", name).choice(good, size=surplus, replace=False).tolist())
    return [attrs.evolve(tile, dropped="thinned") if number in away else tile for number, tile in enumerate(tiles)]
