"""The tracker of the page on trackers runs as it stands."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "trackers.md"


def test_the_tracker_of_the_page_conforms(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (block,) = [block for block in blocks if "check_tracker(" in block]
    module = types.ModuleType("page")  # so that its classes can be pickled, as those of a file can
    monkeypatch.setitem(sys.modules, "page", module)
    exec(compile(block, "page", "exec"), module.__dict__)


def test_every_tracker_stands_in_the_table_of_the_page() -> None:
    from imgcls import trackers

    listed = re.findall(r"^\| `([a-z-]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(set(trackers.names()))
