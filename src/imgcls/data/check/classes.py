"""Counts and statistics of each class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imgcls.data.dataset import Dataset

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["class_table"]


def class_table(dataset: Dataset, files: pd.DataFrame) -> pd.DataFrame:
    """Count records and groups of each class and describe its images.

    Args:
        dataset: The set.
        files: The table of its `Scan`.

    Returns:
        A row per label text, see `CheckReport.classes`.
    """
    import pandas as pd

    table = files.assign(group=dataset.groups, split=dataset.splits)
    splits = [name for name in ("train", "val", "test") if (table["split"] == name).any()]
    rows = [_row(str(label), rows, len(files), splits) for label, rows in table.groupby("label", sort=False)]
    frame = pd.DataFrame(rows)
    # Labels in the order of the classes, combinations of several behind them.
    order = {name: place for place, name in enumerate(dataset.classes)}
    frame = frame.sort_values("label", key=lambda names: names.map(order).fillna(len(order)), kind="stable")
    return frame.dropna(axis="columns", how="all").reset_index(drop=True)


def _row(label: str, rows: pd.DataFrame, records: int, splits: list[str]) -> dict[str, Any]:
    good = rows[rows["readable"]]
    return {
        "label": label,
        "records": len(rows),
        "share": round(len(rows) / records, 4),
        "groups": rows["group"].nunique() if rows["group"].notna().any() else None,
        **{name: int((rows["split"] == name).sum()) for name in splits},
        "unreadable": len(rows) - len(good),
        "width": _spread(good["width"]),
        "height": _spread(good["height"]),
        "channels": ", ".join(map(str, sorted(good["channels"].unique()))),
        "bits": ", ".join(map(str, sorted(good["bits"].unique()))),
        "brightness": round(float(good["mean"].mean()), 1),
        "contrast": round(float(good["std"].mean()), 1),
    }


def _spread(values: Any) -> str:
    if not len(values):
        return ""
    low, middle, high = int(values.min()), int(values.median()), int(values.max())
    return str(middle) if low == high else f"{middle} ({low} to {high})"
