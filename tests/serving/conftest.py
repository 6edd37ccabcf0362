"""A model that tells how bright an image is, served."""

from __future__ import annotations

import contextlib
import io
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imgcls.data.spec import ImageSpec
from imgcls.evaluation.thresholds import Threshold
from imgcls.inference.deciding import Decider
from imgcls.inference.exporting import Order, export
from imgcls.inference.predictor import Predictor
from imgcls.inference.reading import Told
from imgcls.inference.saved import SavedModel
from imgcls.models.base import backbones
from imgcls.models.head import Head
from imgcls.serving.served import Served

Png = Callable[..., bytes]


def brightness(pixels: NDArray[Any]) -> NDArray[np.float64]:
    light = pixels.mean(axis=(1, 2, 3)) / 255
    return np.stack([1 - light, light], axis=1)


def told(probs: NDArray[np.float64], **columns: NDArray[Any]) -> Told:
    return Told(probs=probs, each=probs[None], columns=columns)


def threshold(rule: str, value: float) -> Threshold:
    return Threshold(rule=rule, value=value, model="mean", num_records=9, num_positives=4)


@pytest.fixture
def served() -> Served:
    decider = Decider(
        classes=("dark", "light"),
        positive="light",
        multilabel=False,
        decision="max_f1",
        thresholds=(threshold("max_f1", 0.4), threshold("sensitivity>=0.95", 0.2)),
    )
    image = ImageSpec(size=8, channels=1)
    return Served(name="lamps", kind="onnx", image=image, decider=decider, tell=lambda pixels: told(brightness(pixels)))


@pytest.fixture(scope="session")
def png() -> Png:
    def make(level: int = 128, size: tuple[int, int] = (12, 10), *, form: str = "PNG") -> bytes:
        stream = io.BytesIO()
        Image.new("L", size, level).save(stream, form)
        return stream.getvalue()

    return make


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network without training, in ONNX."""
    spec, classes = ImageSpec(size=28), ("a", "b")
    backbone = backbones.create({"name": "small-cnn", "base": 8, "depth": 3})
    saved = SavedModel(
        backbone={"name": "small-cnn", "base": 8, "depth": 3},
        image=spec,
        num_outputs=2,
        classes=classes,
        positive="b",
        decision="max_f1",
        head=Head(),
    )
    predictor = Predictor(
        saved=saved,
        models=(backbone.build(2, image_size=spec.size, head=saved.head).eval(),),
        thresholds=(threshold("max_f1", 0.4), threshold("sensitivity>=0.95", 0.2)),
    )
    pixels = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 3), dtype=np.uint8)
    folder = tmp_path_factory.mktemp("exported") / "lamps"
    order = Order(predictor=predictor, folds=(0,), format="onnx", pixels=pixels, origin={"name": "lamps"})
    export(folder, order)
    return folder


@contextlib.contextmanager
def server(folder: Path, *options: str) -> Iterator[str]:
    """Start the command of a user, and stop it as he does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "imgcls", "serve", str(folder), "--port", str(port), *options]
    process = subprocess.Popen(words, stderr=subprocess.PIPE)
    try:
        _wait(process, f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def _wait(process: subprocess.Popen[bytes], address: str) -> None:
    for _ in range(600):
        assert process.poll() is None, process.communicate()[1].decode()
        with contextlib.suppress(OSError), urllib.request.urlopen(address):
            return
        time.sleep(0.1)
    raise AssertionError("the server did not start")


@pytest.fixture(scope="session")
def address(exported: Path) -> Iterator[str]:
    with server(exported, "--max-mb", "1") as found:
        yield found
