"""The executor `ray` without a Ray: its options, and what it refuses."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.execution import work

from imgcls import Choice, Searcher, Trainer
from imgcls.core.errors import ConfigError, MissingExtraError
from imgcls.execution import seat
from imgcls.execution.base import Task
from imgcls.execution.cluster import Cluster, cluster_of, connected
from imgcls.execution.process import Ending
from imgcls.execution.ray import Ray
from imgcls.execution.seat import Seat, Setting
from imgcls.testing import blobs
from imgcls.training.side_by_side import check_cluster, threads_each

SMALL: dict[str, Any] = {"backbone": {"name": "small-cnn", "base": 4, "depth": 2}, "image": {"size": 8, "channels": 1}}


class _Ray(SimpleNamespace):
    """Stands for the module `ray`, and notes what it was asked for."""

    def __init__(self, *, initialized: bool = False) -> None:
        super().__init__(__spec__=object(), calls=[], initialized=initialized)

    def is_initialized(self) -> bool:
        return bool(self.initialized)

    def init(self, **options: Any) -> None:
        self.calls.append(options)
        if options["address"] == "10.0.0.1:6379":
            raise ConnectionError("no answer")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def shutdown(self) -> None:
        self.calls.append("shutdown")


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> _Ray:
    found = _Ray()
    monkeypatch.setitem(sys.modules, "ray", found)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return found


def test_without_a_cluster_one_is_started_and_ended_and_signals_stay_ours(ray: _Ray) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with connected(Cluster(), cpus=3):
        assert signal.getsignal(signal.SIGTERM) == before
    assert ray.calls[0]["address"] == "local"
    assert ray.calls[0]["num_cpus"] == 3
    assert ray.calls[0]["include_dashboard"] is False
    assert ray.calls[1:] == ["shutdown"]


def test_the_address_of_the_environment_is_taken(ray: _Ray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.2:6379")
    with connected(Cluster(), cpus=3):
        assert ray.calls[0]["address"] == "10.0.0.2:6379"
        assert "num_cpus" not in ray.calls[0]


def test_a_connection_of_the_caller_stays(ray: _Ray) -> None:
    ray.initialized = True
    with connected(Cluster(), cpus=3):
        pass
    assert ray.calls == []


def test_a_cluster_that_is_not_there_is_an_error(ray: _Ray) -> None:
    with (
        pytest.raises(ConfigError, match=r"'executor.address' must be that of a running cluster, got '10.0.0.1:6379'"),
        connected(Cluster(address="10.0.0.1:6379"), cpus=1),
    ):
        pass
    assert ray.calls[-1] == "shutdown"


def test_a_missing_package_is_one_line_to_type(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for act in (
        lambda: Ray(parallel=1, scratch=tmp_path / "scratch").run([Task(name="a", function=work.add)]),
        lambda: Trainer(blobs(size=8), **SMALL, executor="ray", out=tmp_path / "run").fit(),
        lambda: Searcher(Trainer(blobs(size=8), **SMALL), space={"batch_size": Choice(4, 8)}, executor="ray"),
    ):
        with pytest.raises(MissingExtraError, match=r"pip install 'imgcls\[ray\]'"):
            act()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("executor", "message"),
    [
        ("rai", "'executor' must be one of 'local', 'processes', 'ray', got 'rai'; did you mean 'ray'"),
        ({"name": "processes", "cpus": 2}, "'executor' must be 'processes' alone, which has no options"),
        ({"name": "ray", "cpu": 2}, "'executor.cpu' must be an option of Cluster; did you mean 'cpus'"),
        ({"name": "ray", "cpus": 0}, "'executor.cpus' must be a whole number of at least 1, got 0"),
        ({"name": "ray", "gpus": -1}, "'executor.gpus' must be a number of at least 0, got -1"),
        ({"name": "ray", "address": "ray://head:10001"}, "'executor.address' must be that of a cluster which this"),
    ],
)
def test_wrong_options_are_refused(executor: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Trainer(blobs(size=8), **SMALL, executor=executor)


@pytest.mark.parametrize(
    ("executor", "device", "message"),
    [
        ("ray", "cuda:1", "'device' must be 'auto', 'cuda' or 'cpu' where Ray gives out the GPUs, got 'cuda:1'"),
        ({"name": "ray", "gpus": 1}, "cpu", "'executor.gpus' must be 0 or left out where this process"),
    ],
)
def test_devices_that_do_not_fit_are_refused(executor: Any, device: str, message: str, ray: _Ray) -> None:
    with pytest.raises(ConfigError, match=message):
        check_cluster(executor, device)


def test_options_survive_a_file() -> None:
    trainer = Trainer(blobs(size=8), **SMALL, executor={"name": "ray", "cpus": 4}, parallel=2)
    assert trainer.to_config()["executor"] == {"name": "ray", "cpus": 4}
    assert cluster_of(trainer.executor) == Cluster(cpus=4)
    assert threads_each(trainer.executor, 2) == 4


# The seat, which is a plain class until Ray makes an actor of it


@pytest.fixture
def setting(tmp_path: Path) -> Callable[..., Setting]:
    def make(**changes: Any) -> Setting:
        sign = tmp_path / "sign"
        sign.write_text("here")
        options = {"home": str(tmp_path), "sign": sign, "text": "here", "paths": sys.path, "variables": {}}
        return Setting(**{**options, "version": version("imgcls"), "logs": None, "reuse": False, **changes})

    return make


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": "elsewhere"}, "'out' must lie in a folder that every machine sees under one path, got "),
        ({"sign": Path("/nowhere/sign")}, "'out' must lie in a folder .* got '/nowhere', .* a file system that they"),
        ({"home": "/nowhere"}, "'out' must lie in a folder"),
        ({"version": "0.0.7"}, "imgcls 0.0.7 must be installed on every machine, got "),
    ],
)
def test_a_machine_that_cannot_do_the_work_says_why(
    changes: dict[str, Any], message: str, setting: Callable[..., Setting], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seat, "_DELAY", 0.0)
    place = Seat(setting(**changes), b"")
    try:
        found = place.problem()
    finally:
        place.close()
    assert __import__("re").match(message, found), found


def test_what_a_task_left_is_read_where_its_class_is_known() -> None:
    ending = Ending(done=True, seconds=1.0, left=b"no pickle", fate={})
    assert ending.result("a").state == "failed"
