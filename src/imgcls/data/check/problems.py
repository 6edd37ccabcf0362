"""One finding about a set, and the table of all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SEVERITIES", "Problem", "table"]

#: From the gravest on.
SEVERITIES = ("error", "warning", "note")


@attrs.frozen(kw_only=True)
class Problem:
    """One finding.

    Attributes:
        severity: `error` makes a reported number wrong or training fail, `warning` may do so,
            `note` is worth knowing.
        kind: What was found, such as `unreadable`.
        id: The record or group; empty where it is about the whole set.
        other: The second record or group, or empty.
        detail: What a person should know about it.
    """

    severity: str
    kind: str
    id: str = ""
    other: str = ""
    detail: str = ""


def table(problems: Iterable[Problem]) -> pd.DataFrame:
    """Put findings into a table.

    Args:
        problems: The findings.

    Returns:
        A row each, the gravest first, with the fields of `Problem` as columns.
    """
    import pandas as pd

    rows = sorted(problems, key=lambda problem: SEVERITIES.index(problem.severity))
    names = [field.name for field in attrs.fields(Problem)]
    return pd.DataFrame([attrs.astuple(row) for row in rows], columns=names)
