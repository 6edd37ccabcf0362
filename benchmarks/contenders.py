"""Trainings of one resnet18 that take turns, each in a process of its own; `training.py` starts them.

A contender trains one epoch to get warm, says that it is ready, and then trains an epoch for each line it is sent. The
clock of an epoch begins with the end of its first step, so that starting workers and writing checkpoints, which cost
the same however long an epoch is, stay out of it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

SIZE, BATCH, LR, WORKERS = 224, 32, 1e-4, 2
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Task = dict[str, Any]


class Turns:
    """Measures epochs of one contender and waits between them.

    Attributes:
        reply: Where results are written, a line of JSON each.
    """

    def __init__(self, reply: int) -> None:
        self.reply = os.fdopen(reply, "w")
        self.started, self.ended, self.images, self.steps = 0.0, 0.0, 0, 0

    def step(self, images: int) -> None:
        """Note the end of a step.

        Args:
            images: How many it had.
        """
        self.ended = time.perf_counter()
        if self.steps == 0:
            self.started, self.images = self.ended, 0
        else:
            self.images += images
        self.steps += 1

    def epoch(self, **more: Any) -> None:
        """Report an epoch and wait until the next one may begin; without one, end the process.

        Args:
            **more: What else is reported.
        """
        found = {"seconds": self.ended - self.started, "images": self.images, **more}
        self.steps = 0
        self.reply.write(json.dumps(found) + "\n")
        self.reply.flush()
        if not sys.stdin.readline():
            os._exit(0)


class Files(Dataset[tuple[Tensor, int]]):
    """The JPEG files as ImageFolder gives them."""

    def __init__(self, task: Task) -> None:
        self.records = list(zip(task["paths"], task["labels"], strict=True))
        self.transform = transforms.Compose(
            [transforms.Resize((SIZE, SIZE)), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        )

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        path, label = self.records[position]
        with Image.open(path) as image:
            return self.transform(image.convert("RGB")), label


def _network() -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = timm.create_model("resnet18", pretrained=False, num_classes=2)
    return network.train()


def _loader(task: Task) -> DataLoader[tuple[Tensor, int]]:
    return DataLoader(Files(task), batch_size=BATCH, shuffle=True, num_workers=WORKERS)


def plain(task: Task, turns: Turns) -> None:
    """Train with a loop of PyTorch and timm in full precision.

    Args:
        task: The files.
        turns: Who measures.
    """
    model, loader = _network(), _loader(task)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.01)
    while True:
        for images, labels in loader:
            loss = functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            turns.step(len(images))
        turns.epoch()


def lightning(task: Task, turns: Turns) -> None:
    """Train with Lightning, all of its settings being the defaults.

    Args:
        task: The files.
        turns: Who measures.
    """
    import lightning  # type: ignore[import-not-found]  # of an environment of its own

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = _network()

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            return functional.cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=LR, weight_decay=0.01)

    class Referee(lightning.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, *arguments: Any) -> None:
            turns.step(len(arguments[3][0]))

        def on_train_epoch_end(self, *_: Any) -> None:
            turns.epoch()

    lightning.Trainer(callbacks=[Referee()]).fit(Module(), _loader(task))


def imgcls(task: Task, turns: Turns) -> None:
    """Train with a Trainer; precision, layout, device and store are chosen by itself.

    Args:
        task: The set.
        turns: Who measures.
    """
    from imgcls.training import selection, state
    from imgcls.training.events import EpochEnd, StepEnd

    saved: list[float] = []
    for module in (selection, state):
        module.save_checkpoint = _timed(module.save_checkpoint, saved)  # type: ignore[attr-defined]

    def hear(event: StepEnd | EpochEnd) -> None:
        if isinstance(event, StepEnd):
            turns.step(event.records)
            return
        runtime = json.loads((folder / "environment.json").read_text(encoding="utf-8"))["runtime"]
        spent = sum(saved)  # of the last checkpoint of the epoch before, and the best one of this epoch
        saved.clear()
        turns.epoch(saving=spent, runtime=runtime)

    folder = Path("run").resolve()
    trainer(task, out=folder, callbacks=[hear]).fit()


def _timed(work: Callable[..., None], seconds: list[float]) -> Callable[..., None]:
    def timed(*arguments: Any, **named: Any) -> None:
        started = time.perf_counter()
        work(*arguments, **named)
        seconds.append(time.perf_counter() - started)

    return timed


def trainer(task: Task, **options: Any) -> Any:
    """Make the Trainer whose training is measured.

    Args:
        task: `root` of the images and how many `images` to take.
        **options: Further options.

    Returns:
        The Trainer, for more epochs than anybody waits for.
    """
    from imgcls import Dataset, Stage, Trainer

    data = Dataset.from_folder(task["root"], group=r"(person\d+_[a-z]+|(?:NORMAL2-)?IM-\d+)", positive="PNEUMONIA")
    assert data.splits is not None
    data = data.subset(np.flatnonzero(data.splits == "train")).sample(task["images"], seed=0)
    return Trainer(
        data,
        backbone={"name": "resnet18", "pretrained": False},
        test=None,
        splitter={"name": "holdout", "val": 32, "test": 32},
        image={"size": SIZE},
        stages=[Stage(epochs=1000, lr=LR)],
        batch_size=BATCH,
        **options,
    )


# Batches are normalised floats in memory, which no training has for nothing.
def bare(task: Task, turns: Turns) -> None:
    """Train with a bare loop on batches in memory, in the precision and layout that imgcls chose.

    Args:
        task: The files, and the `runtime`.
        turns: Who measures.
    """
    from imgcls.training.optimizers import AdamW

    layout = torch.channels_last if task["runtime"]["channels_last"] else torch.contiguous_format
    mixed = task["runtime"]["precision"] == "bf16"
    batches = [(images.contiguous(memory_format=layout), labels) for images, labels in _loader(task)]
    model: nn.Module = _network().to(memory_format=layout)
    optimizer = AdamW(weight_decay=0.01).over(model, lr=LR)
    while True:
        for images, labels in batches:
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
                logits = model(images)
            functional.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            turns.step(len(images))
        turns.epoch()


CONTENDERS = {work.__name__: work for work in (plain, lightning, imgcls, bare)}


class Process:
    """A contender in a process of its own.

    Attributes:
        ready: What it reported of its first epoch.
    """

    def __init__(self, name: str, task: Task, folder: Path, python: str) -> None:
        (folder / name).mkdir()
        reading, writing = os.pipe()
        command = [python, __file__, name, str(writing), json.dumps(task)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=(folder / name / "log").open("w"),
            cwd=folder / name,
            env=os.environ | {"IMGCLS_QUIET": "1"},
            pass_fds=[writing],
            text=True,
        )
        os.close(writing)
        self.log, self.replies = folder / name / "log", os.fdopen(reading)
        self.ready = self._reply()

    def turn(self) -> dict[str, Any]:
        """Let it train an epoch.

        Returns:
            What it reports.
        """
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        line = next(iter(self.replies), None)
        if line is None:
            raise SystemExit(self.log.read_text(encoding="utf-8"))
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def rates(contenders: dict[str, Process], rounds: int) -> Iterator[dict[str, float]]:
    """Let contenders take turns.

    Args:
        contenders: By name.
        rounds: How often.

    Yields:
        Images a second of each, and seconds of `saving`.
    """
    for number in range(rounds):
        order = list(contenders) if number % 2 else list(contenders)[::-1]
        found: dict[str, float] = {}
        for name in order:
            said = contenders[name].turn()
            found[name] = said["images"] / said["seconds"]
            if "saving" in said:
                found["saving"] = said["saving"]
        yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(CONTENDERS))
    parser.add_argument("reply", type=int)
    parser.add_argument("task", type=json.loads)
    options = parser.parse_args()
    CONTENDERS[options.name](options.task, Turns(options.reply))


if __name__ == "__main__":
    main()
