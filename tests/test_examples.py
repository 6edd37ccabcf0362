"""The examples run, smaller than they stand, and say what they are about."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

#: Of each example the options that make it small, a word that it prints and a file that it leaves.
SMALL: dict[str, tuple[dict[str, Any], str, str]] = {
    "quickstart": ({"epochs": 1}, "decision", "report.html"),
    "custom_backbone": ({"epochs": 1}, "accuracy", "attributions/grad-cam-test/maps.npz"),
    "custom_splitter": ({"epochs": 1}, "['block-10', 'block-11', 'block-12']", "run.json"),
    "two_stages": ({"epochs": 1}, "val_accuracy", "after/run.json"),
    "thresholds": ({"epochs": 1}, "sensitivity>=0.95, of model mean", "thresholds.json"),
    "lrp_masks": ({"num": 64, "epochs": 1, "limit": 4}, "pointing", "compared/differences.csv"),
    "cam_against_rollout": ({"num": 64, "epochs": 1, "limit": 4}, "vit rollout", "compared/sheet.png"),
    "planted_patch": ({"num": 64, "epochs": 1}, "rollout: 'model' must have attention", "compared/lrp/means.csv"),
    "search": ({"trials": 2, "epochs": 1}, "of the best trial on test", "best.yaml"),
    "resume": ({}, "the same bits: True", "whole/run.json"),
    "predict_and_export": ({"epochs": 1}, "the same within", "exports/onnx/model.onnx"),
}


def _loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # what a file defines can be copied and pickled
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", SMALL)
def test_an_example_runs(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options, word, file = SMALL[name]
    _loaded(name).main(str(tmp_path / "run"), **options)
    assert word in capsys.readouterr().out
    assert (tmp_path / "run" / file).exists()


def test_the_example_for_torchrun_runs_in_two_processes(tmp_path: Path) -> None:
    torchrun = [str(Path(sys.executable).with_name("torchrun")), "--nproc_per_node", "2", "--standalone"]
    command = [*torchrun, str(EXAMPLES / "under_torchrun.py"), str(tmp_path / "run")]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "2 processes; accuracy" in done.stdout


def test_every_example_is_short_and_runs_here() -> None:
    paths = list(EXAMPLES.glob("*.py"))
    assert {path.stem for path in paths} == {*SMALL, "under_torchrun"}
    for path in paths:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 40
