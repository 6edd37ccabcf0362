"""What was explained of a run, as its folder `attributions` holds it: panels, scores, warnings of shortcuts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

__all__ = ["Explained", "Panel", "read_explained"]


@attrs.frozen(kw_only=True)
class Panel:
    """A picture of an image, its map and both.

    Attributes:
        file: A PNG file.
        id: The record.
        caption: What it shows, in words.
    """

    file: Path
    id: str
    caption: str


@attrs.frozen(kw_only=True)
class Explained:
    """All that was explained.

    Attributes:
        warned: Pictures of shortcuts.
        warnings: What they warn of, in sentences.
        panels: Pictures of single records.
        scores: By folder the rows of `score_means.csv`: how maps agree with masks.
    """

    warned: tuple[Panel, ...]
    warnings: tuple[str, ...]
    panels: tuple[Panel, ...]
    scores: Mapping[str, list[dict[str, str]]]


def read_explained(folder: Path) -> Explained:
    """Read what was explained.

    Args:
        folder: The run's folder.

    Returns:
        What there is; pictures that are gone are left out.
    """
    warned, panels, scores = [], [], {}
    for place in sorted(folder.glob("attributions/*/")):
        found = [row for row in _table(place / "shortcuts.csv") if row.get("warning")]
        warned += [_panel(place, row, "", f"Warning, {row['method']}: {row['warning']}") for row in found]
        panels += [_panel(place, row, row["id"], _caption(row)) for row in _table(place / "index.csv")]
        if rows := [row for row in _table(place / "score_means.csv") if not row["value"]]:  # of all images
            scores[place.name] = rows
    return Explained(
        warned=tuple(panel for panel in warned if panel.file.is_file()),
        warnings=tuple(panel.caption.removeprefix("Warning, ") for panel in warned),
        panels=tuple(panel for panel in panels if panel.file.is_file()),
        scores=scores,
    )


def _panel(place: Path, row: Mapping[str, str], name: str, caption: str) -> Panel:
    return Panel(file=place / row["file"], id=name, caption=caption)


def _table(path: Path) -> list[dict[str, str]]:
    import pandas as pd

    if not path.exists():
        return []
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _caption(row: Mapping[str, str]) -> str:
    said = f"true {row['label'] or 'none'}, decided {row['decision'] or 'none'}"
    target = row.get("target", row["decision"])
    of = "" if target == row["decision"] else f"map of {target}, "
    return f"{row['method']}: {row['id']}, {said} ({of}p = {float(row['prob']):.2f})"
