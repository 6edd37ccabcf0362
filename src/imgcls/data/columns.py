"""Which columns of a table mean what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from imgcls.core.errors import DataError, listing
from imgcls.core.options import rejected, texts

__all__ = ["MASK", "ROLES", "VIEW", "Columns", "is_expression", "is_pattern", "view_column"]

#: The column of a frame with the masks.
MASK = "mask"

#: What the columns of a frame with other views begin with.
VIEW = "view:"

#: The columns of a frame that mean something.
ROLES = ("id", "label", "group", "split", "weight", MASK)


def view_column(name: str) -> str:
    """Name the column of a frame that holds the files of a view.

    Args:
        name: The view.

    Returns:
        The column.
    """
    return VIEW + name


def _column(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, str):
        raise rejected(field.name, "be the name of a column", value)


def _optional(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise rejected(field.name, "be the name of a column, or None", value)


def _group(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise rejected(field.name, "be a column or a regular expression", value)


def _labels(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    several = isinstance(value, tuple) and value and all(isinstance(name, str) for name in value)
    if not (isinstance(value, str) or several):
        raise rejected(field.name, "be the name of a column, or of several", value)
    if several and len(set(value)) < len(value):
        raise rejected(field.name, "name each column once", value)


def _mapping(value: Any) -> Any:
    return {} if value is None else value


def _views(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    named = isinstance(value, Mapping) and all(
        isinstance(part, str) and part for pair in value.items() for part in pair
    )
    if not named:
        raise rejected(field.name, "give columns or patterns by the names of views", value)


@attrs.frozen(kw_only=True)
class Columns:
    """Which columns of a table mean what.

    Attributes:
        image: The image paths.
        label: The labels; several columns of 0 and 1 where a record may have several.
        label_separator: What stands between labels where one column holds several.
        group: The groups, or a regular expression searched in the image paths.
        split: The splits.
        weight: The weights of the records in the loss.
        mask: The masks, or a pattern with `<stem>`.
        views: Columns or patterns of other pictures of the same records, by name.
    """

    image: str = attrs.field(default="image", validator=_column)
    label: str | tuple[str, ...] = attrs.field(default="label", converter=texts, validator=_labels)
    label_separator: str | None = attrs.field(default=None, validator=_optional)
    group: str | None = attrs.field(default=None, validator=_group)
    split: str | None = attrs.field(default=None, validator=_optional)
    weight: str | None = attrs.field(default=None, validator=_optional)
    mask: str | None = attrs.field(default=None, validator=_optional)
    views: Mapping[str, str] = attrs.field(factory=dict, converter=_mapping, validator=_views)

    def __attrs_post_init__(self) -> None:
        if self.label_separator is not None and (not self.label_separator or isinstance(self.label, tuple)):
            raise rejected("label_separator", "be left out, or go with one column of labels", self.label_separator)

    @property
    def multilabel(self) -> bool:
        """Whether a record may have several labels, or none."""
        return self.label_separator is not None or isinstance(self.label, tuple)

    @property
    def labels(self) -> tuple[str, ...]:
        """The columns of labels."""
        return self.label if isinstance(self.label, tuple) else (self.label,)

    def named(self) -> dict[str, str]:
        """Name the columns that a table must have, other than those of labels.

        Returns:
            The columns by role; without groups, masks and views, which may be patterns.
        """
        found = {"image": self.image, "split": self.split, "weight": self.weight}
        return {role: name for role, name in found.items() if name is not None}

    def check(self, columns: Iterable[str]) -> None:
        """Check that a table has the columns.

        Args:
            columns: Those of the table.

        Raises:
            DataError: if one is missing.
        """
        known = list(columns)
        wanted = [*self.named().items(), *(("label", name) for name in self.labels)]
        optional = {"group": self.group, "mask": self.mask, **{f"views.{k}": name for k, name in self.views.items()}}
        for role, name in optional.items():
            if name is not None and not (is_expression(name) if role == "group" else is_pattern(name)):
                wanted.append((role, name))
        for role, name in wanted:
            if name not in known:
                raise DataError(f"'{role}' must name a column, got {name!r}; the table has {listing(known)}")

    def words(self) -> list[str]:
        """Name the columns that are read as text, whatever they hold.

        Returns:
            The columns.
        """
        roles = [self.image, *self.labels, self.group, self.split, self.mask, *self.views.values()]
        return [name for name in roles if name is not None]

    def used(self, columns: Iterable[str]) -> list[str]:
        """Name the columns of a table that have a role.

        Args:
            columns: Those of the table.

        Returns:
            The columns, each once.
        """
        roles = {*self.words(), *self.named().values()}
        return [name for name in columns if name in roles]


def is_expression(group: str) -> bool:
    """Tell whether a group that is no column is meant as a regular expression.

    Args:
        group: What was given as `group`.

    Returns:
        Whether it has signs of one.
    """
    return any(sign in group for sign in r"\()[]+*?^$|")


def is_pattern(name: str) -> bool:
    """Tell whether a mask or view that is no column is meant as a pattern of file names.

    Args:
        name: What was given.

    Returns:
        Whether it names the image in it.
    """
    return "<stem>" in name
