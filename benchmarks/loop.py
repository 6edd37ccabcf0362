"""What the training loop costs beside a bare PyTorch loop: same model, precision, optimizer and records.

Both train resnet18 at 64 pixels on images that are decoded and in memory. Epochs of the two take turns, and
the figure is the median of the ratios of neighbours, so that what else the machine does falls on both.

    python benchmarks/loop.py [--processes 6] [--epochs 8] [--batch-size 32] [--precision fp32]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from imgcls import ImageSpec, Stage, backbones
from imgcls.balancing.base import Records
from imgcls.balancing.samplers import Uniform
from imgcls.models.base import Classifier
from imgcls.runtime.batches import Batches
from imgcls.runtime.device import Runtime
from imgcls.runtime.sources import Resident
from imgcls.training import loop
from imgcls.training.optimizers import AdamW
from imgcls.training.schedules import Constant

SIZE = 64


def main() -> None:
    options = _options()
    if options.child:
        print(json.dumps(_ratios(options)))
        return
    runs = [_process(number) for number in range(options.processes)]
    medians = [statistics.median(ratios) for ratios in runs]
    result = {
        "ratio_median": round(statistics.median(medians), 4),
        "ratio_of_each_process": [round(ratio, 4) for ratio in medians],
        "pairs_of_each_process": options.epochs,
        "steps_per_epoch": -(-options.records // options.batch_size),
        "machine": f"{platform.machine()}, {options.threads} threads, torch {torch.__version__}, {options.precision}",
    }
    print(json.dumps(result, indent=1))
    if options.out:
        Path(options.out).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


# Where memory happens to lie favours one loop for the life of a process, so there are several, and which
# loop is made first alternates.
def _process(number: int) -> list[float]:
    command = [sys.executable, __file__, *sys.argv[1:], "--child", str(number + 1)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    ratios: list[float] = json.loads(done.stdout)
    print(f"process {number}: median {statistics.median(ratios):.3f} of {[round(r, 2) for r in ratios]}", flush=True)
    return ratios


def _ratios(options: argparse.Namespace) -> list[float]:
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (options.records, SIZE, SIZE, 3), dtype=np.uint8)
    labels = rng.integers(0, 2, options.records)
    runtime = Runtime(precision=options.precision, channels_last=True)
    makers = {"ours": _ours, "bare": _bare}
    order = ["ours", "bare"] if options.child % 2 else ["bare", "ours"]
    loops = {name: makers[name](images, labels, runtime, options.batch_size) for name in order}
    for name in order:
        loops[name]()
    ratios = []
    for turn in range(options.epochs):
        seconds = {name: _seconds(loops[name]) for name in (order if turn % 2 else order[::-1])}
        ratios.append(seconds["ours"] / seconds["bare"])
    return ratios


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--processes", type=int, default=6)
    parser.add_argument("--records", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--out")
    parser.add_argument("--child", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def _seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _model(runtime: Runtime) -> Classifier:
    model = backbones.create({"name": "resnet18", "pretrained": False}).build(2, image_size=(SIZE, SIZE))
    placed = runtime.place(model)
    assert isinstance(placed, Classifier)
    return placed


def _ours(images: NDArray[np.uint8], labels: NDArray[np.int64], runtime: Runtime, size: int) -> Callable[[], None]:
    spec = ImageSpec(size=SIZE, mean=(0.5,) * 3, std=(0.25,) * 3)
    everything = np.arange(len(labels))
    job = loop.Job(
        batches=Batches.over(Resident(images=torch.from_numpy(images), spec=spec, bad={}), runtime),
        targets=labels,
        train=everything,
        val=everything[:2],
        records=Records(labels=labels, groups=None, num_classes=2),
        sampler=Uniform(),
        loss="cross-entropy",
        class_weights=None,
        stages=(Stage(epochs=1),),
        optimizer=AdamW(),
        schedule=Constant(),
        monitor="loss",
        early_stopping=None,
        batch_size=size,
        positive=1,
        seed=0,
        folder=Path(tempfile.gettempdir()),
        ids=everything.astype(str),
    )
    state = loop._begin(_model(runtime), job, job.stages[0], epoch=0, best=None)

    def epoch() -> None:
        loop._train_epoch(state, job, lambda: None)

    return epoch


# The batches are normalised floats in memory before the clock starts, which favours the bare loop.
def _bare(images: NDArray[np.uint8], labels: NDArray[np.int64], runtime: Runtime, size: int) -> Callable[[], None]:
    model = _model(runtime)
    optimizer = AdamW().over(model, lr=1e-3)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255).sub_(0.5).div_(0.25)
    parts = zip(torch.split(pixels, size), torch.split(torch.from_numpy(labels), size), strict=True)
    batches: list[tuple[Tensor, Tensor]] = list(parts)
    model.train()

    def epoch() -> None:
        for inputs, targets in batches:
            optimizer.zero_grad(set_to_none=True)
            with runtime.autocast():
                logits = model(inputs)
            loss = functional.cross_entropy(logits, targets)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return epoch


if __name__ == "__main__":
    main()
