"""What opening, decoding and cutting batches cost, beside torchvision's ImageFolder and DataLoader and scikit-learn.

The images are chest X-rays enlarged to 1500 x 1500 JPEG, 90 % quality, in class folders, fitted to 224 x 224,
normalised, in batches of 32. Peer and imgcls take turns in one process; figures are medians of the rounds.

    python benchmarks/data.py DATA [--rounds 5] [--images 200] [--out docs/results/data.json]

DATA is a folder with `chest_xray/index.csv`. The records of the last part are files of a few bytes, which are
looked at but not opened.
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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import in_turn  # type: ignore[import-not-found]  # beside this script

SIZE, BATCH, LARGE = 224, 32, 1500

#: Processes whose median counts.
PROCESSES = 5

#: Epochs that are timed together where one takes a few milliseconds.
MANY = 20

#: Records of each size, ten a group.
SIZES = (10_000, 100_000, 1_000_000)


def main() -> None:
    options = _options()
    parts = {"epochs": epochs, "batches": batches, "records": records}
    if options.part:
        print(json.dumps(parts[options.part](options)))
        return
    found = {part: _middle([_child(part) for _ in range(PROCESSES)]) for part in ("epochs", "batches")}
    found["records"] = {str(count): _child("records", "--records", str(count)) for count in SIZES}
    machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    result = {"rows": _rows(found), **found, "machine": machine}
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


# Of several processes, since where memory happens to lie favours one side for the life of a process.
def _middle(runs: list[dict[str, Any]]) -> dict[str, Any]:
    medians = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    ours = [name for name in runs[0] if name != "peer" and isinstance(runs[0][name], float)]
    return medians | {"ratios_of_each_process": {name: [round(r[name] / r["peer"], 2) for r in runs] for name in ours}}


# A process of its own for each part, so that none finds the memory or the caches of another.
def _child(part: str, *more: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *sys.argv[1:], "--part", part, *more]
    found: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    print(f"{part} {' '.join(more)}: {found}", flush=True)
    return found


def _rows(found: dict[str, Any]) -> list[dict[str, str]]:
    million = found["records"]["1000000"]
    return [
        _row("First epoch, decoding included, images a second", found["epochs"], "first", "ImageFolder + DataLoader"),
        _row("Later epochs, images a second", found["epochs"], "later", "ImageFolder + DataLoader"),
        _row("Batches of bytes from the store, GB a second", found["batches"], "store", "copy of the same bytes"),
        {
            "what": "A million records in 100,000 groups: open, fingerprint, five stratified folds, seconds",
            "peer": f"{million['sklearn']:.1f} (StratifiedGroupKFold alone)",
            "imgcls": f"{million['open'] + million['fingerprint'] + million['split']:.1f}",
            "ratio": f"{million['sklearn'] / million['split']:.1f} (folds alone)",
        },
    ]


def _row(what: str, found: dict[str, Any], ours: str, peer: str) -> dict[str, str]:
    ratio = statistics.median(found["ratios_of_each_process"][ours])
    return {
        "what": what,
        "peer": f"{found['peer']:.4g} ({peer})",
        "imgcls": f"{found[ours]:.4g}",
        "ratio": f"{ratio:.2f}",
    }


def epochs(options: argparse.Namespace) -> dict[str, Any]:
    from imgcls.data.dataset import Dataset
    from imgcls.data.spec import ImageSpec
    from imgcls.runtime.batches import Batches, chunks
    from imgcls.runtime.device import Runtime
    from imgcls.runtime.sources import open_source

    chosen = _layout()
    with tempfile.TemporaryDirectory() as folder:
        root = _enlarged(options, Path(folder) / "images")
        loader = _peer(root, options.seed)
        order = np.random.default_rng(options.seed).permutation(options.images)

        def peer() -> None:
            for _ in loader:
                pass

        def first() -> None:
            os.environ["IMGCLS_CACHE"] = tempfile.mkdtemp(dir=folder)
            later(1)

        def later(times: int = MANY, *, runtime: Runtime = chosen) -> None:
            spec = ImageSpec(size=SIZE, mean="imagenet", std="imagenet")
            ready = Batches.over(open_source(Dataset.from_folder(root), spec), runtime)
            for _ in range(times):
                for _ in ready.each(chunks(order, BATCH)):
                    pass

        def planes() -> None:
            later(runtime=Runtime())

        first()
        peer()
        works = {"peer": peer, "first": first, "later": later, "planes": planes}
        seconds = in_turn(works, options.rounds)
        counts = {name: options.images * (MANY if name in {"later", "planes"} else 1) for name in works}
        rates = {name: round(counts[name] / seconds[name], 1) for name in works}
        return rates | {"images": options.images, "channels_last": chosen.channels_last}


# The memory layout that the Trainer takes for a resnet18 on this machine.
def _layout() -> Any:
    from imgcls.models.base import backbones
    from imgcls.runtime.device import choose_runtime

    model = backbones.create({"name": "resnet18", "pretrained": False}).build(2, image_size=(SIZE, SIZE))
    return choose_runtime(model, torch.rand(8, 3, SIZE, SIZE), device="cpu", precision="auto")


def _peer(root: Path, seed: int) -> Any:
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    steps = [transforms.Resize((SIZE, SIZE)), transforms.ToTensor()]
    steps.append(transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return DataLoader(
        ImageFolder(root, transforms.Compose(steps)),
        batch_size=BATCH,
        shuffle=True,
        num_workers=2,
        persistent_workers=True,
        generator=torch.Generator().manual_seed(seed),
    )


def _enlarged(options: argparse.Namespace, root: Path) -> Path:
    import pandas as pd
    from PIL import Image

    source = options.data / "chest_xray"
    index = pd.read_csv(source / "index.csv").sample(options.images, random_state=options.seed)
    for number, (name, label) in enumerate(zip(index["image"], index["label"], strict=True)):
        (root / label).mkdir(parents=True, exist_ok=True)
        with Image.open(source / name) as image:
            large = image.convert("RGB").resize((LARGE, LARGE), Image.Resampling.BICUBIC)
        large.save(root / label / f"{number:05d}.jpg", quality=90)
    return root


def batches(options: argparse.Namespace) -> dict[str, Any]:
    from imgcls.data.dataset import Dataset
    from imgcls.data.spec import ImageSpec
    from imgcls.runtime.batches import chunks
    from imgcls.runtime.sources import open_source

    count = 3000
    images = np.random.default_rng(options.seed).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["IMGCLS_CACHE"] = folder
        source = open_source(Dataset.from_arrays(images, np.arange(count) % 2), ImageSpec(size=SIZE))
        memory, elsewhere = torch.from_numpy(images), torch.zeros(images.shape, dtype=torch.uint8)
        parts = list(chunks(np.random.default_rng(options.seed).permutation(count), BATCH))

        def copy() -> None:
            elsewhere.copy_(memory)

        def store() -> None:
            for _ in source.each(parts):
                pass

        copy()
        store()
        seconds = in_turn({"peer": copy, "store": store}, 3 * options.rounds)
        return {name: round(images.nbytes / value / 1e9, 2) for name, value in seconds.items()}


def records(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        table = _many(options.records, Path(folder), options.seed)
        script = "import sys; from pathlib import Path; from data import opened; opened(Path(sys.argv[1]))"
        command = [sys.executable, "-c", script, str(table)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parent)
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def _many(count: int, root: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    owners = rng.integers(0, count // 10, count)
    kinds = rng.integers(0, 5, count // 10)
    lines = ["image,label,patient"]
    for number, owner in enumerate(owners.tolist()):
        name = f"{number // 1000:04d}/{number:07d}.jpg"
        if number % 1000 == 0:
            (root / f"{number // 1000:04d}").mkdir()
        (root / name).write_bytes(b"x" * (1 + number % 7))
        lines.append(f"{name},class {kinds[owner]},patient {owner:06d}")
    (root / "index.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "index.csv"


def opened(table: Path) -> None:
    from sklearn.model_selection import StratifiedGroupKFold

    from imgcls.data.dataset import Dataset
    from imgcls.splitting.kfold import StratifiedGroupKFold as Ours

    marks = [time.perf_counter()]
    data = Dataset.from_csv(table, group="patient")
    marks.append(time.perf_counter())
    _ = data.fingerprint
    marks.append(time.perf_counter())
    Ours(k=5).split(data, seed=0)
    marks.append(time.perf_counter())
    peak = int(Path("/proc/self/status").read_text(encoding="utf-8").split("VmHWM:")[1].split()[0]) / 2**20
    assert data.groups is not None
    for _ in StratifiedGroupKFold(5, shuffle=True, random_state=0).split(data.labels, data.labels, data.groups):
        pass
    marks.append(time.perf_counter())
    names = ("open", "fingerprint", "split", "sklearn")
    seconds = {name: round(end - start, 3) for name, start, end in zip(names, marks, marks[1:], strict=False)}
    print(json.dumps(seconds | {"gib": round(peak, 2)}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--records", type=int, default=SIZES[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--part", choices=["epochs", "batches", "records"])
    return parser.parse_args()


if __name__ == "__main__":
    os.environ["IMGCLS_QUIET"] = "1"
    main()
