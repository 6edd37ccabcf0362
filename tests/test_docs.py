"""The code of the pages runs as it stands."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "docs/quickstart.md", "docs/plugins.md"]


@pytest.mark.parametrize("page", PAGES)
def test_code_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("page")  # classes of the page can be pickled, as those of a file can
    monkeypatch.setitem(sys.modules, "page", module)
    for block in blocks:
        exec(compile(block, page, "exec"), module.__dict__)
    assert blocks
