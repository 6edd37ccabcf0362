"""MLflow: a database file, and a real server on this machine; values are read back through its client."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import imgcls
from imgcls.core.folders import read_json
from imgcls.testing import blobs
from imgcls.tracking.base import RunInfo
from imgcls.tracking.mlflow import Mlflow
from imgcls.tracking.together import tracked

pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of MLflow's own client, used by the tests

Info = Callable[..., RunInfo]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # artifacts of a database go to the working directory


def client(uri: str) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


def history(uri: str, identity: str, key: str) -> list[tuple[int, float]]:
    return sorted((metric.step, metric.value) for metric in client(uri).get_metric_history(identity, key))


def identity_of(info: RunInfo) -> str:
    return str(read_json(info.folder / "trackers.json")["mlflow"])


def follow(uri: str, info: Info) -> str:
    """Log a run that is resumed, with its configuration as an artifact."""
    tracker = Mlflow(tracking_uri=uri, experiment="Chest X-ray", tags={"team": "A"}, tags_from=("JOB_NAME", "NO_JOB"))
    for resumed, steps in ((False, (10, 20)), (True, (20, 30))):
        run_info = info(resumed=resumed, environment={"git": {"commit": "c0ffee", "changed": False}})
        (run_info.folder / "config.yaml").write_text("seed: 42\n")
        with tracked([tracker], run_info) as run:
            for step in steps:
                run.log({"val/loss": 1 / step}, step=step, epoch=step // 10, fold=0)
            assert run.names == ("mlflow", "csv")
            run.log_artifact(run_info.folder / "config.yaml")
            assert run.names == ("mlflow", "csv")
    return identity_of(info())


def check(uri: str, identity: str) -> None:
    run = client(uri).get_run(identity)
    assert history(uri, identity, "fold_0/val/loss") == [(step, 1 / step) for step in (10, 20, 30)]
    assert history(uri, identity, "fold_0/epoch") == [(10, 1), (20, 2), (30, 3)]
    assert (run.info.run_name, run.info.status) == ("chest", "FINISHED")
    assert run.data.params["stages.0.lr"] == "0.1"
    assert run.data.params["note"] == "x" * 500
    tags = {"site": "Graz", "team": "A", "JOB_NAME": "night", "imgcls.fingerprint": "abc"}
    assert tags.items() <= run.data.tags.items()
    assert run.data.tags["mlflow.source.git.commit"] == "c0ffee"
    assert "NO_JOB" not in run.data.tags
    assert [file.path for file in client(uri).list_artifacts(identity)] == ["config.yaml"]
    assert len(client(uri).search_runs([run.info.experiment_id])) == 1


def test_a_database_has_what_was_logged_and_a_resumed_run_is_one(
    database: str, info: Info, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOB_NAME", "night")
    check(database, follow(database, info))


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_the_end_of_a_run_is_its_status(error: type[BaseException], status: str, database: str, info: Info) -> None:
    with pytest.raises(error), tracked([Mlflow(tracking_uri=database)], info()):
        raise error
    assert client(database).get_run(identity_of(info())).info.status == status


def test_more_options_than_a_batch_takes_are_all_sent(database: str, tmp_path: Path) -> None:
    config = {f"option {number} (%)": number for number in range(250)}
    with tracked([Mlflow(tracking_uri=database)], RunInfo(folder=tmp_path, config=config)) as run:
        run.log({f"key {number}": number for number in range(250)}, step=1)
    found = client(database).get_run(identity_of(RunInfo(folder=tmp_path, config={}))).data
    assert found.params == {f"option {number} ___": str(number) for number in range(250)}
    assert len(found.metrics) == 250


def test_the_load_of_the_machine_is_sent(database: str, info: Info, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    with tracked([Mlflow(tracking_uri=database, system_metrics=True)], info()):
        time.sleep(2)
    assert "system/cpu_utilization_percentage" in client(database).get_run(identity_of(info())).data.metrics


def test_a_server_that_is_not_there_costs_seconds_and_one_warning(
    info: Info, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, started = dict(os.environ), time.monotonic()
    with tracked([Mlflow(tracking_uri=f"http://127.0.0.1:{free_port()}")], info()) as run:
        assert run.names == ("csv",)
    assert time.monotonic() - started < 30
    assert dict(os.environ) == before
    assert [record.levelname for record in caplog.records if record.name == "imgcls"] == ["WARNING"]


def load(uri: str, model: str) -> Any:
    """Load a model as a user of MLflow does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc

        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(uri)
        try:
            return mlflow.pyfunc.load_model(model)
        finally:
            mlflow.set_tracking_uri(before)


@pytest.mark.slow
def test_the_model_predicts_as_the_run_does(database: str, info: Info, tmp_path: Path) -> None:
    data = blobs(size=16)
    backbone = {"name": "small-cnn", "base": 4, "depth": 2}
    options: Any = {
        "stages": [{"epochs": 1}],
        "splitter": "holdout",
        "image": {"size": 16},
        "precision": "fp32",
        "decision": 0.5,
    }
    trained = imgcls.Trainer(data, backbone=backbone, out=tmp_path / "run", **options).fit()
    with tracked([Mlflow(tracking_uri=database)], info()) as run:
        run.log_model(trained.folder)
        assert "mlflow" in run.names
    assert data.arrays is not None
    paths = [str(tmp_path / f"{number}.png") for number in range(3)]
    for path, image in zip(paths, data.arrays, strict=False):
        Image.fromarray(np.asarray(image).squeeze()).save(path)
    model = load(database, f"runs:/{identity_of(info())}/model")
    assert model.metadata.signature.inputs.input_names() == ["path"]
    pd.testing.assert_frame_equal(model.predict(pd.DataFrame({"path": paths})), trained.predict(paths))


# A server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Start a server in a process group of its own, since it starts others."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/m.db", "--artifacts-destination", str(folder / "files")]
    own = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log.txt").open("w") as log:
        running = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=own, start_new_session=True)
        try:
            _wait(running, f"http://127.0.0.1:{port}", folder / "log.txt")
            yield f"http://127.0.0.1:{port}", running.pid
        finally:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()


def _wait(running: subprocess.Popen[bytes], uri: str, log: Path) -> None:
    until = time.monotonic() + 180
    while time.monotonic() < until:
        if running.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the server did not start: {log.read_text()[-2000:]}")


@pytest.mark.slow
def test_a_server_has_what_was_logged_and_a_resumed_run_is_one(
    server: tuple[str, int], info: Info, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOB_NAME", "night")
    uri, _ = server
    identity = follow(uri, info)
    check(uri, identity)
    with urllib.request.urlopen(f"{uri}/api/2.0/mlflow/runs/get?run_id={identity}") as answer:  # without the client
        found = json.load(answer)["run"]["data"]["metrics"]
    assert {one["key"]: one["value"] for one in found} == {"fold_0/val/loss": 1 / 30, "fold_0/epoch": 3}


@pytest.mark.slow
def test_a_server_that_hangs_stops_nothing(
    server: tuple[str, int], info: Info, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    uri, group = server
    with tracked([Mlflow(tracking_uri=uri)], info()) as run:
        os.killpg(group, signal.SIGSTOP)
        try:
            run.log({"val/loss": 1}, step=1)
        finally:
            os.killpg(group, signal.SIGCONT)
        run.log({"val/loss": 1}, step=2)
        followers = ",".join(run.names)
    assert followers == "csv"
    assert caplog.text.count("Tracker 'mlflow' no longer follows this run") == 1
