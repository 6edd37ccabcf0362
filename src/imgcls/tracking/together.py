"""All trackers of a run as one, none of which can stop it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import attrs

from imgcls.core.errors import RunError
from imgcls.core.folders import read_json, write_json
from imgcls.core.plugins import name_of
from imgcls.core.progress import warn
from imgcls.tracking.base import Point, RunInfo, Tracker, Tracking, existing
from imgcls.tracking.csv import Csv, logged_steps

__all__ = ["TrackedRun", "tracked"]

#: By what names the trackers know the run, in its folder.
_FILE = "trackers.json"


@final
@attrs.define(kw_only=True, eq=False)
class TrackedRun:
    """The open sessions of a run.

    A session that raises is dropped with one warning; the others and the training go on.
    Call it from one thread.
    """

    _sessions: dict[str, Tracking]
    _logged: Mapping[tuple[int | None, str], int]

    @property
    def names(self) -> tuple[str, ...]:
        """The trackers that still follow the run."""
        return tuple(self._sessions)

    def log(self, values: Mapping[str, float], *, step: int, epoch: int | None = None, fold: int | None = None) -> None:
        """Tell every tracker what was measured.

        A resumed run repeats the steps since its last checkpoint, to the same values; what
        was logged before is not logged again.

        Args:
            values: Numbers by name, such as `train/loss` and `val/roc_auc`; NaN is left out.
            step: Optimizer steps that the fold (or the run) has made.
            epoch: Epochs that are finished, or None.
            fold: Which fold; None for the whole run.
        """
        point = Point(values=values, step=step, epoch=epoch, fold=fold)
        new = {key: value for key, value in point.values.items() if step > self._logged.get((fold, key), -1)}
        self._each(lambda session: session.log(attrs.evolve(point, values=new)))

    def log_artifact(self, path: Path | str) -> None:
        """Give every tracker a file or folder.

        Args:
            path: The file or folder.

        Raises:
            ConfigError: if it does not exist.
        """
        existing(path)
        self._each(lambda session: session.log_artifact(path))

    def log_model(self, folder: Path | str) -> None:
        """Give every tracker the models of the run.

        Args:
            folder: The run's folder.

        Raises:
            ConfigError: if it does not exist.
        """
        existing(folder)
        self._each(lambda session: session.log_model(folder))

    def finish(self, status: str) -> None:
        """Close all sessions; a second call has none to close.

        Args:
            status: `complete`, `failed` or `stopped`.
        """
        self._each(lambda session: session.finish(status))
        self._sessions.clear()

    def _each(self, call: Callable[[Tracking], None]) -> None:
        for name, session in tuple(self._sessions.items()):
            with _forgiven(name) as failed:
                call(session)
            if failed:
                del self._sessions[name]


@contextlib.contextmanager
def tracked(trackers: Sequence[Tracker], run: RunInfo) -> Iterator[TrackedRun]:
    """Follow a run with trackers, and in any case with a CSV table.

    Args:
        trackers: The trackers.
        run: The run; a resumed one continues in each tracker under the same identity.

    Yields:
        The open sessions. When the block ends they are finished: `complete`, `stopped` for
        an interrupt or an exit, `failed` for an error.
    """
    sessions = _started(_by_name(trackers), run)
    live = TrackedRun(sessions=sessions, logged=_logged(run))
    status = "failed"
    try:
        yield live
        status = "complete"
    except (KeyboardInterrupt, SystemExit):
        status = "stopped"
        raise
    finally:
        live.finish(status)


# The table comes last: what stands there was sent to all others.
def _by_name(trackers: Sequence[Tracker]) -> dict[str, Tracker]:
    named: dict[str, Tracker] = {}
    for tracker in [*(one for one in trackers if not isinstance(one, Csv)), Csv()]:
        name = name_of(type(tracker)) or type(tracker).__name__
        same = sum(key.partition("#")[0] == name for key in named)
        named[f"{name}#{same + 1}" if same else name] = tracker
    return named


def _started(trackers: Mapping[str, Tracker], run: RunInfo) -> dict[str, Tracking]:
    sessions: dict[str, Tracking] = {}
    known = _identities(run)
    for name, tracker in trackers.items():
        with _forgiven(name):
            sessions[name] = tracker.start(run, identity=known.get(name, ""))
    found = {name: session.identity for name, session in sessions.items() if session.identity}
    with _forgiven("trackers.json"):
        write_json(run.folder / _FILE, {**known, **found})
    return sessions


def _identities(run: RunInfo) -> dict[str, str]:
    path = run.folder / _FILE
    if not run.resumed or not path.exists():
        return {}
    try:
        found: Any = read_json(path)
    except RunError as error:
        warn(f"Trackers begin a new run each: {error}")
        return {}
    return {str(key): str(value) for key, value in found.items()}


def _logged(run: RunInfo) -> dict[tuple[int | None, str], int]:
    if run.resumed:
        with _forgiven("csv"):
            return logged_steps(run.folder)
    return {}


# Yields a list that has the exception of the block, if there was one.
@contextlib.contextmanager
def _forgiven(name: str) -> Iterator[list[Exception]]:
    failed: list[Exception] = []
    try:
        yield failed
    except Exception as error:  # whatever goes wrong in a tracker, the training is worth more
        failed.append(error)
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        warn(f"Tracker {name!r} no longer follows this run ({cause}); the training goes on")
