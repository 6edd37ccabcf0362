"""TensorBoard: event files beside the folds, written by the package `tensorboard` without torch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, ClassVar, final

import attrs

from imgcls.tracking.base import Point, RunInfo, Tracker, Tracking
from imgcls.tracking.plain import flatten

__all__ = ["TensorBoard"]

#: In the vocabulary of TensorBoard's table of hyperparameters.
_STATUS = {"complete": 1, "failed": 2, "stopped": 3}


@final
@attrs.frozen(kw_only=True)
class TensorBoard(Tracker):
    """Writes event files: `tensorboard --logdir runs` shows each fold as a run of its own.

    The x-axis is optimizer steps; the configuration goes to the table of hyperparameters.
    """

    package: ClassVar[str] = "tensorboard"
    extra: ClassVar[str] = "tensorboard"

    def _start(self, run: RunInfo, identity: str) -> Tracking:  # noqa: ARG002 (files need no name)
        session = _Events(folder=run.folder)
        if not run.resumed:
            session.hyperparameters(flatten(run.config))
        return session


@final
@attrs.define(kw_only=True, eq=False)
class _Events(Tracking):
    folder: Path
    writers: dict[int | None, Any] = attrs.field(factory=dict)

    def hyperparameters(self, options: dict[str, str | int | float | bool]) -> None:
        from tensorboard.plugins.hparams import plugin_data_pb2 as pb

        session = pb.SessionStartInfo(start_time_secs=time.time())
        for name, value in options.items():
            kind = "bool" if isinstance(value, bool) else "string" if isinstance(value, str) else "number"
            setattr(session.hparams[name], f"{kind}_value", value)
        self._hparams("session_start_info", pb.HParamsPluginData(session_start_info=session))

    def _log(self, point: Point) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=key, simple_value=value) for key, value in point.values.items()]
        self._write(point.fold, step=point.step, wall_time=point.time, summary=Summary(value=values))

    def _keep(self, path: Path, kind: str) -> None:
        """Event files hold numbers only; files stay where they are."""

    def _finish(self, status: str) -> None:
        from tensorboard.plugins.hparams import plugin_data_pb2 as pb

        end = pb.SessionEndInfo(status=_STATUS[status], end_time_secs=time.time())
        self._hparams("session_end_info", pb.HParamsPluginData(session_end_info=end))
        for writer in self.writers.values():
            writer.close()

    def _hparams(self, name: str, data: Any) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams.metadata import create_summary_metadata

        value = Summary.Value(tag=f"_hparams_/{name}", metadata=create_summary_metadata(data))
        self._write(None, wall_time=time.time(), summary=Summary(value=[value]))

    # Flushed at once, so that a kill loses nothing.
    def _write(self, fold: int | None, **event: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        if fold not in self.writers:
            folder = self.folder if fold is None else self.folder / f"fold_{fold}"
            self.writers[fold] = EventFileWriter(str(folder))
        self.writers[fold].add_event(Event(**event))
        self.writers[fold].flush()
