"""The demonstration, shortened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imgcls.demo import digits, run_demo


def test_digits_have_thirteen_blocks_of_neighbours() -> None:
    data = digits()
    assert data.groups is not None
    assert (len(data), len(data.classes), len(np.unique(data.groups))) == (1797, 10, 13)
    assert np.all(np.diff(np.unique(data.groups, return_inverse=True)[1]) >= 0)


@pytest.mark.slow
def test_demo_reads_handwriting_of_unseen_blocks(tmp_path: Path) -> None:
    run = run_demo(tmp_path / "demo")
    assert run.value("accuracy")[0] >= 0.97
    assert (run.folder / "report.html").stat().st_size < 10_000_000
