"""The ways to make a set of files: from folders, tables, frames, lists and file names."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import attrs

from imgcls.core.errors import ConfigError
from imgcls.core.options import rejected
from imgcls.data import arguments, folders, tables
from imgcls.data.columns import MASK, Columns, is_pattern, view_column
from imgcls.data.records import Records, to_records

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["MASK_THRESHOLD", "FileReaders"]

#: Gray value above which a pixel of a mask lies inside, of 0 to 255.
MASK_THRESHOLD = 127.0


class FileReaders:
    """The `from_` methods of sets of files; each makes records and hands them to one maker."""

    @classmethod
    @abstractmethod
    def _made(cls, records: Records, *, classes: Any, positive: Any, **fields: Any) -> Self:
        """Decide the classes and make the set."""

    @classmethod
    def from_folder(
        cls,
        root: str | PathLike[str],
        *,
        group: str | None = None,
        mask: str | None = None,
        mask_threshold: float = MASK_THRESHOLD,
        views: Mapping[str, str] | None = None,
        classes: Sequence[str | int] | None = None,
        positive: str | int | None = None,
    ) -> Self:
        """Read class folders: `root/class/image`, or `root/split/class/image`.

        Args:
            root: The folder. Images may lie at any depth below their class.
            group: A regular expression searched in each path below `root` (with `/`);
                its first group, or the whole match, names the record's group.
            mask: A pattern of the masks' names with `<stem>` for the image's name without
                extension: `<stem>_mask*` beside the image, or with a `/` a path below `root`,
                where `<folder>` stands for the image's folder. Masks are no images of the set.
            mask_threshold: The value above which a pixel of a mask lies inside.
            views: Patterns like that of masks by names of other pictures of the same records.
            classes: The classes in order; default is alphabetical, or by number.
            positive: The class of sensitivity and thresholds; default is the rarer of two.

        Returns:
            The set, with the splits `train`, `val` and `test` where the folders say so.

        Raises:
            ConfigError: if an option is of the wrong type.
            DataError: if there are no images, a path does not match `group`, or an image has
                several masks.
        """
        place, group = arguments.path("root", root), arguments.expression(group)
        patterns = _patterns(mask, views)
        source = {"from": "folder", "root": str(root), "group": group, "mask": mask, "views": views}
        records = folders.from_class_folders(place, group=group, patterns=patterns)
        options = {"classes": classes, "positive": positive, "mask_threshold": mask_threshold}
        return cls._made(records, root=place, source=source, **options)

    @classmethod
    def from_csv(  # noqa: PLR0913 (one option a role)
        cls,
        path: str | PathLike[str],
        *,
        root: str | PathLike[str] | None = None,
        image: str = "image",
        label: str | Sequence[str] = "label",
        label_separator: str | None = None,
        group: str | None = None,
        split: str | None = None,
        weight: str | None = None,
        mask: str | None = None,
        mask_threshold: float = MASK_THRESHOLD,
        views: Mapping[str, str] | None = None,
        match: str = "path",
        delimiter: str | None = None,
        encoding: str = "utf-8",
        classes: Sequence[str | int] | None = None,
        positive: str | int | None = None,
    ) -> Self:
        """Read a table of images.

        Args:
            path: The file; `.tsv` files are separated by tabs, others by commas.
            root: The folder that the image paths are below; default is the file's.
            image: The column of image paths.
            label: The column of labels, words or whole numbers; or several columns of 0 and 1
                where a record may have several labels, or none.
            label_separator: What stands between labels where one column holds several.
            group: The column of groups, or a regular expression searched in each image path.
            split: The column that says `train`, `val` or `test`.
            weight: The column of the records' weights in the training loss, from 0 on.
            mask: The column of masks (images or Pascal VOC boxes, `.xml`; empty for none), or a
                pattern as in `from_folder`.
            mask_threshold: The value above which a pixel of a mask lies inside.
            views: Columns, or patterns, by names of other pictures of the same records.
            match: `path`, or `stem`: images are named without folder or with any extension.
            delimiter: What stands between columns; default is by the file's name.
            encoding: The encoding of the file.
            classes: The classes in order; default is alphabetical, or by number.
            positive: The class of sensitivity and thresholds; default is the rarer of two.

        Returns:
            The set; other columns are kept in `frame`, with an underscore behind the names
            of roles (`id`, `label`, `group`, `split`, `weight`, `mask`).

        Raises:
            ConfigError: if an option is of the wrong type.
            DataError: if a column, a label or a file is missing, named with its row.
        """
        file = arguments.path("path", path)
        place = file.parent if root is None else arguments.path("root", root)
        columns = Columns(
            image=image,
            label=label,
            label_separator=label_separator,
            group=group,
            split=split,
            weight=weight,
            mask=mask,
            views=views,
        )
        table, rows = tables.read_table(
            file, words=columns.words(), delimiter=arguments.sign(delimiter), encoding=arguments.encoding(encoding)
        )
        records = to_records(table, place, columns, stems=arguments.by_stem(match), rows=rows)
        source = {"from": "csv", "path": str(path), "root": str(place), **attrs.asdict(columns)}
        source |= {"match": match, "delimiter": delimiter, "encoding": encoding}
        options = {"classes": classes, "positive": positive, "mask_threshold": mask_threshold}
        return cls._made(records, root=place, source=source, **_order(columns, options))

    @classmethod
    def from_frame(  # noqa: PLR0913
        cls,
        frame: Any,
        *,
        root: str | PathLike[str] = ".",
        image: str = "image",
        label: str | Sequence[str] = "label",
        label_separator: str | None = None,
        group: str | None = None,
        split: str | None = None,
        weight: str | None = None,
        mask: str | None = None,
        mask_threshold: float = MASK_THRESHOLD,
        views: Mapping[str, str] | None = None,
        match: str = "path",
        classes: Sequence[str | int] | None = None,
        positive: str | int | None = None,
    ) -> Self:
        """Take a data frame of pandas or polars, or a table of pyarrow.

        Args:
            frame: The frame; the other arguments are those of `from_csv`.
            root: The folder that the image paths are below.
            image: The column of image paths.
            label: The column of labels, or several of 0 and 1.
            label_separator: What stands between labels where one column holds several.
            group: The column of groups, or a regular expression searched in each image path.
            split: The column that says `train`, `val` or `test`.
            weight: The column of the records' weights in the training loss.
            mask: The column of masks, or a pattern.
            mask_threshold: The value above which a pixel of a mask lies inside.
            views: Columns, or patterns, of other pictures by name.
            match: `path`, or `stem`.
            classes: The classes in order; default is alphabetical, or by number.
            positive: The class of sensitivity and thresholds; default is the rarer of two.

        Returns:
            The set.

        Raises:
            ConfigError: if an option is of the wrong type.
            DataError: if a column, a label or a file is missing, named with its position from 0.
        """
        place = arguments.path("root", root)
        columns = Columns(
            image=image,
            label=label,
            label_separator=label_separator,
            group=group,
            split=split,
            weight=weight,
            mask=mask,
            views=views,
        )
        records = to_records(tables.to_pandas(frame), place, columns, stems=arguments.by_stem(match))
        options = {"classes": classes, "positive": positive, "mask_threshold": mask_threshold}
        return cls._made(records, root=place, **_order(columns, options))

    @classmethod
    def from_lines(
        cls,
        path: str | PathLike[str],
        *,
        root: str | PathLike[str],
        name: str = "%06d.jpg",
        first: int = 1,
        group: str | None = None,
        encoding: str = "utf-8",
        classes: Sequence[str | int] | None = None,
        positive: str | int | None = None,
    ) -> Self:
        """Read a text with one label a line; the number of the line names the image.

        Args:
            path: The text file, without header.
            root: The folder of the images.
            name: The path of an image below `root` with a place for its number.
            first: The number of the first line's image.
            group: A regular expression searched in each image path.
            encoding: The encoding of the file.
            classes: The classes in order; default is alphabetical, or by number.
            positive: The class of sensitivity and thresholds; default is the rarer of two.

        Returns:
            The set.

        Raises:
            ConfigError: if an option is of the wrong type.
            DataError: if a line is empty, an image is missing, or there are more images than lines.
        """
        file, place = arguments.path("path", path), arguments.path("root", root)
        if not isinstance(first, int) or isinstance(first, bool) or first < 0:
            raise rejected("first", "be a whole number of at least 0", first)
        if not isinstance(name, str):
            raise rejected("name", "be a path with a place for a number", name)
        lines = tables.read_lines(file, encoding=arguments.encoding(encoding))
        records = folders.from_lines(lines, root=place, name=name, first=first, group=arguments.expression(group))
        source = {"from": "lines", "path": str(path), "root": str(root), "name": name, "first": first, "group": group}
        source |= {"encoding": encoding}
        return cls._made(records, root=place, source=source, classes=classes, positive=positive)

    @classmethod
    def from_names(
        cls,
        root: str | PathLike[str],
        *,
        pattern: str,
        mask: str | None = None,
        mask_threshold: float = MASK_THRESHOLD,
        views: Mapping[str, str] | None = None,
        classes: Sequence[str | int] | None = None,
        positive: str | int | None = None,
    ) -> Self:
        r"""Read the labels from the names of the images.

        Args:
            root: The folder, searched at any depth.
            pattern: A regular expression searched in each path below `root`, with named groups
                `label` and, if wanted, `group` and `split`, such as
                `(?P<group>person\d+)_(?P<label>bacteria|virus)`.
            mask: A pattern of the masks' names, as in `from_folder`.
            mask_threshold: The value above which a pixel of a mask lies inside.
            views: Patterns by names of other pictures of the same records.
            classes: The classes in order; default is alphabetical, or by number.
            positive: The class of sensitivity and thresholds; default is the rarer of two.

        Returns:
            The set.

        Raises:
            ConfigError: if an option is of the wrong type, or the expression has no `label`.
            DataError: if there are no images, or one does not match.
        """
        place = arguments.path("root", root)
        if not isinstance(pattern, str):
            raise rejected("pattern", "be a regular expression as text", pattern)
        records = folders.from_names(place, pattern=pattern, patterns=_patterns(mask, views))
        source = {"from": "names", "root": str(root), "pattern": pattern, "mask": mask, "views": views}
        options = {"classes": classes, "positive": positive, "mask_threshold": mask_threshold}
        return cls._made(records, root=place, source=source, **options)


# Columns of 0 and 1 are the classes, in their order.
def _order(columns: Columns, options: dict[str, Any]) -> dict[str, Any]:
    if options["classes"] is None and isinstance(columns.label, tuple):
        return options | {"classes": list(columns.label)}
    return options


def _patterns(mask: Any, views: Any) -> dict[str, str]:
    columns = Columns(mask=mask, views=views)
    named = {MASK: ("mask", columns.mask)} if columns.mask is not None else {}
    named |= {view_column(view): (f"views.{view}", pattern) for view, pattern in columns.views.items()}
    for option, pattern in named.values():
        if not is_pattern(str(pattern)):
            raise ConfigError(f"'{option}' must be a pattern with '<stem>', got {pattern!r}; such as '<stem>_mask*'")
    return {column: str(pattern) for column, (_, pattern) in named.items()}
