"""The conformance kit of trackers."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from imgcls.testing.values import chance_untouched, check_value, require
from imgcls.tracking.base import Point, RunInfo, Tracker, Tracking, trackers

__all__ = ["check_tracker"]

_CONFIG = {"backbone": {"name": "small-cnn"}, "stages": [{"epochs": 2, "lr": 0.1}], "positive": None, "augment": True}


def check_tracker(tracker: Tracker) -> None:
    """Check that a tracker keeps its contract; where it sends values, some will arrive.

    Args:
        tracker: The tracker.

    Raises:
        AssertionError: with what is broken.
    """
    check_value(tracker, trackers)
    tracker.check()
    with tempfile.TemporaryDirectory() as name, chance_untouched(tracker), _hooks_untouched(tracker):
        _check_run(tracker, Path(name) / "run 1 (Köln)")


# A session goes on beside the training, whose process is not its own.
@contextlib.contextmanager
def _hooks_untouched(tracker: Tracker) -> Iterator[None]:
    root = logging.getLogger()
    before = sys.excepthook, root.level, list(root.handlers)
    yield
    now = sys.excepthook, root.level, list(root.handlers)
    require(now == before, tracker, "leave sys.excepthook and the root logger as they were")


# A run that was stopped, then failed, and was completed at last.
def _check_run(tracker: Tracker, folder: Path) -> None:
    _write_run(folder)
    identity = ""
    for number, status in enumerate(("stopped", "failed", "complete")):
        session = tracker.start(_info(folder, resumed=number > 0), identity=identity)
        require(session.identity == identity or not number, tracker, "continue a run under its identity")
        identity = session.identity
        try:
            _use(session, folder, step=number + 1)
            session.finish(status)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            raise AssertionError(f"{type(tracker).__name__} must take every point and file, got {problem}") from error


def _use(session: Tracking, folder: Path, *, step: int) -> None:
    _log_all(session, step=step)
    for path in (folder / "config.yaml", folder / "fold_0"):
        session.log_artifact(path)
    session.log_model(folder)


# The files that a session may be asked to keep.
def _write_run(folder: Path) -> None:
    best = folder / "fold_0" / "checkpoints" / "best"
    best.mkdir(parents=True)
    (best / "model.safetensors").write_bytes(bytes(8))
    (folder / "config.yaml").write_text("seed: 1\n", encoding="utf-8")
    (folder / "model.json").write_text('{"classes": ["cat", "dog"]}\n', encoding="utf-8")


def _info(folder: Path, *, resumed: bool) -> RunInfo:
    return RunInfo(folder=folder, config=_CONFIG, fingerprint="abc", tags={"site": "Köln"}, resumed=resumed)


# Values of a fold and of the run, none at all, large ones, and a name with a class in it.
def _log_all(session: Tracking, *, step: int) -> None:
    values = {"train/loss": 1 / step, "val/recall/Größe 1 (%)": 0.5, "val/roc_auc": math.nan}
    session.log(Point(values=values, step=step, epoch=step - 1, fold=0))
    session.log(Point(values={}, step=step, fold=0))
    session.log(Point(values={"test/loss": math.inf, "test/roc_auc": 1e-300}, step=step))
