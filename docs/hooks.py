"""Tables in the pages are made from the JSON files of real runs when the site is built."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace `<!-- table: NAME -->` by the rows of `results/NAME.json`.

    Args:
        markdown: The page.
        **_: What mkdocs says of the page.

    Returns:
        The page with its tables.
    """
    return re.sub(r"<!-- table: (\w+) -->", lambda match: _table(match.group(1)), markdown)


def _table(name: str) -> str:
    rows = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
