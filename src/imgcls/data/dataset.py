"""The set of labelled images that everything else is about."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgcls.core.errors import DataError
from imgcls.core.randomness import generator
from imgcls.data import arguments, images, naming, readers
from imgcls.data.spec import ImageSpec

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Dataset", "Sample"]


@attrs.frozen(kw_only=True, eq=False)
class Sample:
    """One record of a set.

    Attributes:
        id: What names the record: its path below the root, or its number.
        image: Pixels (height, width, channels) as stored in the file.
        label: Its class.
        group: What it belongs to, such as a patient, or None.
    """

    id: str
    image: NDArray[np.uint8]
    label: str
    group: str | None


@attrs.frozen(kw_only=True, eq=False)
class Dataset:
    """Labelled images with their groups, made by one of the `from_` methods.

    Attributes:
        frame: The records in order: columns `id`, `label`, where known `group` and
            `split`, and whatever else the source had.
        classes: The classes in the order of logits and probabilities.
        positive: The class of sensitivity, average precision and thresholds; None
            unless there are two classes.
        positive_given: Whether the user named it; else it is the rarer one.
        root: The folder that the ids are paths below, or None for images in memory.
        arrays: Images in memory (N, height, width[, channels]), or None.
        rows: The row of each record (N,) in the CSV or TSV file, whose header is row 1; None
            for other sets.
        source: The reader and its options, from which `config.yaml` rebuilds the set.
    """

    frame: pd.DataFrame
    classes: tuple[str, ...]
    positive: str | None = None
    positive_given: bool = False
    root: Path | None = None
    arrays: NDArray[np.uint8] | None = None
    rows: NDArray[np.int64] | None = None
    source: Mapping[str, Any] | None = None

    @classmethod
    def from_folder(
        cls,
        root: str | Path,
        *,
        group: str | None = None,
        classes: Sequence[str | int] | None = None,
        positive: str | int | None = None,
    ) -> Dataset:
        """Read class folders: `root/class/image`, or `root/split/class/image`.

        Args:
            root: The folder. Images may lie at any depth below their class.
            group: A regular expression searched in each path below `root` (with `/`);
                its first group, or the whole match, names the record's group.
            classes: The classes in order; default is alphabetical.
            positive: The class of sensitivity and thresholds; default is the rarer of two.

        Returns:
            The set, with the splits `train`, `val` and `test` where the folders say so.

        Raises:
            ConfigError: if an option is of the wrong type.
            DataError: if there are no images, or a path does not match `group`.
        """
        place, group = arguments.path("root", root), arguments.expression(group)
        named = _named(classes, positive)
        source = {"from": "folder", "root": str(root), "group": group, **named}
        return cls._made(readers.folder(place, group), **named, root=place, source=source)

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        *,
        root: str | Path | None = None,
        image: str = "image",
        label: str = "label",
        group: str | None = None,
        split: str | None = None,
        classes: Sequence[str | int] | None = None,
        positive: str | int | None = None,
    ) -> Dataset:
        """Read a table of images; `.tsv` files are separated by tabs.

        Args:
            path: The file.
            root: The folder that the image paths are below; default is the file's.
            image: The column of image paths.
            label: The column of labels, as text.
            group: The column of groups, or a regular expression searched in each image path.
            split: The column that says `train`, `val` or `test`.
            classes: The classes in order; default is alphabetical.
            positive: The class of sensitivity and thresholds; default is the rarer of two.

        Returns:
            The set; other columns are kept in `frame`, with an underscore behind the names
            `id`, `label`, `group` and `split`.

        Raises:
            ConfigError: if an option is of the wrong type.
            DataError: if a column, a label or a file is missing, named with its row.
        """
        file = arguments.path("path", path)
        place = file.parent if root is None else arguments.path("root", root)
        columns = arguments.columns(image=image, label=label, group=group, split=split)
        named = _named(classes, positive)
        source = {"from": "csv", "path": str(path), "root": str(place), **columns, **named}
        table = readers.table(file, columns=columns)
        rows = np.arange(2, len(table) + 2)
        return cls._made(readers.records(table, place, columns, rows), **named, root=place, rows=rows, source=source)

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        root: str | Path = ".",
        image: str = "image",
        label: str = "label",
        group: str | None = None,
        split: str | None = None,
        classes: Sequence[str | int] | None = None,
        positive: str | int | None = None,
    ) -> Dataset:
        """Take a data frame of pandas or polars, or a table of pyarrow.

        Args:
            frame: The frame; the arguments are those of `from_csv`.
            root: The folder that the image paths are below.
            image: The column of image paths.
            label: The column of labels.
            group: The column of groups, or a regular expression searched in each image path.
            split: The column that says `train`, `val` or `test`.
            classes: The classes in order; default is alphabetical.
            positive: The class of sensitivity and thresholds; default is the rarer of two.

        Returns:
            The set.

        Raises:
            ConfigError: if an option is of the wrong type.
            DataError: if a column, a label or a file is missing, named with its position from 0.
        """
        place = arguments.path("root", root)
        columns = arguments.columns(image=image, label=label, group=group, split=split)
        records = readers.records(readers.to_pandas(frame), place, columns)
        return cls._made(records, **_named(classes, positive), root=place)

    @classmethod
    def from_arrays(
        cls,
        arrays: ArrayLike,
        labels: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        splits: ArrayLike | None = None,
        classes: Sequence[str | int] | None = None,
        positive: str | int | None = None,
    ) -> Dataset:
        """Take images that are in memory already.

        Args:
            arrays: Images (N, height, width) or (N, height, width, 1 or 3), uint8.
            labels: Labels (N,): words or whole numbers. Where `classes` are given and hold
                every number as text, the numbers are names; else they index `classes`.
            groups: Groups (N,).
            splits: `train`, `val` or `test` of each record (N,).
            classes: The classes in order; default is alphabetical or by number.
            positive: The class of sensitivity and thresholds; default is the rarer of two.

        Returns:
            The set; ids are the positions.

        Raises:
            ConfigError: if an option is of the wrong type.
            DataError: if shapes or types do not fit.
        """
        named = _named(classes, positive)
        pixels = readers.pixels(arrays)
        records = readers.array_records(len(pixels), labels, groups, splits, named["classes"])
        if classes is None:
            named["classes"] = naming.number_order(labels)
        return cls._made(records, **named, arrays=pixels)

    @classmethod
    def from_config(cls, options: Mapping[str, Any]) -> Dataset:
        """Read a set from the `data:` part of a configuration.

        Args:
            options: `from:` (`folder` or `csv`) and the options of that reader.

        Returns:
            The set.

        Raises:
            ConfigError: if the reader or an option is unknown.
        """
        reader, first, rest = arguments.source(
            options, {"folder": (cls.from_folder, "root"), "csv": (cls.from_csv, "path")}
        )
        return reader(first, **rest)

    @classmethod
    def _made(cls, frame: pd.DataFrame, classes: Sequence[str] | None, positive: str | None, **fields: Any) -> Dataset:
        order = naming.class_order(frame["label"], classes)
        chosen = naming.positive_class(frame["label"], order, positive)
        return cls(frame=frame, classes=order, positive=chosen, positive_given=positive is not None, **fields)

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, position: int) -> Sample:
        record = self.frame.iloc[position]
        group = None if self.groups is None else str(record["group"])
        return Sample(id=record["id"], image=self._pixels(position), label=record["label"], group=group)

    def _pixels(self, position: int) -> NDArray[np.uint8]:
        if self.arrays is not None:
            image = self.arrays[position]
            return image if image.ndim == 3 else image[..., None]
        return images.original(self.path(position))

    @functools.cached_property
    def ids(self) -> NDArray[np.str_]:
        """What names each record, (N,)."""
        return self.frame["id"].to_numpy(dtype=np.str_)

    @functools.cached_property
    def labels(self) -> NDArray[np.int64]:
        """The class index of each record, (N,)."""
        codes = {name: index for index, name in enumerate(self.classes)}
        return np.asarray(self.frame["label"].map(codes), dtype=np.int64)

    @functools.cached_property
    def groups(self) -> NDArray[np.str_] | None:
        """The group of each record, (N,), or None where the set has none."""
        return self.frame["group"].to_numpy(dtype=np.str_) if "group" in self.frame else None

    @functools.cached_property
    def splits(self) -> NDArray[np.str_] | None:
        """`train`, `val` or `test` of each record, (N,), or None where the set does not say."""
        return self.frame["split"].to_numpy(dtype=np.str_) if "split" in self.frame else None

    @functools.cached_property
    def fingerprint(self) -> str:
        """A checksum of records, labels, groups, splits and file sizes; the same on every machine."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for name in ("id", "label", "group", "split"):
            if name in self.frame:
                digest.update("\0".join([name, *self.frame[name], ""]).encode())
        if self.arrays is not None:
            digest.update(repr(self.arrays.shape).encode())
        digest.update(self.files[0].tobytes() if self.arrays is None else np.ascontiguousarray(self.arrays).tobytes())
        return digest.hexdigest()

    @functools.cached_property
    def files(self) -> NDArray[np.int64]:
        """Size in bytes and time of change in nanoseconds of each file, (2, N).

        Raises:
            DataError: if the set has no files.
        """
        if self.root is None:
            raise DataError("'data' must have files, got images in memory")
        return readers.file_facts(self.root, self.frame["id"], self.rows)

    def path(self, position: int) -> Path:
        """Name the file of a record.

        Args:
            position: Which record.

        Returns:
            The file's path.

        Raises:
            DataError: if the set has no files.
        """
        if self.root is None:
            raise DataError("'data' must have files, got images in memory")
        return self.root / str(self.frame["id"].iloc[position])

    def pixels(self, position: int, spec: ImageSpec) -> NDArray[np.uint8]:
        """Decode one image into the form of a spec.

        Args:
            position: Which record.
            spec: The form.

        Returns:
            Pixels (height, width, channels).
        """
        if self.arrays is not None:
            return images.decode(self.arrays[position], spec)
        return images.read(self.path(position), spec)

    def subset(self, positions: ArrayLike) -> Dataset:
        """Keep some records; classes and the positive class stay.

        Args:
            positions: Positions (M,) from 0, each once, or a mask (N,).

        Returns:
            The smaller set.

        Raises:
            DataError: if they are no positions or a mask of another length, or one is
                repeated or out of range.
        """
        chosen = arguments.positions(positions, len(self))
        arrays = None if self.arrays is None else self.arrays[chosen]
        rows = None if self.rows is None else self.rows[chosen]
        frame = self.frame.iloc[chosen].reset_index(drop=True)
        return attrs.evolve(self, frame=frame, arrays=arrays, rows=rows, source=None)

    def sample(self, n: int, *, seed: int = 0) -> Dataset:
        """Keep `n` records chosen by chance.

        Args:
            n: How many, at most all.
            seed: The seed of the choice.

        Returns:
            The smaller set, in the old order.

        Raises:
            DataError: if there are fewer records.
        """
        if not isinstance(n, int | np.integer) or not 0 < n <= len(self):
            raise DataError(f"'n' must be from 1 to {len(self)}, got {n!r}")
        return self.subset(np.sort(generator(seed, "sample").choice(len(self), size=n, replace=False)))

    def relabel(self, names: Mapping[str, str], *, positive: str | int | None = None) -> Dataset:
        """Rename or merge classes.

        Args:
            names: New names by old ones; classes that are not named keep theirs.
            positive: The class of sensitivity and thresholds; default is the one that the user
                named before, by its new name, else the rarer of two.

        Returns:
            The set with the new classes, in order of first appearance.

        Raises:
            ConfigError: if a name is of the wrong type.
            DataError: if an old name is unknown.
        """
        new = arguments.renames(names, self.classes)
        order = tuple(dict.fromkeys(new.values()))
        wanted = arguments.class_name("positive", positive)
        if wanted is None and self.positive_given and self.positive is not None and len(order) == 2:
            wanted = new[self.positive]
        frame = self.frame.assign(label=[new[label] for label in self.frame["label"]])
        chosen, given = naming.positive_class(frame["label"], order, wanted), wanted is not None
        return attrs.evolve(self, frame=frame, classes=order, positive=chosen, positive_given=given, source=None)

    def counts(self) -> dict[str, int]:
        """Count the records of each class.

        Returns:
            The counts by class, in the order of `classes`.
        """
        return dict(zip(self.classes, np.bincount(self.labels, minlength=len(self.classes)).tolist(), strict=True))


def _named(classes: Any, positive: Any) -> dict[str, Any]:
    return {"classes": arguments.class_names(classes), "positive": arguments.class_name("positive", positive)}
