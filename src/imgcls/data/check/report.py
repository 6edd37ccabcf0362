"""What a check found, as tables, as text and as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.core.folders import write_json
from imgcls.data.check.page import Content, write_page
from imgcls.data.check.problems import SEVERITIES
from imgcls.data.dataset import Dataset

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CheckReport"]

#: Findings of one kind that the text names.
_NAMED = 3


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CheckReport:
    """What was found in a set.

    Attributes:
        problems: The findings, gravest first: `severity` (`error`, `warning` or `note`), `kind`,
            `id` (the record or group; empty for the whole set), `other`, `detail`.
        pairs: Duplicates: ids `a` and `b`, `kind` (`exact`, `near` or `embedding`), `similarity`
            (correlation of the pictures; of the kind `embedding` the cosine), `flipped`,
            `same_label`, `same_group` (None without groups) and `across`: the divisions that have
            the pair on two sides, such as `split: train|test; fold 0: val|train`, or empty.
        files: A row per record: `id`, `label`, `readable`, `format`, `width`, `height`, `channels`,
            `bits`, `low`, `high`, `mean`, `std` (of the pixel values as stored), `reason`.
        classes: A row per label: `label`, `records`, `share`, `groups`, `train`, `val`, `test`
            (where known), `unreadable`, `width` and `height` (median and range), `channels`, `bits`,
            `brightness` and `contrast` (means of the images' means and standard deviations).
        copies: Ids of the records of each group of equal images.
        missing_groups: Names of groups that share images, so that they may be one.
        threshold: The correlation from which pairs are near; None where it was not looked for.
        num_compared: Images that were compared for near duplicates.
        map: Coordinates of the embeddings (N, 2), or None.
        dataset: The set, whose images the page shows.
    """

    problems: pd.DataFrame
    pairs: pd.DataFrame
    files: pd.DataFrame
    classes: pd.DataFrame
    copies: tuple[tuple[str, ...], ...]
    missing_groups: tuple[tuple[str, ...], ...]
    threshold: float | None
    num_compared: int
    map: NDArray[np.float64] | None
    dataset: Dataset

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings and notes may be there."""
        return not (self.problems["severity"] == "error").any()

    @property
    def num_surplus(self) -> int:
        """Records beyond the first of each group of equal images."""
        return sum(len(group) - 1 for group in self.copies)

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return f"CheckReport(ok={self.ok}, {_counted(self.problems)})"

    def summary(self) -> str:
        """Say in a few lines what was found.

        Returns:
            The text: a headline, the classes, and each kind of finding with its count and first cases.
        """
        kinds = (self.pairs["kind"] == kind for kind in ("exact", "near", "embedding"))
        exact, near, alike = (int(found.sum()) for found in kinds)
        head = f"{len(self.files)} images in {len(self.dataset.classes)} classes: {_counted(self.problems)}"
        lines = [head, f"duplicates: {self.num_surplus} surplus records, {exact} exact and {near} near pairs"]
        lines += [f"alike by embedding: {alike} pairs"] if alike else []
        lines += [
            f"  {str(row.label) or '(no label)'}: {row.records} images" for row in self.classes.head(20).itertuples()
        ]
        for (severity, kind), rows in self.problems.groupby(["severity", "kind"], sort=False):
            lines.append(f"{severity}: {kind} ({len(rows)})")
            lines += [f"  {_line(row)}" for row in rows.head(_NAMED).itertuples()]
            lines += [f"  and {len(rows) - _NAMED} more"] if len(rows) > _NAMED else []
        return "\n".join(lines)

    def save(self, path: Path | str) -> Path:
        """Write one HTML page that needs nothing else; images are read again for it.

        Args:
            path: The file.

        Returns:
            The file.
        """
        content = Content(
            dataset=self.dataset,
            problems=self.problems,
            pairs=self.pairs,
            classes=self.classes,
            copies=self.copies,
            missing_groups=self.missing_groups,
            threshold=self.threshold,
            num_compared=self.num_compared,
            map=self.map,
        )
        write_page(Path(path), content)
        return Path(path)

    def to_json(self, path: Path | str) -> Path:
        """Write all tables into one JSON file.

        Args:
            path: The file.

        Returns:
            The file.
        """
        names = ("problems", "pairs", "files", "classes")
        tables = {name: _rows(getattr(self, name)) for name in names}
        facts = {"ok": self.ok, "num_surplus": self.num_surplus, "threshold": self.threshold}
        groups = {"copies": self.copies, "missing_groups": self.missing_groups}
        write_json(Path(path), {**facts, **groups, **tables})
        return Path(path)


def _counted(problems: pd.DataFrame) -> str:
    counts = problems["severity"].value_counts()
    numbers = [(int(counts.get(name, 0)), name) for name in SEVERITIES]
    return ", ".join(f"{number} {name}{'' if number == 1 else 's'}" for number, name in numbers)


def _line(row: Any) -> str:
    subject = " and ".join(name for name in (row.id, row.other) if name)
    return f"{subject}: {row.detail}" if subject else str(row.detail)


# JSON has no NaN and no number of another library.
def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    plain = table.astype(object).where(table.notna(), None)
    return [{str(name): _plain(value) for name, value in row.items()} for row in plain.to_dict("records")]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
