from __future__ import annotations

import json
import math
import random
import sys
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgcls.core.errors import ConfigError, MissingExtraError, PluginContractError, UnknownPluginError
from imgcls.tracking.base import Point, RunInfo, Tracker, Tracking, to_trackers
from imgcls.tracking.csv import Csv
from imgcls.tracking.plain import flatten
from imgcls.tracking.wandb import Wandb


def test_values_become_floats_and_what_was_not_measured_is_left_out() -> None:
    point = Point(values={"a": np.float32(0.5), "b": math.nan, "c": True}, step=3)
    assert point.values == {"a": 0.5, "c": 1.0}


def test_the_fold_stands_before_the_name() -> None:
    assert Point(values={"val/loss": 1}, step=0, fold=2).named == {"fold_2/val/loss": 1.0}
    assert Point(values={"test/loss": 1}, step=0).named == {"test/loss": 1.0}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"values": {"a": "high"}}, "'values' must be numbers by name"),
        ({"values": {"": 1}}, "'values' must be numbers by name"),
        ({"values": [1]}, "'values' must be numbers by name"),
        ({"step": -1}, "'step' must be a whole number"),
        ({"epoch": 0.5}, "'epoch' must be a whole number"),
        ({"fold": "0"}, "'fold' must be a whole number"),
    ],
)
def test_points_that_cannot_be_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Point(**{"values": {"a": 1}, "step": 1, **wrong})


def test_a_run_is_called_after_its_folder(tmp_path: Path) -> None:
    assert RunInfo(folder=tmp_path / "chest", config={}).name == "chest"
    assert RunInfo(folder=tmp_path / "chest", config={}, name="mine").name == "mine"


def test_tags_are_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'tags' must map words to words, got \{'fold': 1\}; write numbers"):
        RunInfo(folder=tmp_path, config={}, tags={"fold": 1})  # type: ignore[dict-item]


_leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
_plain = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
)


def _leaves_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value
    nested = (
        any(isinstance(item, dict | list) for item in inner) if isinstance(value, list) else isinstance(value, dict)
    )
    return sum(map(_leaves_of, inner)) if nested and value else 1


@given(st.dictionaries(st.sampled_from("abc"), _plain, min_size=1))
def test_each_line_of_a_flat_table_leads_back_to_its_place(config: dict[str, Any]) -> None:
    table = flatten(config)
    assert len(table) == _leaves_of(config)
    for path, value in table.items():
        found: Any = config
        for key in path.split("."):
            found = found[int(key)] if isinstance(found, list) else found[key]
        assert value == (found if isinstance(found, str | int) else json.dumps(found))


# Trackers


@attrs.frozen(kw_only=True)
class Loud(Tracker):
    """Touches what is not its own."""

    gives: Any = None

    def _start(self, run: RunInfo, identity: str) -> Tracking:
        random.seed(0)
        sys.excepthook = print
        given: Tracking = self.gives
        return given


def test_a_tracker_must_give_a_session_and_leaves_no_trace(tmp_path: Path) -> None:
    before = random.getstate(), sys.excepthook
    with pytest.raises(PluginContractError, match="Loud must give a Tracking with an identity, got 3"):
        Loud(gives=3).start(RunInfo(folder=tmp_path, config={}))
    assert (random.getstate(), sys.excepthook) == before


def test_unknown_ends_and_absent_files_are_refused(tmp_path: Path) -> None:
    session = Csv().start(RunInfo(folder=tmp_path, config={}))
    with pytest.raises(ConfigError, match="'status' must be one of complete, failed, stopped, got 'done'"):
        session.finish("done")
    with pytest.raises(ConfigError, match="'path' must exist"):
        session.log_artifact(tmp_path / "nothing")


def test_specs_become_trackers() -> None:
    assert to_trackers(["csv", {"name": "csv"}, Csv()]) == (Csv(), Csv(), Csv())


def test_wrong_lists_of_trackers_are_refused() -> None:
    with pytest.raises(ConfigError, match="'trackers' must be a list of trackers, got 'csv'"):
        to_trackers("csv")
    with pytest.raises(UnknownPluginError, match=r"'mlfow'.*did you mean 'mlflow'"):
        to_trackers(["mlfow"])
    with pytest.raises(ConfigError, match=r"'trackers\.1\.mode' must be one of"):
        to_trackers(["csv", {"name": "comet", "mode": "sometimes"}])


def test_a_missing_extra_is_one_line_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError, match=r"'wandb' must be installed, got none; pip install 'imgcls\[wandb\]'"):
        to_trackers([Wandb()])
