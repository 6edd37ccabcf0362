"""Files of predictions: a table, JSON, or bare decisions as other programs read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from imgcls.core import options
from imgcls.core.errors import DataError
from imgcls.core.folders import write_text
from imgcls.inference.deciding import Decider

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FORMATS", "write_predictions"]


def write_predictions(path: Path, table: pd.DataFrame, decider: Decider, *, form: str | None = None) -> None:
    """Write predictions.

    Args:
        path: The file.
        table: As `Run.predict` gives it.
        decider: What decided.
        form: `csv`; `json`, a list of objects with the columns of the table; `lines`, for two classes a line an image,
            1 for the positive one, and their probabilities likewise in a file with `.proba` behind its name; or
            `indices`, a JSON list with the number of the class of each image. None goes by the ending of the file.

    Raises:
        ConfigError: if there is no such format, or it cannot hold what there is.
        DataError: if a format without names has no place for unreadable files.
    """
    wanted = path.suffix.lower().removeprefix(".") if form is None else form
    if wanted not in FORMATS:
        named = "end in .csv or .json, or come with a format" if form is None else f"be one of {list(FORMATS)}"
        raise options.rejected("out" if form is None else "format", named, str(path) if form is None else form)
    FORMATS[wanted](path, table, decider)


def _write_csv(path: Path, table: pd.DataFrame, decider: Decider) -> None:
    del decider
    write_text(path, table.to_csv(index=False))


def _write_json(path: Path, table: pd.DataFrame, decider: Decider) -> None:
    del decider
    rows = table.astype(object).where(table.notna(), None).to_dict("records")  # JSON has no "not a number"
    write_text(path, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


def _write_lines(path: Path, table: pd.DataFrame, decider: Decider) -> None:
    if decider.positive is None:
        raise options.rejected("format", "be another one than 'lines' without a positive class of two", "lines")
    _check_whole(table, "lines")
    decided = (table["decision"] == decider.positive).astype(int)
    write_text(path, "".join(f"{value}\n" for value in decided))
    probs = table[f"prob_{decider.positive}"].tolist()
    write_text(path.with_name(f"{path.name}.proba"), "".join(f"{value!r}\n" for value in probs))


def _write_indices(path: Path, table: pd.DataFrame, decider: Decider) -> None:
    if decider.multilabel:
        raise options.rejected("format", "be another one than 'indices' for several labels", "indices")
    _check_whole(table, "indices")
    write_text(path, json.dumps([decider.classes.index(name) for name in table["decision"]]) + "\n")


# Without names a file that is left out would shift all that follow.
def _check_whole(table: pd.DataFrame, form: str) -> None:
    unread = table["path"][table["error"] != ""].tolist() if "error" in table else []
    if unread:
        raise DataError(
            f"'images' must all be readable for the format {form!r}, which names no files, got {len(unread)} that are "
            f"not, such as {unread[0]!r}; write 'csv'"
        )


#: The formats by name.
FORMATS: Mapping[str, Callable[[Path, pd.DataFrame, Decider], None]] = MappingProxyType(
    {"csv": _write_csv, "json": _write_json, "lines": _write_lines, "indices": _write_indices}
)
