"""Where a run is wrong, in pictures: its worst errors, and labels that are probably wrong themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from imgcls.data.dataset import Dataset
from imgcls.evaluation.errors import confused_pairs
from imgcls.report.explained import Explained
from imgcls.report.material import Material
from imgcls.report.pictures import Album, Picture

__all__ = ["Errors", "Images", "confused", "doubtful_labels", "worst_errors"]

#: Errors of a kind, and doubtful labels, that are shown; and pairs of classes.
_ERRORS, _DOUBTS, _PAIRS = 8, 8, 8

#: The longer side of their pictures in pixels.
_SIDE = 280


@attrs.frozen(kw_only=True, eq=False)
class Images:
    """Where pictures come from.

    Attributes:
        sets: The sets at hand: that of the run, and a test set outside of it.
        album: What embeds them.
    """

    sets: Sequence[Dataset] = ()
    album: Album = attrs.field(factory=Album)

    def of(self, name: str, caption: str, *, side: int = _SIDE) -> Picture | None:
        """Embed the image of a record.

        Args:
            name: Its id.
            caption: What it shows.
            side: The longer side in pixels.

        Returns:
            The picture; without a source where the image is not at hand, None where there is no room.
        """
        for data in self.sets:
            place = _places(data).get(name)
            if place is not None:
                return self.album.record(data, place, caption, side=side)
        return Picture(source="", caption=caption)


def _places(data: Dataset) -> Mapping[str, int]:
    return {name: place for place, name in enumerate(data.ids.tolist())}


@attrs.frozen(kw_only=True)
class Errors:
    """Errors of a kind.

    Attributes:
        title: The kind.
        mapped: Pictures with maps.
        plain: Pictures of those that were not explained.
    """

    title: str
    mapped: list[Picture]
    plain: list[Picture]


def worst_errors(material: Material, images: Images, explained: Explained) -> list[Errors]:
    """Show the errors that the models were surest of, with maps where there are any.

    Args:
        material: The run.
        images: Where pictures come from.
        explained: What was explained.

    Returns:
        The pictures, by kind of error.
    """
    table = material.hard_errors
    if table is None or table.empty:
        return []
    binary = material.final is not None and material.final.positive is not None
    kinds = list(dict.fromkeys(table["error_type"])) if binary else [""]
    panels = {panel.id: panel.file for panel in reversed(explained.panels)}
    words = {"FP": "False alarms", "FN": "Missed", "": "Errors"}
    found = []
    for kind in kinds:
        rows = table[table["error_type"] == kind] if kind else table
        told = {str(row["path"]): _said(row, material) for row in rows.head(_ERRORS).to_dict("records")}
        mapped = [images.album.file(panels[name], said) for name, said in told.items() if name in panels]
        plain = [images.of(name, said) for name, said in told.items() if name not in panels]
        found.append(Errors(title=words.get(kind, kind), mapped=_there(mapped), plain=_there(plain)))
    return found


def _there(pictures: Sequence[Picture | None]) -> list[Picture]:
    return [picture for picture in pictures if picture is not None]


def _said(row: Mapping[Any, Any], material: Material) -> str:
    final = material.final
    several = final is None or final.multilabel
    of = "" if final is None else f"probability of {final.positive or row['y_pred']}"
    score = f"loss {row['y_score']:.2f}" if several else f"{of} {row['y_score']:.3f}"
    return f"{row['path']}: true {row['y_true'] or 'none'}, decided {row['y_pred'] or 'none'}, {score}"


def confused(material: Material) -> list[dict[str, Any]]:
    """List which classes are taken for which.

    Args:
        material: The run.

    Returns:
        Rows of `confused_pairs`; nothing with two classes, whose confusion matrix says it all.
    """
    final = material.final
    if final is None or final.positive is not None:
        return []
    rule = material.decision if any(t.rule == material.decision for t in material.thresholds) else ""
    rows = confused_pairs(final, material.thresholds, rule).head(_PAIRS).to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in rows]


def doubtful_labels(material: Material, images: Images) -> tuple[int, list[Picture]]:
    """Show records whose label is probably wrong.

    Args:
        material: The run.
        images: Where pictures come from.

    Returns:
        How many are suspected, and pictures of the most doubtful ones.
    """
    table = material.label_errors
    if table is None:
        return 0, []
    suspected = table[table["suspected"].astype(str) == "True"]
    return len(suspected), list(_doubts(suspected.head(_DOUBTS).to_dict("records"), images))


def _doubts(rows: Sequence[Mapping[Any, Any]], images: Images) -> Iterator[Picture]:
    for row in rows:
        said = f"{row['path']}: labelled {row['y_true'] or 'none'} (p = {row['p_label']:.2f}), speaks for "
        picture = images.of(str(row["path"]), f"{said}{row['suggested']} (p = {row['y_score']:.2f})")
        if picture is not None:
            yield picture
