"""Explanations of trained networks find a planted patch."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "benchmarks" / "planted_patch.py"

#: What each method must reach at least; the patch covers 0.0625 of the image.
LEAST: dict[str, dict[str, dict[str, float]]] = {
    "test_resnet": {"lrp": {"mass": 0.5, "average precision": 0.85, "pointing": 1.0}},
    "test_vit": {"lrp": {"mass": 0.6}, "rollout": {"rank": 0.5}},
}


@pytest.mark.slow
@pytest.mark.parametrize("model", LEAST)
def test_a_planted_patch_is_found(model: str, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("planted_patch", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    rows = {row["method"]: row for row in script.measured(model, tmp_path / "run")}
    assert float(rows["random"]["mass"]) == pytest.approx(0.0625, abs=0.01)
    for method, scores in LEAST[model].items():
        for name, least in scores.items():
            assert float(rows[method][name]) >= least, (method, rows[method])
