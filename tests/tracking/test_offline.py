"""Weights & Biases and Comet without a network: what they wrote is read back."""

from __future__ import annotations

import json
import socket
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from imgcls.core.folders import read_json
from imgcls.tracking.base import RunInfo
from imgcls.tracking.comet import Comet
from imgcls.tracking.together import TrackedRun, tracked
from imgcls.tracking.wandb import Wandb

Info = Callable[..., RunInfo]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process reach this machine only."""
    connect, resolve = socket.socket.connect, socket.getaddrinfo

    def connect_here(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in {"127.0.0.1", "::1", "localhost"}:
            pytest.fail(f"a connection to {address}")
        connect(self, address)

    def resolve_here(host: Any, *rest: Any, **options: Any) -> Any:
        if host not in {None, "127.0.0.1", "::1", "localhost"}:
            pytest.fail(f"a question about {host}")
        return resolve(host, *rest, **options)

    monkeypatch.setattr(socket.socket, "connect", connect_here)
    monkeypatch.setattr(socket, "getaddrinfo", resolve_here)


def log(run: TrackedRun, *steps: int) -> None:
    for step in steps:
        run.log({"val/loss": 1 / step}, step=step, epoch=step // 10, fold=0)


def wandb_rows(path: Path) -> list[dict[str, Any]]:
    from wandb.proto.wandb_internal_pb2 import Record

    rows = []
    for data in records(path.read_bytes()):
        record = Record.FromString(data)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items})
    return rows


def records(data: bytes) -> Iterator[bytes]:
    """Read the log format of LevelDB behind a header of 7 bytes: blocks of 32 KiB, records in one piece or several."""
    at, whole = 7, b""
    while at + 7 <= len(data):
        if at % 32768 > 32768 - 7:  # no room for a header
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        whole, at = whole + data[at + 7 : at + 7 + length], at + 7 + length
        if kind in {1, 4}:  # all, or the last piece
            yield whole
            whole = b""


def test_wandb_offline_keeps_the_values_and_continues_its_run(info: Info) -> None:
    pytest.importorskip("wandb")
    for resumed, steps in ((False, (10, 20)), (True, (20, 30))):
        with tracked([Wandb(mode="offline")], info(resumed=resumed)) as run:
            assert run.names == ("wandb", "csv")
            log(run, *steps)
    identity = read_json(info().folder / "trackers.json")["wandb"]
    files = sorted((info().folder / "wandb").glob(f"offline-run-*/run-{identity}.wandb"))
    assert files
    rows = [row for file in files for row in wandb_rows(file)]
    assert [(row["fold_0/step"], row["fold_0/epoch"], row["fold_0/val/loss"]) for row in rows] == [
        (step, step // 10, 1 / step) for step in (10, 20, 30)
    ]


def test_wandb_leaves_the_users_own_run_open(info: Info, tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb")
    mine = wandb.init(mode="offline", dir=str(tmp_path), settings=wandb.Settings(console="off"))
    with tracked([Wandb(mode="offline")], info()) as run:
        log(run, 1)
    assert wandb.run is mine
    mine.finish()


def comet_messages(path: Path) -> list[dict[str, Any]]:
    with zipfile.ZipFile(path) as archive:
        text = archive.read("messages.json").decode()
    return [json.loads(line) for line in text.splitlines()]


def test_comet_offline_keeps_the_values_and_continues_its_experiment(info: Info) -> None:
    pytest.importorskip("comet_ml")
    for resumed, steps in ((False, (10, 20)), (True, (20, 30))):
        with tracked([Comet(mode="offline")], info(resumed=resumed)) as run:
            assert run.names == ("comet", "csv")
            log(run, *steps)
    identity = read_json(info().folder / "trackers.json")["comet"]
    files = sorted((info().folder / "comet").glob(f"{identity}*.zip"), key=lambda path: path.stat().st_mtime)
    assert len(files) == 2
    found = [message["payload"] for file in files for message in comet_messages(file)]
    metrics = [payload["metric"] for payload in found if "metric" in payload]
    ours = [
        (one["step"], one["epoch"], one["metricValue"]) for one in metrics if one["metricName"] == "fold_0/val/loss"
    ]
    assert ours == [(step, step // 10, 1 / step) for step in (10, 20, 30)]
    params = {p["param"]["paramName"]: p["param"]["paramValue"] for p in found if "param" in p}
    assert params["stages.0.train"] == "head"


def test_comet_does_not_hook_into_imports(info: Info) -> None:
    pytest.importorskip("comet_ml")
    before = list(sys.meta_path)
    with tracked([Comet(mode="offline")], info()):
        assert sys.meta_path == before
