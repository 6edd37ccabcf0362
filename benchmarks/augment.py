"""What `medium` costs: bytes of a store to normalised images, beside torchvision v2 in the workers of a DataLoader.

Both sides begin at the same uint8 images in memory and end at normalised float32 batches of 64. The peer does the same
operations with the same chances and ranges: flip; rotation, scale and shift, as one resampling where any of them
happens; brightness, contrast and gamma on bytes; noise, blur and erasing on floats. It has two worker processes, imgcls
two threads. They take turns in one process; figures are medians of the rounds, and of several processes.

    python benchmarks/augment.py [--rounds 5] [--batches 16] [--out docs/results/augment.json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

SIZE, BATCH, IMAGES = 224, 64, 256

#: Processes whose median counts, and as many processes and threads as the peer and imgcls have.
PROCESSES, WORKERS = 5, 2

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Gamma(v2.Transform):  # type: ignore[misc]
    """A random power, which torchvision has as a function only."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:  # noqa: ARG002
        """Draw the power."""
        return {"gamma": float(torch.empty(1).uniform_(np.log(0.8), np.log(1.25)).exp())}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Change an image."""
        return functional.adjust_gamma(inpt, **params)


class Noise(v2.Transform):  # type: ignore[misc]
    """Noise of a random deviation, where torchvision's has a fixed one."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:  # noqa: ARG002
        """Draw the deviation."""
        return {"sigma": float(torch.empty(1).uniform_(0.01, 0.05))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Change an image."""
        return functional.gaussian_noise(inpt, **params)


def peer() -> v2.Transform:
    """Write `medium` with torchvision.

    Returns:
        From (C, H, W) uint8 to the same in float32, normalised.
    """
    move = v2.RandomAffine(15, (0.1, 0.1), (0.9, 1.1), interpolation=v2.InterpolationMode.BILINEAR)
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomApply([move], 1 - 0.5**3),
            v2.RandomApply([v2.ColorJitter(brightness=0.2)]),
            v2.RandomApply([v2.ColorJitter(contrast=0.2)]),
            v2.RandomApply([Gamma()], 0.3),
            v2.ToDtype(torch.float32, scale=True),
            v2.RandomApply([Noise()], 0.25),
            v2.RandomApply([v2.GaussianBlur(11, (0.1, 1.5))], 0.25),
            v2.RandomErasing(0.25, (0.02, 0.15), (0.3, 3.3)),
            v2.Normalize(MEAN, STD),
        ]
    )


class Images(torch.utils.data.Dataset[Tensor]):
    """Images in memory that are augmented one by one."""

    def __init__(self, images: Tensor, repeats: int) -> None:
        self.images, self.repeats, self.transform = images, repeats, peer()

    def __len__(self) -> int:
        return len(self.images) * self.repeats

    def __getitem__(self, position: int) -> Tensor:
        return self.transform(self.images[position % len(self.images)])


def loader(images: Tensor, count: int) -> Any:
    """Set the peer up.

    Args:
        images: Images (N, C, H, W), uint8.
        count: Images an epoch.

    Returns:
        The loader.
    """
    return torch.utils.data.DataLoader(
        Images(images, count // len(images)),
        batch_size=BATCH,
        shuffle=True,
        num_workers=WORKERS,
        persistent_workers=True,
        generator=torch.Generator().manual_seed(0),
    )


def ours(images: Tensor, count: int) -> Iterator[Tensor]:
    """Augment as the training does.

    Args:
        images: Images (N, H, W, C), uint8, as the store has them.
        count: Images an epoch.

    Yields:
        Normalised batches.
    """
    from imgcls.augment.augment import to_augment
    from imgcls.augment.augmenter import augmenter
    from imgcls.augment.table import Rows
    from imgcls.runtime.memory import keep_memory

    keep_memory()  # as the Trainer does
    own = augmenter(to_augment("medium"), classes=["all"])
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (MEAN, STD))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0)) % len(images)
    for first in range(0, count, BATCH):
        raw = images.index_select(0, order[first : first + BATCH]).permute(0, 3, 1, 2)
        rows = Rows.span(first, len(raw), seed=0, epoch=0)
        yield own.apply(raw, rows, finish=lambda part: part.sub_(mean).div_(std), layout=torch.channels_last)[0]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Let both sides take turns.

    Args:
        options: Rounds and batches.

    Returns:
        Images a second of each, and the ratios of the rounds.
    """
    torch.set_num_threads(WORKERS)
    images, count = _images(), options.batches * BATCH
    theirs = loader(images.permute(0, 3, 1, 2).contiguous(), count)
    works: dict[str, Callable[[], Any]] = {"peer": lambda: theirs, "imgcls": lambda: ours(images, count)}
    rates: dict[str, list[float]] = {name: [] for name in works}
    for number in range(options.rounds + 1):
        for name, work in works.items():
            started = time.perf_counter()
            for _ in work():
                pass
            if number:  # the first round starts the workers
                rates[name].append(count / (time.perf_counter() - started))
    ratios = [own / other for own, other in zip(rates["imgcls"], rates["peer"], strict=True)]
    return {name: round(statistics.median(values), 1) for name, values in rates.items()} | {
        "ratio": round(statistics.median(ratios), 2)
    }


# Cuts of the photographs inside scikit-learn: real images, for what noise alone would hide.
def _images() -> Tensor:
    rng = np.random.default_rng(0)
    found = []
    for number in range(IMAGES):
        picture = load_sample_images().images[number % 2]
        top, left = (int(rng.integers(side - SIZE)) for side in picture.shape[:2])
        found.append(picture[top : top + SIZE, left : left + SIZE])
    return torch.from_numpy(np.stack(found))


def _child() -> dict[str, Any]:
    command = [sys.executable, __file__, *sys.argv[1:], "--once"]
    found: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    print(found, flush=True)
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=16)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(measure(options)))
        return
    runs = [_child() for _ in range(PROCESSES)]
    middle = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    ratios = sorted(run["ratio"] for run in runs)
    row = {
        "what": f"`medium`, {BATCH} images of {SIZE} x {SIZE}, images a second",
        "peer": f"{middle['peer']:.0f} (torchvision v2, DataLoader with {WORKERS} workers)",
        "imgcls": f"{middle['imgcls']:.0f}",
        "ratio": f"{middle['ratio']:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
    }
    machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    result = {"rows": [row], "runs": runs, "machine": machine}
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
