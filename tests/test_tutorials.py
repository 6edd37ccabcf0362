"""The notebooks of the tutorials run from their first cell to their last."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))

#: Those on real images.
REAL = {"grouped_study", "defects"}

RUN = "import sys; sys.path.insert(0, 'benchmarks'); from pathlib import Path; from tutorials import executed; "
RUN += "executed(Path(sys.argv[1]), Path(sys.argv[2]))"


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [pytest.param(each, marks=[pytest.mark.realdata] * (each.stem in REAL), id=each.stem) for each in NOTEBOOKS]
)
def test_a_tutorial_runs(path: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, str(path), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_tutorial_is_kept_as_it_ran(path: Path) -> None:
    code = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell["outputs"] if output["output_type"] == "error"]
    assert path.stat().st_size < 500_000
