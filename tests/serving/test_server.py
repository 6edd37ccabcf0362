"""The server as a user starts it, on loopback."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgcls import Dataset, Trainer, load_exported
from imgcls.core.errors import ConfigError, RunError
from imgcls.inference.caution import Promises
from imgcls.serving.limits import Limits
from imgcls.serving.served import open_served
from imgcls.serving.server import serve
from imgcls.testing import blobs, write_image_folder

BOUNDARY = "a-boundary"


def form(content: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    return head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def post(connection: http.client.HTTPConnection, body: bytes) -> tuple[int, Any]:
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    connection.request("POST", "/api/predict", body, kind)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def connect(address: str) -> contextlib.closing[http.client.HTTPConnection]:
    return contextlib.closing(http.client.HTTPConnection(address.removeprefix("http://"), timeout=60))


def once(address: str, body: bytes) -> tuple[int, Any]:
    with connect(address) as connection:
        return post(connection, body)


def memory(address: str) -> float:
    with urllib.request.urlopen(f"{address}/metrics") as answer:
        text = answer.read().decode()
    (line,) = [line for line in text.splitlines() if line.startswith("imgcls_resident_memory_bytes")]
    return float(line.split()[1])


def test_the_server_says_what_the_export_says(address: str, exported: Path, png: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(png(200, size=(40, 30)))
    status, found = once(address, form(file.read_bytes()))
    wanted = load_exported(exported).predict(file)
    assert status == 200
    assert found["model"] == "lamps"
    np.testing.assert_allclose(found["results"][0]["probs"]["b"], wanted["prob_b"].iloc[0], atol=1e-6)
    assert found["results"][0]["decision"] == wanted["decision"].iloc[0]


def test_a_request_that_is_too_large_hears_why(address: str, png: Any) -> None:
    assert once(address, form(b"x" * 3_000_000)) == (413, {"error": "the request must have at most 1 MB, got more"})
    assert once(address, form(png()))[0] == 200


def test_a_client_that_hangs_up_does_no_harm(address: str, png: Any) -> None:
    for _ in range(5):
        with connect(address) as connection:
            connection.putrequest("POST", "/api/predict")
            connection.putheader("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
            connection.putheader("Content-Length", "100000")
            connection.endheaders(form(png())[:50])
    assert once(address, form(png()))[0] == 200


def test_many_clients_get_their_own_answers(address: str, png: Any) -> None:
    bodies = [form(png(level, size=(40, 40))) for level in range(0, 256, 16)]
    alone = [once(address, body)[1]["results"][0]["probs"]["b"] for body in bodies]

    def client(number: int) -> bool:
        with connect(address) as connection:
            found = [post(connection, body)[1]["results"][0]["probs"]["b"] for body in bodies]
        return np.allclose(found, alone, atol=1e-6)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(client, range(8)))


def test_an_export_is_served_without_torch(exported: Path) -> None:
    code = (
        "import sys\nsys.modules['torch'] = None\nfrom imgcls.serving.app import create_app\n"
        "from imgcls.serving.served import open_served\ncreate_app(open_served(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(exported)], check=True)


def test_what_is_neither_run_nor_export_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="'path' must name the folder of a finished run or of an export, got neither"):
        open_served(tmp_path)


def test_an_export_has_sets_and_abstention_of_its_own(exported: Path) -> None:
    with pytest.raises(
        ConfigError, match="'sets' and 'reject' must be given to 'export', got them for what was exported"
    ):
        open_served(exported, promises=Promises(sets=0.1))


def test_a_run_is_served_with_sets_abstention_and_guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGCLS_CACHE", str(tmp_path / "cache"))
    images = write_image_folder(tmp_path / "images", blobs(size=8, groups=18))
    run = Trainer(
        Dataset.from_folder(images, group="(g[0-9]+)-"),
        backbone={"name": "small-cnn", "base": 4, "depth": 2},
        image={"size": 8},
        stages=[{"epochs": 1}],
        out=tmp_path / "run",
    ).fit()
    run.guard()
    served = open_served(run.folder, promises=Promises(sets=0.3, reject={"coverage": 0.8}))
    pixels = np.stack([run.data.pixels(at, run.model.image) for at in range(len(run.data))])
    paths = [images / name for name in run.data.ids.tolist()]
    wanted = run.predict(paths, sets=0.3, reject=run.rejection(coverage=0.8))
    found = served.tell(pixels).columns
    for name in ("unlike", "set", "rejected"):
        assert found[name].tolist() == wanted[name].tolist()
    np.testing.assert_allclose(found["distance"], wanted["distance"], rtol=1e-5)


def test_wrong_options_are_refused(exported: Path) -> None:
    with pytest.raises(ConfigError, match="'port' must be from 1 to 65535, got 0"):
        serve(exported, port=0)
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(ConfigError, match="'port' must be free at"):
        serve(exported, port=other.getsockname()[1])
    with pytest.raises(ConfigError, match="'waiting' must be at least 'images', 16, got 3"):
        Limits(waiting=3)


@pytest.mark.slow
def test_memory_is_held_over_ten_thousand_requests(address: str, png: Any) -> None:
    bodies = [form(png(level, size=(500, 400), form="JPEG")) for level in range(0, 256, 32)]

    def client(count: int) -> None:
        with connect(address) as connection:
            for number in range(count):
                assert post(connection, bodies[number % 8])[0] == 200

    peaks = []
    with ThreadPoolExecutor(8) as threads:
        for _ in range(10):
            list(threads.map(client, [125] * 8))
            peaks.append(memory(address))
    assert max(peaks) - peaks[0] < 20e6  # after the first thousand it has what it needs
