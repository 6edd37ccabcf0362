"""Comet, online or offline."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, final

import attrs

from imgcls.core.options import choice, instance, optional
from imgcls.tracking.base import Point, RunInfo, Tracker, Tracking
from imgcls.tracking.files import model_files
from imgcls.tracking.plain import flatten, words

__all__ = ["Comet"]

#: Only what the run says is sent, nothing that Comet would gather by itself.
_NOTHING_ELSE: dict[str, Any] = {
    "log_code": False,
    "log_graph": False,
    "auto_param_logging": False,
    "auto_metric_logging": False,
    "auto_output_logging": False,
    "parse_args": False,
    "log_env_details": False,
    "log_git_metadata": False,
    "log_git_patch": False,
    "display_summary_level": 0,
}


@final
@attrs.frozen(kw_only=True)
class Comet(Tracker):
    """Sends values to Comet, or writes them to `comet/*.zip` in the run's folder.

    A resumed run continues the same experiment; offline it adds a second file of that
    experiment, to be uploaded after the first. Offline values are in the file when the run
    ends; a kill loses those of its process.

    Attributes:
        project: The project.
        workspace: The workspace; None takes that of the account.
        mode: `online`, with the key in `COMET_API_KEY`, or `offline`.
        tags: Words that mark the run, by name, beside those of the run.
        model: Whether to send the models.
    """

    package: ClassVar[str] = "comet_ml"
    extra: ClassVar[str] = "comet"

    project: str = attrs.field(default="imgcls", validator=instance(str))
    workspace: str | None = attrs.field(default=None, validator=optional(instance(str)))
    mode: str = attrs.field(default="online", validator=choice("online", "offline"))
    tags: dict[str, str] = attrs.field(factory=dict, validator=words)
    model: bool = attrs.field(default=False, validator=instance(bool))

    def _start(self, run: RunInfo, identity: str) -> Tracking:
        with _hooks_undone():
            live = self._experiment(run, identity)
        if not identity:
            live.set_name(run.name)
            live.log_parameters(flatten(run.config))
            live.log_other("fingerprint", run.fingerprint)
            live.add_tags([f"{name}:{word}" for name, word in {**run.tags, **self.tags}.items()])
        return _Session(live=live, model=self.model, identity=live.get_key())

    def _experiment(self, run: RunInfo, identity: str) -> Any:
        import comet_ml

        offline = self.mode == "offline"
        name = f"{'Existing' if identity else ''}{'Offline' if offline else ''}Experiment"
        options = {"project_name": self.project, "workspace": self.workspace, **_NOTHING_ELSE}
        options |= {"offline_directory": str(run.folder / "comet")} if offline else {}
        options |= {"previous_experiment": identity} if identity else {}
        return getattr(comet_ml, name)(**options)


# When it is imported, Comet hooks itself into the import of other libraries.
@contextlib.contextmanager
def _hooks_undone() -> Iterator[None]:
    finders = list(sys.meta_path)
    try:
        yield
    finally:
        sys.meta_path[:] = finders


@final
@attrs.define(kw_only=True, eq=False)
class _Session(Tracking):
    live: Any
    model: bool

    def _log(self, point: Point) -> None:
        self.live.log_metrics(point.named, step=point.step, epoch=point.epoch)

    def _keep(self, path: Path, kind: str) -> None:
        if kind == "artifact":
            self.live.log_asset_folder(str(path)) if path.is_dir() else self.live.log_asset(str(path))
        elif self.model:
            for file in model_files(path):
                self.live.log_model("imgcls", str(file), file_name=file.relative_to(path).as_posix())

    def _finish(self, status: str) -> None:
        self.live.log_other("status", status)
        self.live.end()
