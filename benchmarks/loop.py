"""What the training loop costs beside a bare PyTorch loop: same model, precision, optimizer and records.

Both train resnet18 at 64 pixels on images that are decoded and in memory. Epochs of the two take turns, and
the figure is the median of the ratios of neighbours, so that what else the machine does falls on both. An epoch is
timed from the end of its first step to that of its last; checkpoints and validation are measured by `training.py`.

    python benchmarks/loop.py [--processes 6] [--epochs 8] [--batch-size 32] [--precision fp32] [--clock wall]

On a machine that does other work as well, `--clock cpu --threads 1` counts the processor's time instead.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from imgcls import Dataset, ImageSpec, Stage, Trainer, backbones
from imgcls.models.base import Classifier
from imgcls.runtime.device import Runtime
from imgcls.training.events import EpochEnd, StepEnd
from imgcls.training.optimizers import AdamW

SIZE, LR = 64, 1e-3
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
BACKBONE = {"name": "resnet18", "pretrained": False}


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
        "clock": options.clock,
    }
    print(json.dumps(result, indent=1))
    if options.out:
        Path(options.out).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


# Where memory happens to lie favours one loop for the life of a process, so there are several.
def _process(number: int) -> list[float]:
    command = [sys.executable, __file__, *sys.argv[1:], "--child"]
    environment = os.environ | {"IMGCLS_QUIET": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    ratios: list[float] = json.loads(done.stdout)
    print(f"process {number}: median {statistics.median(ratios):.3f} of {[round(r, 2) for r in ratios]}", flush=True)
    return ratios


def _ratios(options: argparse.Namespace) -> list[float]:
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (options.records, SIZE, SIZE, 3), dtype=np.uint8)
    labels = np.arange(options.records) % 2
    # With a precision named, the Trainer keeps planes together in fp32.
    runtime = Runtime(precision=options.precision, channels_last=options.precision == "bf16")
    clock = CLOCKS[options.clock]
    referee = Referee(bare=_bare(images, labels, runtime, options.batch_size, clock), clock=clock)
    _train(images, labels, options, referee)
    return referee.ratios[1:]  # the first epoch gets warm


@attrs.define(kw_only=True)
class Referee:
    """Lets the bare loop train an epoch after each one of the Trainer, and notes both times.

    Attributes:
        bare: Trains an epoch and gives the seconds between its first and its last step.
        clock: Tells the time.
        ratios: Of each pair of epochs.
        ends: When the steps of the epoch ended.
    """

    bare: Callable[[], float]
    clock: Callable[[], float]
    ratios: list[float] = attrs.field(factory=list)
    ends: list[float] = attrs.field(factory=list)

    def __call__(self, event: StepEnd | EpochEnd) -> None:
        """Hear of a step or an epoch.

        Args:
            event: What happened.
        """
        if isinstance(event, StepEnd):
            self.ends.append(self.clock())
            return
        self.ratios.append((self.ends[-1] - self.ends[0]) / self.bare())
        self.ends.clear()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--processes", type=int, default=6)
    parser.add_argument("--records", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--clock", default="wall", choices=sorted(CLOCKS))
    parser.add_argument("--out")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


# As many records train as the bare loop has; a few more validate.
def _train(images: NDArray[np.uint8], labels: NDArray[np.int64], options: argparse.Namespace, referee: Referee) -> None:
    more = np.arange(4)
    splits = ["train"] * len(labels) + ["val"] * len(more)
    data = Dataset.from_arrays(
        np.concatenate([images, images[more]]), np.concatenate([labels, labels[more]]).astype(str), splits=splits
    )
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            data,
            backbone=BACKBONE,
            test=None,
            splitter="predefined",
            image=ImageSpec(size=SIZE, mean=(0.5,) * 3, std=(0.25,) * 3),
            stages=[Stage(epochs=options.epochs + 1, lr=LR)],
            schedule="constant",
            monitor="loss",
            batch_size=options.batch_size,
            precision=options.precision,
            callbacks=[referee],
            out=Path(folder) / "run",
        ).fit()


# The batches are normalised floats in memory before the clock starts, which favours the bare loop.
def _bare(
    images: NDArray[np.uint8], labels: NDArray[np.int64], runtime: Runtime, size: int, clock: Callable[[], float]
) -> Callable[[], float]:
    model = runtime.place(backbones.create(BACKBONE).build(2, image_size=(SIZE, SIZE)))
    assert isinstance(model, Classifier)
    optimizer = AdamW().over(model, lr=LR)
    layout = torch.channels_last if runtime.channels_last else torch.contiguous_format
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255).sub_(0.5).div_(0.25)
    pixels = pixels.contiguous(memory_format=layout)
    parts = zip(torch.split(pixels, size), torch.split(torch.from_numpy(labels), size), strict=True)
    batches: list[tuple[Tensor, Tensor]] = list(parts)
    model.train()

    def epoch() -> float:
        ends = []
        for inputs, targets in batches:
            optimizer.zero_grad(set_to_none=True)
            with runtime.autocast():
                logits = model(inputs)
            loss = functional.cross_entropy(logits, targets)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            ends.append(clock())
        return ends[-1] - ends[0]

    return epoch


if __name__ == "__main__":
    main()
