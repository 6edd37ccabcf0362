"""The interface of trackers: a tracker opens a session for a run, the session takes what happens in it."""

from __future__ import annotations

import abc
import contextlib
import importlib.util
import math
import random
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, final

import attrs

from imgcls.core.errors import ConfigError, PluginContractError, missing_extra
from imgcls.core.options import count, instance, optional, rejected
from imgcls.core.plugins import Plugin, Registry
from imgcls.tracking.plain import words

__all__ = ["STATUSES", "Point", "RunInfo", "Tracker", "Tracking", "existing", "to_trackers", "trackers"]

#: How a run can end: `stopped` by a signal or its user, to be resumed; `failed` by an error.
STATUSES = ("complete", "failed", "stopped")


@final
@attrs.frozen(kw_only=True)
class RunInfo:
    """What trackers are told of a run when it starts.

    Attributes:
        folder: The run's folder.
        name: What the run is called; empty takes the folder's name.
        config: The Trainer as plain values.
        environment: What `environment.json` says.
        fingerprint: The fingerprint of the set.
        tags: Words that mark the run, by name.
        resumed: Whether an earlier process began the run.
    """

    folder: Path = attrs.field(converter=Path)
    name: str = attrs.field(validator=instance(str))
    config: Mapping[str, Any] = attrs.field(validator=instance(Mapping), repr=False)
    environment: Mapping[str, Any] = attrs.field(factory=dict, validator=instance(Mapping), repr=False)
    fingerprint: str = attrs.field(default="", validator=instance(str))
    tags: Mapping[str, str] = attrs.field(factory=dict, validator=words)
    resumed: bool = attrs.field(default=False, validator=instance(bool))

    @name.default
    def _folder_name(self) -> str:
        return self.folder.resolve().name


def _values(given: Any) -> Any:
    if not isinstance(given, Mapping):
        return given
    try:
        numbers = {key: float(value) for key, value in given.items()}
    except (TypeError, ValueError):
        raise rejected("values", "be numbers by name", dict(given)) from None
    return {key: value for key, value in numbers.items() if not math.isnan(value)}


def _named(_: Any, field: attrs.Attribute[Any], values: Any) -> None:
    if not isinstance(values, Mapping) or not all(isinstance(key, str) and key for key in values):
        raise rejected(field.name, "be numbers by name", values)


@final
@attrs.frozen(kw_only=True)
class Point:
    """What was measured at one moment of a run.

    Attributes:
        values: Numbers by name, such as `val/roc_auc`; NaN means not measured and is left out.
        step: Optimizer steps that the fold (or the run, where `fold` is None) had made.
        epoch: Epochs that were finished, or None.
        fold: Which fold, from 0; None for the whole run.
        time: Seconds since 1970.
    """

    values: Mapping[str, float] = attrs.field(converter=_values, validator=_named)
    step: int = attrs.field(validator=count(0))
    epoch: int | None = attrs.field(default=None, validator=optional(count(0)))
    fold: int | None = attrs.field(default=None, validator=optional(count(0)))
    time: float = attrs.field(factory=time.time)

    @property
    def prefix(self) -> str:
        """What tells the values of folds apart: `fold_0/`, or nothing."""
        return "" if self.fold is None else f"fold_{self.fold}/"

    @property
    def named(self) -> dict[str, float]:
        """The values with the fold in their names: `fold_0/val/roc_auc`."""
        return {self.prefix + key: value for key, value in self.values.items()}


# Clients of trackers draw names from the global generator and put themselves before the handling of errors.
@contextlib.contextmanager
def _aside() -> Iterator[None]:
    state, hook = random.getstate(), sys.excepthook
    try:
        yield
    finally:
        random.setstate(state)
        sys.excepthook = hook


def existing(path: Path | str) -> Path:
    """Refuse a path where nothing is.

    Args:
        path: The path.

    Returns:
        The path.

    Raises:
        ConfigError: if nothing is there.
    """
    if not Path(path).exists():
        raise rejected("path", "exist", str(path))
    return Path(path)


@attrs.define(kw_only=True, eq=False)
class Tracking(abc.ABC):
    """A run under way in a tracker; it lives in the process that started it.

    A plugin writes the hooks `_log`, `_keep` and `_finish`. They may raise: `tracked` turns
    that into a warning. They should not wait long: training waits for them.

    Attributes:
        identity: What the tracker calls the run, by which it is continued; empty where it
            needs nothing.
    """

    identity: str = ""

    @final
    def log(self, point: Point) -> None:
        """Take note of what was measured.

        Args:
            point: The values with their moment.
        """
        if point.values:
            with _aside():
                self._log(point)

    @final
    def log_artifact(self, path: Path | str) -> None:
        """Keep a file or folder with the run, where the tracker can.

        Args:
            path: The file or folder.

        Raises:
            ConfigError: if it does not exist.
        """
        self._send(existing(path), "artifact")

    @final
    def log_model(self, folder: Path | str) -> None:
        """Keep the models of the run, where the tracker can and its options say so.

        Args:
            folder: The run's folder, with `model.json`, thresholds and the best checkpoints.

        Raises:
            ConfigError: if it does not exist.
        """
        self._send(existing(folder), "model")

    def _send(self, path: Path, kind: str) -> None:
        with _aside():
            self._keep(path, kind)

    @final
    def finish(self, status: str) -> None:
        """Close the session.

        Args:
            status: One of `STATUSES`.

        Raises:
            ConfigError: if it is none of them.
        """
        if status not in STATUSES:
            raise rejected("status", f"be one of {', '.join(STATUSES)}", status)
        with _aside():
            self._finish(status)

    @abc.abstractmethod
    def _log(self, point: Point) -> None:
        """Send values; there is at least one."""

    @abc.abstractmethod
    def _keep(self, path: Path, kind: str) -> None:
        """Send a file or folder, kind `artifact`, or a run's folder, kind `model`; may ignore either."""

    @abc.abstractmethod
    def _finish(self, status: str) -> None:
        """Send what is waiting and let go of everything."""


class Tracker(Plugin):
    """A place that follows runs; its options are its fields.

    A plugin writes the hook `_start`.

    Attributes:
        package: The package of an extra of imgcls that it needs; empty where its own
            distribution brings what it needs.
        extra: That extra.
    """

    package: ClassVar[str] = ""
    extra: ClassVar[str] = ""

    @final
    def check(self) -> None:
        """Refuse, before anything is trained, what cannot work.

        Raises:
            MissingExtraError: if the tracker's package is not installed.
        """
        if self.package and importlib.util.find_spec(self.package) is None:
            raise missing_extra(self.package, self.extra)

    @final
    def start(self, run: RunInfo, *, identity: str = "") -> Tracking:
        """Open a session.

        Args:
            run: The run.
            identity: The `identity` of the session that an earlier process had of this run;
                the new session continues it. Empty begins anew.

        Returns:
            The session.

        Raises:
            PluginContractError: if the plugin gives none.
        """
        self.check()
        with _aside():
            session = self._start(run, identity)
        if not isinstance(session, Tracking) or not isinstance(session.identity, str):
            raise PluginContractError(f"{type(self).__name__} must give a Tracking with an identity, got {session!r}")
        return session

    @abc.abstractmethod
    def _start(self, run: RunInfo, identity: str) -> Tracking:
        """Open the session."""


#: The trackers that the installed distributions declare.
trackers: Registry[Tracker] = Registry("imgcls.trackers", Tracker)


def to_trackers(specs: Any) -> tuple[Tracker, ...]:
    """Make trackers from their specs and check that they can work; a converter of fields.

    Args:
        specs: A list of names, specs or trackers.

    Returns:
        The trackers.

    Raises:
        ConfigError: if it is no list, or one of them is wrong.
    """
    if not isinstance(specs, list | tuple):
        raise ConfigError(f"'trackers' must be a list of trackers, got {specs!r}")
    made = tuple(trackers.create(spec, path=f"trackers.{number}") for number, spec in enumerate(specs))
    for tracker in made:
        tracker.check()
    return made
