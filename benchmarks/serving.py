"""Requests per second of `imgcls serve` beside the bare predictor, and the memory of the server.

    python benchmarks/serving.py [DATA] [--requests 10000] [--seconds 20] [--rounds 5]

DATA, or the variable IMGCLS_TEST_DATA, names a folder with `chest_xray` and `weights/mobilenetv2_100.safetensors`. A
head is trained on 300 chest X-rays at 128 pixels; one fold, so one network. The run and its ONNX export are then asked
about 64 JPEGs of the test folder, again and again:

- bare: `predict` on files, 32 at a time, in one process that does nothing else;
- served: `imgcls serve` on loopback, 8 clients in another process on the same machine, one image a request, each client
  with one connection that stays open.

Both take turns, `--rounds` times; medians are told. The last part sends `--requests` more requests to the export and
looks at the memory of the server after each tenth. Writes docs/results/serving.json.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent.parent / "docs" / "results" / "serving.json"
CLIENTS, BATCH, IMAGES = 8, 32, 64
KIND = {"Content-Type": "multipart/form-data; boundary=x"}


def main() -> None:
    options = _options()
    if options.ask:
        print(json.dumps(_asked(options.ask, options.files, seconds=options.seconds, requests=options.requests)))
        return
    with tempfile.TemporaryDirectory() as place:
        run, export = _models(Path(place), options.data)
        files = sorted((options.data / "chest_xray" / "test").rglob("*.jp*g"))[::9][:IMAGES]
        rows = [_compared(name, folder, files, options) for name, folder in (("run", run), ("onnx export", export))]
        memory = _memory(export, files, options.requests)
    result = {"rows": rows, "memory": memory, "machine": _machine()}
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("IMGCLS_TEST_DATA"))
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ask", help=argparse.SUPPRESS)  # the clients' process: the port
    parser.add_argument("--files", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.data is None:
        parser.error("DATA must be given, or IMGCLS_TEST_DATA be set")
    options.data = Path(options.data)
    return options


def _models(place: Path, data: Path) -> tuple[Path, Path]:
    from imgcls import Dataset, Trainer

    chest = Dataset.from_folder(data / "chest_xray", positive="PNEUMONIA").sample(300, seed=0)
    weights = str(data / "weights" / "mobilenetv2_100.safetensors")
    run = Trainer(
        chest,
        backbone={"name": "mobilenetv2_100", "weights": weights, "options": {"pad_type": "same"}},
        splitter={"name": "holdout", "val": 0.2, "test": 0.2},
        image={"size": 128},
        stages=[{"epochs": 1, "train": "head", "lr": 3e-3}],
        out=place / "run",
    ).fit()
    return run.folder, run.export(out=place / "onnx")


def _compared(name: str, folder: Path, files: Sequence[Path], options: argparse.Namespace) -> dict[str, Any]:
    bare, served = [], []
    predictor = _opened(folder)
    predictor.predict(files, batch_size=BATCH)  # the first one is slower
    with _server(folder) as port:
        _clients(port, files, seconds=3)
        for _ in range(options.rounds):
            bare.append(_bare(predictor, files, options.seconds))
            served.append(_clients(port, files, seconds=options.seconds))
    rate = statistics.median(one["rate"] for one in served)
    return {
        "model": name,
        "bare predictor, images/s": f"{statistics.median(bare):.1f}",
        "served, requests/s": f"{rate:.1f}",
        "share": f"{rate / statistics.median(bare):.2f}",
        "median latency, ms": round(1000 * statistics.median(one["median"] for one in served)),
        "95 % below, ms": round(1000 * statistics.median(one["p95"] for one in served)),
    }


def _opened(folder: Path) -> Any:
    import imgcls

    return imgcls.load_run(folder).predictor if (folder / "run.json").exists() else imgcls.load_exported(folder)


def _bare(predictor: Any, files: Sequence[Path], seconds: float) -> float:
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        predictor.predict(files, batch_size=BATCH)
        count += len(files)
    return count / (time.perf_counter() - began)


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    process = subprocess.Popen([sys.executable, "-m", "imgcls", "serve", str(folder), "--port", str(port)])
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
                break
            time.sleep(0.1)
        yield port
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


def _clients(port: int, files: Sequence[Path], *, seconds: float = 0, requests: int = 0) -> Any:
    words = [sys.executable, __file__, ".", "--ask", str(port), "--seconds", str(seconds), "--requests", str(requests)]
    done = subprocess.run([*words, "--files", *map(str, files)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def _asked(port: str, files: Sequence[str], *, seconds: float, requests: int) -> dict[str, float]:
    bodies = [_form(Path(file)) for file in files]
    took: list[list[float]] = [[] for _ in range(CLIENTS)]
    began = time.perf_counter()

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=60)
        times, at = took[number], number
        while time.perf_counter() - began < seconds if seconds else len(times) < requests // CLIENTS:
            start = time.perf_counter()
            connection.request("POST", "/api/predict", bodies[at % len(bodies)], KIND)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200:
                raise RuntimeError(content)
            times.append(time.perf_counter() - start)
            at += 1
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = time.perf_counter() - began
    times = sorted(one for part in took for one in part)
    return {"rate": len(times) / whole, "median": statistics.median(times), "p95": times[int(0.95 * len(times))]}


def _form(file: Path) -> bytes:
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{file.name}"\r\n\r\n'
    return head.encode() + file.read_bytes() + b"\r\n--x--\r\n"


def _memory(folder: Path, files: Sequence[Path], requests: int) -> list[dict[str, int]]:
    with _server(folder) as port:
        found = []
        for part in range(1, 11):
            _clients(port, files, requests=requests // 10)
            found.append({"requests": part * requests // 10, "MB": round(_resident(port) / 1e6)})
    return found


def _resident(port: int) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("imgcls_resident_memory_bytes"))


def _machine() -> str:
    import onnxruntime
    import torch

    model = next(
        (line.split(": ")[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    versions = f"torch {torch.__version__.split('+')[0]}, onnxruntime {onnxruntime.__version__}"
    return (
        f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}, {time.strftime('%Y-%m-%d')}"
    )


if __name__ == "__main__":
    main()
