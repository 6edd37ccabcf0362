"""A run to follow, and trackers that fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imgcls.tracking.base import RunInfo


@pytest.fixture
def info(tmp_path: Path) -> Callable[..., RunInfo]:
    def make(**options: Any) -> RunInfo:
        folder = tmp_path / "chest"
        folder.mkdir(exist_ok=True)
        config = {"stages": [{"lr": 0.1, "train": "head"}], "seed": 42, "augment": None, "note": "x" * 700}
        return RunInfo(folder=folder, config=config, fingerprint="abc", tags={"site": "Graz"}, **options)

    return make
