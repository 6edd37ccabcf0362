"""The data of a run, in counts and pictures: classes, groups, what else is known, and what a check found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from imgcls.core.randomness import generator
from imgcls.data.labels import SEPARATOR
from imgcls.report.material import Material
from imgcls.report.mistakes import Images
from imgcls.report.pictures import Picture
from imgcls.report.words import shared_groups

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DataCard", "data_card"]

#: Classes with pictures, pictures of each, and the side of a picture in pixels.
_CLASSES, _SAMPLES, _SIDE = 8, 6, 140

#: Columns that are told of, and how many values one may have.
_COLUMNS, _VALUES = 6, 8


@attrs.frozen(kw_only=True, eq=False)
class DataCard:
    """What the page says of the data.

    Attributes:
        records: How many there are.
        groups: How many groups; None without any.
        classes: Rows with `name`, `records`, `share` and `groups`.
        columns: What else is known: the name of a column and its values with counts.
        leaks: What was looked for between training and judgement, and what was found.
        samples: By class some pictures.
    """

    records: int
    groups: int | None
    classes: list[dict[str, Any]]
    columns: list[tuple[str, str]]
    leaks: list[str]
    samples: list[tuple[str, list[Picture]]]


def data_card(material: Material, images: Images, checked: pd.DataFrame | None = None) -> DataCard | None:
    """Describe the data.

    Args:
        material: The run.
        images: Where pictures come from.
        checked: The findings of a check of the set, if there was one.

    Returns:
        The card; None where nothing is known of the records.
    """
    table = material.manifest
    if table is None or "label" not in table:
        return None
    groups = table["group"] if "group" in table and (table["group"] != "").any() else None
    marks = {name: _has(table["label"], name) for name in _names(material, table)}
    return DataCard(
        records=len(table),
        groups=None if groups is None else groups.nunique(),
        classes=[
            {
                "name": name,
                "records": int(mark.sum()),
                "share": f"{mark.mean():.1%}",
                "groups": "" if groups is None else groups[mark].nunique(),
            }
            for name, mark in marks.items()
        ],
        columns=_columns(table),
        leaks=_leaks(material, checked, grouped=groups is not None),
        samples=_samples(table, marks, images),
    )


def _names(material: Material, table: pd.DataFrame) -> Sequence[str]:
    known = material.model.get("classes")
    return [str(name) for name in known] if known else sorted(table["label"].unique())


def _has(labels: pd.Series, name: str) -> pd.Series:
    whole: pd.Series = (SEPARATOR + labels + SEPARATOR).str.contains(f"{SEPARATOR}{name}{SEPARATOR}", regex=False)
    return whole


def _columns(table: pd.DataFrame) -> list[tuple[str, str]]:
    found = []
    for name in table.columns.difference(["id", "label", "group"], sort=False):
        counts = table[name].value_counts()
        if 1 < len(counts) <= _VALUES:
            found.append((str(name), ", ".join(f"{value or 'missing'} ({count})" for value, count in counts.items())))
    return found[:_COLUMNS]


def _leaks(material: Material, checked: pd.DataFrame | None, *, grouped: bool) -> list[str]:
    if not grouped:
        lines = ["The set has no groups, so images that belong together may be on both sides unnoticed."]
    elif shared_groups(material):
        lines = ["Groups are on both sides of a fold; see the warnings."]
    else:
        lines = ["No group is in training and in validation or test of the same fold."]
    if checked is None:
        return [*lines, "The pixels were not compared; run.report(check=True) looks for duplicates across parts."]
    across = checked[checked["kind"].str.contains("across")]
    found = [f"{severity} {kind}: {len(rows)}" for (severity, kind), rows in checked.groupby(["severity", "kind"])]
    some = f"{len(across)} findings across parts" if len(across) else "no duplicate across parts"
    return [*lines, f"All pixels were compared: {some}. All findings: {'; '.join(found) or 'none'}."]


def _samples(table: pd.DataFrame, marks: dict[str, pd.Series], images: Images) -> list[tuple[str, list[Picture]]]:
    if not images.sets:
        return []
    found = []
    for name, mark in list(marks.items())[:_CLASSES]:
        places = np.flatnonzero(mark)
        chosen = generator(0, "report", name).choice(places, size=min(_SAMPLES, len(places)), replace=False)
        ids = [str(table["id"].iloc[place]) for place in sorted(chosen.tolist())]
        pictures = [images.of(one, one, side=_SIDE) for one in ids]
        found.append((name, [picture for picture in pictures if picture is not None and picture.source]))
    return [(name, pictures) for name, pictures in found if pictures]
