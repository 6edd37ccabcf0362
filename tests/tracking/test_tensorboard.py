"""TensorBoard: read back with its own reader."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imgcls.tracking.base import RunInfo
from imgcls.tracking.tensorboard import TensorBoard
from imgcls.tracking.together import tracked

pytest.importorskip("tensorboard")


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def test_each_fold_has_its_curves_and_a_resumed_run_goes_on(info: Callable[..., RunInfo]) -> None:
    for resumed, steps in ((False, (10, 20)), (True, (20, 30))):
        with tracked([TensorBoard()], info(resumed=resumed)) as run:
            for step in steps:
                run.log({"val/loss": 1 / step, "val/roc_auc": 0.5}, step=step, epoch=step // 10, fold=1)
    found = read(info().folder / "fold_1")
    assert found.Tags()["scalars"] == ["val/loss", "val/roc_auc"]
    assert [(event.step, event.value) for event in found.Scalars("val/loss")] == [
        (step, pytest.approx(1 / step)) for step in (10, 20, 30)
    ]


def test_values_are_on_disk_before_the_run_ends(info: Callable[..., RunInfo]) -> None:
    with tracked([TensorBoard()], info()) as run:
        run.log({"test/loss": 0.25}, step=3)
        (event,) = read(info().folder).Scalars("test/loss")
    assert (event.step, event.value) == (3, 0.25)


def test_the_configuration_is_a_table_of_hyperparameters(info: Callable[..., RunInfo]) -> None:
    from tensorboard.plugins.hparams.metadata import parse_session_end_info_plugin_data as end
    from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data as start

    with tracked([TensorBoard()], info()):
        pass
    contents = read(info().folder).summary_metadata
    options = start(contents["_hparams_/session_start_info"].plugin_data.content).hparams
    assert options["stages.0.lr"].number_value == 0.1
    assert options["stages.0.train"].string_value == "head"
    assert end(contents["_hparams_/session_end_info"].plugin_data.content).status == 1


def test_it_needs_no_torch() -> None:
    code = (
        "import sys, tempfile\nfrom imgcls.tracking.base import *\n"
        "from imgcls.tracking.tensorboard import TensorBoard\n"
        "session = TensorBoard().start(RunInfo(folder=tempfile.mkdtemp(), config={'a': 1}))\n"
        "session.log(Point(values={'a': 1}, step=1)); session.finish('complete')\n"
        "assert 'torch' not in sys.modules and 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
