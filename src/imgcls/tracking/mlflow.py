"""MLflow: a local database or a server."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, final

import attrs

from imgcls.core.options import instance, optional, texts
from imgcls.tracking.base import Point, RunInfo, Tracker, Tracking
from imgcls.tracking.files import model_files
from imgcls.tracking.plain import flatten, words

__all__ = ["Mlflow"]

#: What servers of every age take: characters of a parameter, entries of a batch.
_LONGEST, _BATCH = 500, 100

#: How long training waits for a server that does not answer; the user's own settings win.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}

_STATUS = {"complete": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


def _variables(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    instance(tuple)(_, field, value)
    for item in value:
        instance(str)(_, field, item)


@final
@attrs.frozen(kw_only=True)
class Mlflow(Tracker):
    """Sends parameters, values, tags, files and models to MLflow; a resumed run goes on as the same MLflow run.

    Attributes:
        tracking_uri: `sqlite:///mlflow.db`, `http://server:5000` or the like; None takes what
            MLflow is set to, such as by the variable `MLFLOW_TRACKING_URI`.
        experiment: The experiment, made where it is absent.
        tags: Words that mark the run, by name, beside those of the run.
        tags_from: Variables of the environment that become tags, where they are set.
        system_metrics: Whether to send the load of processor, memory and GPU every 10 s.
        model: Whether to send the models, as an MLflow model that predicts image files.
    """

    package: ClassVar[str] = "mlflow"
    extra: ClassVar[str] = "mlflow"

    tracking_uri: str | None = attrs.field(default=None, validator=optional(instance(str)))
    experiment: str = attrs.field(default="imgcls", validator=instance(str))
    tags: dict[str, str] = attrs.field(factory=dict, validator=words)
    tags_from: tuple[str, ...] = attrs.field(default=(), converter=texts, validator=_variables)
    system_metrics: bool = attrs.field(default=False, validator=instance(bool))
    model: bool = attrs.field(default=True, validator=instance(bool))

    def _start(self, run: RunInfo, identity: str) -> Tracking:
        with _calm():
            from mlflow.tracking import MlflowClient

            client = MlflowClient(tracking_uri=self.tracking_uri)
            if identity:
                client.update_run(identity, status="RUNNING")
            else:
                identity = _new_run(client, self.experiment, run, tags=self._tags(run))
            monitor = _monitor(identity, client.tracking_uri, resumed=run.resumed) if self.system_metrics else None
        return _Session(client=client, monitor=monitor, model=self.model, identity=identity)

    def _tags(self, run: RunInfo) -> dict[str, str]:
        git = run.environment.get("git") or {}
        commit = {"mlflow.source.git.commit": git["commit"]} if git.get("commit") else {}
        ours = {"imgcls.folder": str(run.folder), "imgcls.fingerprint": run.fingerprint}
        there = {name: os.environ[name] for name in self.tags_from if name in os.environ}
        return {**commit, **ours, **run.tags, **there, **self.tags}


# MLflow and what it brings warn of their own future; that is not the user's affair, and must stop nothing.
@contextlib.contextmanager
def _calm() -> Iterator[None]:
    added = {name: value for name, value in _PATIENCE.items() if name not in os.environ}
    os.environ.update(added)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _new_run(client: Any, experiment: str, run: RunInfo, *, tags: dict[str, str]) -> str:
    from mlflow.entities import Param

    known = client.get_experiment_by_name(experiment)
    place = known.experiment_id if known else client.create_experiment(experiment)
    made: str = client.create_run(place, run_name=run.name, tags=tags).info.run_id
    params = [Param(_name(key), str(value)[:_LONGEST]) for key, value in flatten(run.config).items()]
    for part in _parts(params):
        client.log_batch(made, params=part)
    return made


# MLflow knows letters, digits and a few signs.
def _name(key: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "_-. :/" else "_" for sign in key)[:250]


def _parts(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]


def _monitor(identity: str, uri: str, *, resumed: bool) -> Any:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(identity, resume_logging=resumed, tracking_uri=uri)
    monitor.start()
    return monitor


@final
@attrs.define(kw_only=True, eq=False)
class _Session(Tracking):
    client: Any
    monitor: Any
    model: bool

    def _log(self, point: Point) -> None:
        from mlflow.entities import Metric

        epoch = {} if point.epoch is None else {f"{point.prefix}epoch": float(point.epoch)}
        moment = round(point.time * 1000)
        metrics = [Metric(_name(key), value, moment, point.step) for key, value in {**point.named, **epoch}.items()]
        with _calm():
            for part in _parts(metrics):
                self.client.log_batch(self.identity, metrics=part)

    def _keep(self, path: Path, kind: str) -> None:
        with _calm():
            if kind == "model":
                self._keep_model(path)
            elif path.is_dir():
                self.client.log_artifacts(self.identity, str(path), path.name)
            else:
                self.client.log_artifact(self.identity, str(path))

    def _keep_model(self, folder: Path) -> None:
        if self.model:
            with tempfile.TemporaryDirectory() as temporary:
                packed = _pack(folder, Path(temporary))
                self.client.log_artifacts(self.identity, str(packed), "model")

    def _finish(self, status: str) -> None:
        with _calm():
            if self.monitor is not None:
                self.monitor.finish()
            self.client.set_terminated(self.identity, _STATUS[status])


def _pack(folder: Path, temporary: Path) -> Path:
    import mlflow.pyfunc

    for file in model_files(folder):
        copy = temporary / "run" / file.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    classes = json.loads((folder / "model.json").read_text(encoding="utf-8"))["classes"]
    mlflow.pyfunc.save_model(
        temporary / "model",
        loader_module="imgcls.inference.pyfunc",
        data_path=temporary / "run",
        signature=_signature(classes),
        pip_requirements=[f"imgcls=={metadata.version('imgcls')}"],
    )
    return temporary / "model"


def _signature(classes: Sequence[str]) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, Schema

    probs = [ColSpec("double", f"prob_{name}") for name in classes]
    found = [ColSpec("string", "path"), *probs, ColSpec("string", "decision")]
    return ModelSignature(inputs=Schema([ColSpec("string", "path")]), outputs=Schema(found))
