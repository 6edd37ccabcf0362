"""Weights & Biases, online or offline."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar, Literal, final

import attrs

from imgcls.core.options import choice, instance, optional
from imgcls.tracking.base import Point, RunInfo, Tracker, Tracking
from imgcls.tracking.files import model_files
from imgcls.tracking.plain import flatten, words

__all__ = ["Wandb"]

#: Longer tags are refused.
_LONGEST_TAG = 64


@final
@attrs.frozen(kw_only=True)
class Wandb(Tracker):
    """Sends values to Weights & Biases; each fold has its own x-axis of optimizer steps.

    Files are kept in `wandb` in the run's folder. A resumed run continues under its id;
    offline it adds a second folder of that id, and `wandb sync` joins them.

    Attributes:
        project: The project.
        entity: The user or team; None takes that of the account.
        mode: `online` or `offline`; None takes the variable `WANDB_MODE`, else online.
        tags: Words that mark the run, by name, beside those of the run.
        model: Whether to send the models as an artifact.
    """

    package: ClassVar[str] = "wandb"
    extra: ClassVar[str] = "wandb"

    project: str = attrs.field(default="imgcls", validator=instance(str))
    entity: str | None = attrs.field(default=None, validator=optional(instance(str)))
    mode: Literal["online", "offline"] | None = attrs.field(
        default=None, validator=optional(choice("online", "offline"))
    )
    tags: dict[str, str] = attrs.field(factory=dict, validator=words)
    model: bool = attrs.field(default=False, validator=instance(bool))

    def _start(self, run: RunInfo, identity: str) -> Tracking:
        import wandb

        tags = {**run.tags, **self.tags}
        # The console, the code and the state of git stay here.
        settings = wandb.Settings(console="off", save_code=False, disable_git=True, login_timeout=30)
        live = wandb.init(
            project=self.project,
            entity=self.entity,
            name=run.name,
            id=identity or None,
            resume="allow" if identity else None,
            dir=str(run.folder),
            mode=self.mode,
            config={**flatten(run.config), "fingerprint": run.fingerprint},
            tags=[f"{name}:{word}"[:_LONGEST_TAG] for name, word in tags.items()],
            reinit="create_new",  # leaves a run that the user has open alone
            settings=settings,
        )
        return _Session(live=live, model=self.model, identity=live.id)


@final
@attrs.define(kw_only=True, eq=False)
class _Session(Tracking):
    live: Any
    model: bool
    axes: set[str] = attrs.field(factory=set)

    # W&B's own step must never fall, but every fold begins at 0.
    def _log(self, point: Point) -> None:
        if point.prefix not in self.axes:
            self.live.define_metric(f"{point.prefix}*", step_metric=f"{point.prefix}step")
            self.axes.add(point.prefix)
        moment = {"step": point.step} | ({} if point.epoch is None else {"epoch": point.epoch})
        self.live.log({**point.named, **{point.prefix + key: value for key, value in moment.items()}})

    def _keep(self, path: Path, kind: str) -> None:
        import wandb

        if kind == "model" and not self.model:
            return
        artifact = wandb.Artifact(re.sub(r"[^A-Za-z0-9_.-]", "_", f"{self.live.id}-{path.stem}"), type=kind)
        if kind == "model":
            for file in model_files(path):
                artifact.add_file(str(file), name=file.relative_to(path).as_posix())
        elif path.is_dir():
            artifact.add_dir(str(path))
        else:
            artifact.add_file(str(path))
        self.live.log_artifact(artifact)

    def _finish(self, status: str) -> None:
        self.live.finish(exit_code=0 if status == "complete" else 1)
