import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgcls.runtime.checkpoints import load_checkpoint
from imgcls.testing import blobs, write_image_folder

WORKER = Path(__file__).with_name("kills_worker.py")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")


def work(task: str, folder: Path, **options: Any) -> dict[str, Any]:
    write_image_folder(folder / "images", blobs(groups=16, size=8))
    command = [sys.executable, str(WORKER), task, str(folder), json.dumps(options)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=570, check=False)
    assert found.returncode == 0, found.stderr
    return dict(json.loads(found.stdout.splitlines()[-1]))


def check_same(folder: Path, run: str = "killed") -> None:
    """Compare two runs to the last bit, but for durations."""
    whole, killed = folder / "whole", folder / run
    for fold in ("fold_0", "fold_1"):
        for kind in ("best", "last"):
            one, other = (load_checkpoint(run / fold / "checkpoints" / kind) for run in (whole, killed))
            assert one.facts == other.facts
            for name, value in one.weights.items():
                assert np.array_equal(value.numpy(), other.weights[name].numpy()), (fold, kind, name)
        histories = [timeless(run / fold / "history.csv") for run in (whole, killed)]
        assert histories[0] == histories[1]
    for name in ("metrics.csv", "splits.json", "thresholds.json", "fold_0/fold.json", "fold_1/fold.json"):
        assert (whole / name).read_text() == (killed / name).read_text(), name


def timeless(table: Path) -> list[list[str]]:
    rows = [line.split(",") for line in table.read_text().splitlines()]
    column = rows[0].index("seconds")
    return [[*row[:column], *row[column + 1 :]] for row in rows]


@pytest.mark.parametrize(
    ("kills", "seed", "changes"),
    [
        (3, 1, {}),
        *(pytest.param(20, seed, {}, marks=pytest.mark.slow) for seed in (2, 3)),
        pytest.param(10, 4, {"store": "stream", "workers": 2}, marks=pytest.mark.slow),
    ],
)
def test_killed_at_random_times_a_run_ends_as_without_it(
    kills: int, seed: int, changes: dict[str, Any], tmp_path: Path
) -> None:
    found = work("killed", tmp_path, kills=kills, seed=seed, changes=changes)
    assert found["codes"][0] == found["codes"][-1] == 0
    assert sorted(set(found["codes"])) == [-9, 0]
    assert found["codes"].count(-9) == kills
    for run in found["runs"]:
        check_same(tmp_path, run)


@pytest.mark.parametrize(
    "changes", [{}, pytest.param({"store": "stream", "workers": 2, "on_bad": "skip"}, marks=pytest.mark.slow)]
)
def test_stopped_by_a_signal_a_run_says_go_on_and_ends_as_without_it(changes: dict[str, Any], tmp_path: Path) -> None:
    found = work("stopped", tmp_path, changes=changes)
    assert found["codes"][0] == found["codes"][-1] == 0
    assert found["codes"][1:-1] == [75, 75, 75]
    assert max(found["seconds"]) < 10
    check_same(tmp_path)
