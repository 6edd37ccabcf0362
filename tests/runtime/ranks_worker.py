"""What each of the processes of test_ranks.py runs, with the variables that torchrun would set."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from imgcls import Backbone, Facts, Trainer
from imgcls.data.spec import ImageSpec
from imgcls.runtime.batches import Batches, forward
from imgcls.runtime.device import Runtime
from imgcls.runtime.ranks import Ranks, joined
from imgcls.runtime.sources import Resident
from imgcls.testing import blobs
from imgcls.training.events import StepEnd

torch.set_num_threads(1)


@attrs.frozen(kw_only=True)
class Plain(Backbone):
    """A network without batch norm and dropout, whose result does not depend on how a batch is shared."""

    def make(self, *, in_channels: int, image_size: tuple[int, int], initial: bool) -> tuple[nn.Module, Facts]:
        layers = (nn.Conv2d(in_channels, 4, 3), nn.ReLU(), nn.Flatten())
        return nn.Sequential(*layers), Facts(num_features=4 * (image_size[0] - 2) * (image_size[1] - 2))


def trainer(out: Path, **changes: Any) -> Trainer:
    options: dict[str, Any] = {
        "backbone": Plain(),
        "image": {"size": 8, "channels": 1, "mean": 0.5, "std": 0.5},
        "splitter": {"name": "holdout", "val": 0.3, "test": 0.3},
        "stages": [{"epochs": 2, "lr": 0.03, "optimizer": "sgd"}],
        "augment": ["flip-lr"],
        "batch_size": 7,
        "device": "cpu",
        "precision": "fp32",
        **changes,
    }
    return Trainer(blobs(size=8), out=out, **options)


def train(out: Path, *, pause: float = 0.0, fail: int | None = None, small: bool = False, **changes: Any) -> None:
    """Train and write down the loss of each step."""
    steps: list[float] = []

    def listen(event: Any) -> None:
        if isinstance(event, StepEnd):
            steps.append(event.loss)
            time.sleep(pause)
        if fail is not None and len(steps) == fail:
            raise RuntimeError("on purpose")

    if small:
        changes["backbone"] = {"name": "small-cnn", "base": 4, "depth": 2}
    run = trainer(out, callbacks=(listen,), **changes).fit()
    if steps:
        (run.folder / "steps.json").write_text(json.dumps(steps))


def primitives(ranks: Ranks) -> None:
    check_shares(ranks)
    assert ranks.total(torch.tensor([1.0, float(ranks.rank)])).tolist() == [2.0, 1.0]
    assert ranks.any(ranks.rank == 1, "cpu")
    assert not ranks.any(False, "cpu")
    assert ranks.told(f"from {ranks.rank}") == "from 0"
    layer = nn.Linear(2, 1)
    if ranks.first:
        (3.0 * layer.weight).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    ranks.add_gradients(layer.parameters())
    assert layer.weight.grad is not None
    assert layer.bias.grad is not None
    assert torch.equal(layer.weight.grad, torch.full((1, 2), 3.0))
    assert torch.equal(layer.bias.grad, torch.zeros(1))
    norm = nn.BatchNorm1d(3)
    norm(torch.randn(4, 3, generator=torch.Generator().manual_seed(ranks.rank)))
    ranks.share_buffers(norm)
    means = ranks.gather(norm.running_mean.unsqueeze(0) if norm.running_mean is not None else torch.empty(0))
    assert torch.equal(means[0], means[1])
    assert means.any()


def check_shares(ranks: Ranks) -> None:
    """Predict 1 to 17 records together and compare with one process."""
    images = torch.randint(256, (17, 8, 8, 1), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    spec = ImageSpec(size=8, channels=1, mean=0.5, std=0.5)
    batches = Batches.over(Resident(images=images, spec=spec, bad={}), Runtime())
    model = Plain().build(2, in_channels=1, image_size=(8, 8), seed=3)
    for count in range(1, 18):
        positions = np.arange(16, 16 - count, -1)
        begin, own = ranks.share(positions)
        np.testing.assert_array_equal(own, positions[begin : begin + len(own)])
        found = ranks.gather(forward(model, batches, own, batch_size=4))
        expected: Tensor = forward(model, batches, positions, batch_size=4)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


# Writing into the run's folder is for the first process alone.
def forbid_writing(folder: Path) -> None:
    def hook(event: str, args: tuple[Any, ...]) -> None:
        writing = event in {"os.rename", "os.remove"} or (event == "open" and set(str(args[1])) & set("wax+"))
        if writing and str(folder) in str(args[0]):
            print(f"{event} {args}", file=sys.stderr)
            raise PermissionError(args[0])

    sys.addaudithook(hook)


if __name__ == "__main__":
    task, folder, options = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    with joined("cpu") as ranks:
        if not ranks.first:
            forbid_writing(folder)
        if task == "primitives":
            primitives(ranks)
        train(folder, **options)
