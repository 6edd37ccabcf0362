"""What training costs on chest X-ray JPEGs, beside a plain PyTorch loop and Lightning, and what frozen features save.

    python benchmarks/training.py [DATA] [--part tuning] [--images 512] [--rounds 7] [--lightning PYTHON]
    python benchmarks/training.py [DATA] --part head [--records 5216] [--epochs 2]
    python benchmarks/training.py [DATA] --part equal [--records 600]

DATA, or the variable IMGCLS_TEST_DATA, names a folder with `chest_xray` and `weights/mobilenetv2_100.safetensors`.
Without `--part` all are done. Each writes its part of docs/results/training.json.

`tuning` fine-tunes resnet18 at 224 pixels, in batches of 32. The contenders have a process each and take turns, an
epoch each; what other work does to the machine falls on all. The plain loop and Lightning train in full precision,
which is their default, from two loader workers; imgcls chooses its settings itself; the bare loop has its batches in
memory and the same settings. Lightning needs an interpreter of its own, which `--lightning` names; without one it is
left out. The same processes tell what the checkpoints of an epoch cost, the last one and the best one.

`head` trains the head of mobilenetv2 at 160 pixels, 5 folds of 10 epochs: with its features on disk from an empty
folder, all included; and without, of which `--epochs` epochs are timed and multiplied, predictions not included.
`equal` trains fewer records both ways and compares all numbers of the two runs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import contenders as rivals  # type: ignore[import-not-found]  # beside this script
import numpy as np
import torch

RESULT = Path(__file__).parent.parent / "docs" / "results" / "training.json"

#: The training folder of the set, whose epoch a checkpoint is measured by.
WHOLE = 5216

FOLDS, EPOCHS = 5, 10
NAMES = {"plain": "PyTorch and timm, fp32", "lightning": "Lightning, defaults", "bare": "bare loop, batches in memory"}


def main() -> None:
    options = _options()
    known = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    for name in [options.part] if options.part else PARTS:
        found = PARTS[name](options)
        print(json.dumps({name: found}, indent=1), flush=True)
        known[name] = found | {"machine": _machine()}
        known["rows"] = [row for part in PARTS if part in known for row in known[part]["rows"]]
        RESULT.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("IMGCLS_TEST_DATA"))
    parser.add_argument("--part", choices=list(PARTS))
    parser.add_argument("--images", type=int, default=512, help="of an epoch of `tuning`")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--lightning", help="the interpreter of an environment with Lightning, torch and timm")
    parser.add_argument("--records", type=int, help=f"of `head` ({WHOLE}) and `equal` (600)")
    parser.add_argument("--epochs", type=int, default=2, help="of `head` that are timed without features on disk")
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the folder of the data, or set IMGCLS_TEST_DATA")
    options.data = Path(options.data).resolve()
    return options


def tuning(options: argparse.Namespace) -> dict[str, Any]:
    """Let the contenders take turns."""
    task: dict[str, Any] = {"root": str(options.data / "chest_xray"), "images": options.images + 64}
    trainer = rivals.trainer(task)
    train = trainer.folds()[0].train
    task["paths"] = [str(options.data / "chest_xray" / name) for name in trainer.data.ids[train].tolist()]
    task["labels"] = trainer.data.labels[train].tolist()
    if options.lightning is None:
        print("Lightning is left out: name an interpreter that has it with --lightning", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        started: dict[str, Any] = {}
        pythons = {"imgcls": sys.executable, "plain": sys.executable, "bare": sys.executable}
        if options.lightning is not None:
            pythons["lightning"] = options.lightning
        for name, python in pythons.items():
            started[name] = rivals.Process(name, task, Path(folder), python)
            task.setdefault("runtime", started[name].ready.get("runtime"))
        rounds = list(rivals.rates(started, options.rounds))
        for process in started.values():
            process.end()
    return _compared(rounds, task["runtime"], len(train))


def _compared(rounds: list[dict[str, float]], runtime: dict[str, Any], images: int) -> dict[str, Any]:
    ours = [found["imgcls"] for found in rounds]
    ratios = {name: [found["imgcls"] / found[name] for found in rounds] for name in NAMES if name in rounds[0]}
    what = f"Fine-tuning resnet18, {rivals.SIZE} pixels, images a second"
    rows = [
        {
            "what": what,
            "peer": f"{statistics.median(found[name] for found in rounds):.1f} ({NAMES[name]})",
            "imgcls": f"{statistics.median(ours):.1f} ({runtime['precision']})",
            "ratio": _spread(several),
        }
        for name, several in ratios.items()
    ]
    shares = [found["saving"] / (WHOLE / found["imgcls"]) for found in rounds]
    seconds = statistics.median(found["saving"] for found in rounds)
    rows.append(
        {
            "what": f"Checkpoints of an epoch of {WHOLE} images, share of its time",
            "peer": "",
            "imgcls": f"{seconds:.2f} s",
            "ratio": f"{100 * statistics.median(shares):.2f} % (at most {100 * max(shares):.2f} %)",
        }
    )
    return {"rows": rows, "rounds": rounds, "images": images, "runtime": runtime, "native_bf16": _native_bf16()}


def _spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _native_bf16() -> bool:
    info = Path("/proc/cpuinfo")
    flags = info.read_text(encoding="utf-8").split() if info.exists() else []
    return bool({"avx512_bf16", "amx_bf16"} & set(flags))


def head(options: argparse.Namespace) -> dict[str, Any]:
    """Time training of the head with features on disk and without."""
    records = options.records or WHOLE
    with _empty_cache() as cache:
        each = _epoch_seconds(options, records, cache / "uncached")  # builds the decoded store for both
        started = time.perf_counter()
        run = _frozen(options, records, out=cache / "cached", cache_features=True).fit()
        cached = time.perf_counter() - started
        learning = float(run.history["seconds"].sum())
    uncached = FOLDS * EPOCHS * statistics.median(each)
    row = {
        "what": f"Head of mobilenetv2, {records} images, {FOLDS} folds of {EPOCHS} epochs, seconds",
        "peer": f"{uncached:.0f} (without features on disk)",
        "imgcls": f"{cached:.1f}",
        "ratio": f"{uncached / cached:.1f}",
    }
    return {
        "rows": [row],
        "seconds": {"epoch without": [round(value, 2) for value in each], "cached": round(cached, 2)},
        "seconds of cached epochs, validation included": round(learning, 2),
    }


class _EnoughError(Exception):
    """Ends a training of which enough is known."""


def _epoch_seconds(options: argparse.Namespace, records: int, out: Path) -> list[float]:
    from imgcls.training.events import EpochEnd

    seconds: list[float] = []

    def hear(event: Any) -> None:
        if isinstance(event, EpochEnd):
            seconds.append(event.seconds)
            if len(seconds) == options.epochs:
                raise _EnoughError

    try:
        _frozen(options, records, out=out, cache_features=False, callbacks=[hear]).fit()
    except _EnoughError:
        return seconds
    raise AssertionError


def equal(options: argparse.Namespace) -> dict[str, Any]:
    """Compare all numbers of a run with features on disk and of one without."""
    records, runs, seconds = options.records or 600, {}, {}
    with _empty_cache() as cache:
        for caches in (False, True):
            started = time.perf_counter()
            runs[caches] = _frozen(options, records, out=cache / str(caches), cache_features=caches).fit().metrics
            seconds[caches] = time.perf_counter() - started
    values = [run["value"].to_numpy(dtype=float) for run in runs.values()]
    largest = float(np.nanmax(np.abs(values[0] - values[1])))
    row = {
        "what": f"The same, {records} images, largest difference of {len(values[0])} metrics",
        "peer": "",
        "imgcls": f"{largest:.1e}",
        "ratio": "",
    }
    return {"rows": [row], "seconds": {("cached" if key else "uncached"): value for key, value in seconds.items()}}


def _frozen(options: argparse.Namespace, records: int, **more: Any) -> Any:
    from imgcls import Dataset, Stage, Trainer

    group = r"(person\d+_[a-z]+|(?:NORMAL2-)?IM-\d+)"
    data = Dataset.from_folder(options.data / "chest_xray", group=group, positive="PNEUMONIA")
    assert data.splits is not None
    data = data.subset(np.flatnonzero(data.splits == "train"))
    file = options.data / "weights" / "mobilenetv2_100.safetensors"
    return Trainer(
        data if records >= len(data) else data.sample(records, seed=0),
        backbone={"name": "mobilenetv2_100", "weights": str(file), "options": {"pad_type": "same"}},
        test=None,
        splitter={"name": "stratified-group-kfold", "k": FOLDS},
        image={"size": 160},
        stages=[Stage(epochs=EPOCHS, train="head", lr=3e-3)],
        precision="fp32",
        **more,
    )


# Neither images nor features are there already.
@contextlib.contextmanager
def _empty_cache() -> Iterator[Path]:
    before = {name: value for name, value in os.environ.items() if name == "IMGCLS_CACHE"}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["IMGCLS_CACHE"] = str(Path(folder) / "cache")
        try:
            yield Path(folder)
        finally:
            del os.environ["IMGCLS_CACHE"]
            os.environ.update(before)


def _machine() -> str:
    bf16 = "bf16 in hardware" if _native_bf16() else "no bf16 in hardware"
    when = time.strftime("%Y-%m-%d")
    return f"{platform.machine()}, {os.cpu_count()} cores, {bf16}, torch {torch.__version__}, {when}"


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {"tuning": tuning, "head": head, "equal": equal}


if __name__ == "__main__":
    main()
