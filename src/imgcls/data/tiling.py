"""Large images cut into a new set of tiles, each of which knows where it comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import attrs
import numpy as np

from imgcls.core.errors import DataError, listing, nearest
from imgcls.core.folders import whole
from imgcls.core.options import rejected
from imgcls.core.progress import say
from imgcls.data import arguments, grid
from imgcls.data.columns import MASK, ROLES
from imgcls.data.dataset import Dataset
from imgcls.data.labels import SEPARATOR
from imgcls.data.tile_files import write_tiles
from imgcls.data.tile_rules import Rules, Tile

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["tile"]

#: The columns that say what a tile is; others of the source with these names get an underscore behind.
_COLUMNS = ("image", "label", "group", "split", "weight", "source", "x", "y", "width", "height", "mask", "mask_share")


def tile(  # noqa: PLR0913 (options of one step, which only a user's call names)
    dataset: Dataset,
    out: str | Path,
    *,
    size: int | tuple[int, int] = 224,
    overlap: int = 10,
    label: Literal["image", "mask"] = "image",
    good: str | int | None = None,
    min_share: float = 0.01,
    centred_step: int | None = None,
    keep_good: float = 1.0,
    drop_background: float | None = None,
    background: float = 0,
    fill: grid.Fill = "constant",
    seed: int = 0,
) -> Dataset:
    """Cut images and their masks into overlapping tiles, written as a new set.

    Tiles lie on a lattice of stride `size - overlap`; the last column and row are moved
    back to end at the border, so that every pixel is in a whole tile. An image smaller than
    a tile is put in the centre of one. Every image must keep a tile of its own label.

    `out` gets `tiles.csv`, the tiles below `images` as PNG (TIFF where pixels are floats)
    with the values of the source, 8 or 16 bits, and their masks (0 and 255) below `masks`.
    `dropped.csv` lists what was left out. The folder is whole, or it is not there.

    Args:
        dataset: The set of large images.
        out: The folder of the new set, new or empty and outside of the set's own.
        size: Side of the tiles in pixels, or (height, width).
        overlap: Pixels that neighbours share, below the shorter side.
        label: `image` gives each tile its image's label. With `mask`, tiles that show enough
            of the marks get the image's label and those without a mark the class `good`;
            those between are ambiguous and left out.
        good: The class of tiles without a mark, which its images need no mask for.
        min_share: The share of a tile's pixels, above 0 and at most 1, that is enough of the
            marks; half of the image's marks always are, however small.
        centred_step: Adds tiles centred on the outlines of what the masks mark, one every so
            many pixels, moved into the image.
        keep_good: The share of the `good` tiles of each image that is kept, by chance, at
            least one.
        drop_background: Tiles without a mark are left out if more than this share of
            their pixels in the image is background.
        background: The highest value of background pixels, in every channel.
        fill: What lies around an image that is smaller than a tile: `constant` is black,
            `replicate` the border again. Masks are always 0 there.
        seed: The seed of `keep_good`.

    Returns:
        The new set, with the old order of classes (a new `good` at the end) and positive
        class. Its group is that of the source, or the source itself, so that the tiles of an
        image stay on one side of a split.

    Raises:
        ConfigError: if an option is wrong or has no effect.
        DataError: if images lack the mask they need, or keep no tile of their label.
        DecodeError: if files cannot be read; up to ten are named.
    """
    rules = Rules(
        size=size,
        overlap=overlap,
        label=label,
        good=good,
        min_share=min_share,
        centred_step=centred_step,
        keep_good=keep_good,
        drop_background=drop_background,
        background=background,
        fill=fill,
        seed=seed,
    )
    _refuse_set(dataset, rules)
    folder = _place(arguments.path("out", out), dataset.root)
    with whole(folder) as temporary:
        temporary.mkdir()
        tiles = write_tiles(dataset, rules, temporary)
        _refuse_lost(dataset, rules, tiles)
        _write_tables(dataset, tiles, temporary)
    _tell(tiles)
    return _opened(dataset, rules, folder)


def _refuse_set(dataset: Dataset, rules: Rules) -> None:
    if dataset.views:
        got = f"got the views {listing(dataset.views)}; read the set without them"
        raise DataError(f"'data' must have one picture a record to be tiled, {got}")
    if rules.label == "mask" and dataset.multilabel:
        raise rejected("label", "be 'image' for a set of several labels a record", rules.label)
    if MASK not in dataset.frame:
        if rules.label == "mask" or rules.centred_step is not None:
            option = "label='mask'" if rules.label == "mask" else "'centred_step'"
            raise DataError(f"'data' must have masks for {option}, got none; name them by mask= when the set is read")
    elif rules.label == "mask":
        _refuse_unmasked(dataset, str(rules.good))


def _refuse_unmasked(dataset: Dataset, good: str) -> None:
    frame = dataset.frame
    lacking = frame["id"][(frame["label"] != good) & (frame[MASK] == "")]
    if len(lacking):
        hint = nearest(good, dataset.classes) if good not in dataset.classes else "leave these images out"
        raise DataError(
            f"images of classes other than {good!r} must have masks, got none for {listing(lacking)}; {hint}"
        )


def _place(out: Path, root: Path | None) -> Path:
    if root is not None and out.resolve().is_relative_to(root.resolve()):
        raise rejected("out", f"lie outside of the set's own folder {str(root)!r}", str(out), "choose one beside it")
    if out.is_dir() and not any(out.iterdir()):
        out.rmdir()  # what is renamed into place must not meet a folder
    if out.exists():
        raise rejected("out", "be a new or empty folder", str(out), "choose another name")
    out.parent.mkdir(parents=True, exist_ok=True)
    return out


def _refuse_lost(dataset: Dataset, rules: Rules, tiles: Sequence[Sequence[Tile]]) -> None:
    records = zip(dataset.frame["id"], dataset.frame["label"], tiles, strict=True)
    lost = {
        name: max(tile.mask_share or 0.0 for tile in cut)
        for name, label, cut in records
        if not any(tile.label == label and not tile.dropped for tile in cut)
    }
    small = {name: share for name, share in lost.items() if share > 0}
    if small:
        rule = f"be at most {0.99 * min(small.values()):.3g} for every image to keep a tile of its label"
        raise rejected("min_share", rule, rules.min_share, f"none is left of {listing(small, limit=3)}")
    if lost:
        remedy = f"nothing is left of {listing(lost, limit=3)}; raise it or leave them out"
        raise rejected("drop_background", "leave a tile of every image", rules.drop_background, remedy)


def _write_tables(dataset: Dataset, tiles: Sequence[Sequence[Tile]], folder: Path) -> None:
    import pandas as pd

    source = dataset.frame.iloc[np.repeat(np.arange(len(dataset)), [len(cut) for cut in tiles])].reset_index(drop=True)
    roles = {"source": source["id"], "group": source["group" if "group" in source else "id"]}
    roles |= {name: source[name] for name in ("split", "weight") if name in source}
    table = pd.DataFrame([attrs.asdict(tile, recurse=False) for cut in tiles for tile in cut]).assign(**roles)
    unknown = set() if MASK in source else {MASK, "mask_share"}
    shown = [name for name in _COLUMNS if name in table and name not in unknown]
    kept = table["dropped"] == ""
    table.loc[kept, shown].join(_others(source)).to_csv(folder / "tiles.csv", index=False)
    table.loc[~kept, ["source", "x", "y", "mask_share", "dropped"]].to_csv(folder / "dropped.csv", index=False)


def _others(frame: pd.DataFrame) -> pd.DataFrame:
    rest = frame.drop(columns=[name for name in ROLES if name in frame])
    taken = {*_COLUMNS, *rest.columns}
    return rest.rename(columns={name: _free(name, taken) for name in rest.columns.intersection(list(_COLUMNS))})


def _free(name: str, taken: AbstractSet[str]) -> str:
    return _free(f"{name}_", taken) if name in taken else name


def _tell(tiles: Sequence[Sequence[Tile]]) -> None:
    counts = Counter(tile.dropped for cut in tiles for tile in cut)
    dropped = ", ".join(f"{number} {reason}" for reason, number in sorted(counts.items()) if reason)
    say(f"Tiling: {counts['']} tiles of {len(tiles)} images" + (f"; left out {dropped}" if dropped else ""))


def _opened(dataset: Dataset, rules: Rules, folder: Path) -> Dataset:
    def known(name: str) -> str | None:
        return name if name in dataset.frame else None

    classes = tuple(dict.fromkeys([*dataset.classes, *([] if rules.good is None else [rules.good])]))
    return Dataset.from_csv(
        folder / "tiles.csv",
        root=folder,
        label_separator=SEPARATOR if dataset.multilabel else None,
        group="group",
        split=known("split"),
        weight=known("weight"),
        mask=known(MASK),
        classes=classes,
        positive=_positive(dataset, classes, rules.good),
    )


def _positive(dataset: Dataset, classes: Sequence[str], good: str | None) -> str | None:
    if len(classes) != 2 or dataset.multilabel:
        return None
    return dataset.positive or next(name for name in classes if name != good)
